import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from comfyui_mytalk.checkpoints import save_checkpoint
from comfyui_mytalk.errors import InputError
from comfyui_mytalk.speech.features import SpeechFeatures, load_speech_encoder, normalise_loudness
from comfyui_mytalk.speech.mel import MelEncoder, MelParams, MelPower

TINY = {
    "conv_dim": (8,) * 7,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 32,
}
PER_FRAME = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}


def tiny(model_class=Wav2Vec2Model, config_class=Wav2Vec2Config, **options):
    torch.manual_seed(0)
    return model_class(config_class(**TINY | options)).eval()


def noise(seconds, seed=0):
    return 0.1 * torch.randn(int(16000 * seconds), generator=torch.Generator().manual_seed(seed))


def syllables(seconds):
    """A buzz at 110 Hz through two moving resonances, three syllables a second: speech enough for a trained encoder."""
    time = torch.arange(int(16000 * seconds)) / 16000
    openness = 0.5 - 0.5 * torch.cos(2 * torch.pi * 3 * time)
    partials = torch.arange(1, 30)[:, None] * 110.0
    weight = 1 / (1 + ((partials - 300 - 500 * openness) / 100) ** 2) + 0.3 / (1 + ((partials - 1200) / 150) ** 2)
    return 0.2 * openness * (weight * torch.sin(2 * torch.pi * partials * time)).sum(0)


@pytest.fixture(scope="module")
def encoder():
    return SpeechFeatures(tiny(**PER_FRAME), "tiny", "")


@pytest.fixture(scope="module")
def shipped():
    return load_speech_encoder()


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(1, 6000))
def test_two_features_for_every_frame_that_has_begun(encoder, samples):
    assert encoder(torch.ones(samples)).shape == (2 * -(-samples // 640), 64)


@pytest.mark.parametrize("cell", [7, 24, 40])
def test_a_click_is_seen_by_the_feature_centred_on_it(encoder, cell):
    """Transformer left out: its attention sees everything, the convolutions decide what a feature is centred on."""
    quiet = torch.zeros(320 * 50 + 80)
    click = quiet.clone()
    click[40 + 320 * cell + 160] = 1.0
    difference = encoder.encoder.feature_extractor(click[None]) - encoder.encoder.feature_extractor(quiet[None])
    change = difference[0].abs().sum(0)
    assert change.shape == (50,) and change.argmax() == cell
    assert change[:cell].max() == 0 and change[cell + 1 :].max() == 0


@pytest.mark.parametrize("cell", [7, 24, 40])
def test_mel_features_are_centred_on_their_own_sound(cell):
    """Frame 2 i of the mel is centred on feature i; the convolutions look as far to the left as to the right."""
    torch.manual_seed(0)
    encoder = MelEncoder(MelParams(hidden_size=16, layers=0, heads=2, ffn=16)).eval()
    click = torch.zeros(1, 320 * 50 + 80)
    click[0, 40 + 320 * cell + 160] = 1.0
    power = encoder.power(click)[0].sum(1)
    assert len(power) == 99 and power.argmax() == 2 * cell
    assert encoder(click).last_hidden_state.shape == (1, 50, 16)


def test_a_tone_lights_its_mel_band_and_white_noise_all_alike():
    power = MelPower(80)
    tone = power(torch.sin(2 * torch.pi * 1000 * torch.arange(8000) / 16000)[None])[0].mean(0)
    assert tone.max() > 0.9 * tone.sum() / 3 and 20 < tone.argmax() < 35
    flat = power(torch.randn(1, 16000 * 20, generator=torch.Generator().manual_seed(0)))[0].mean(0)
    assert flat.min() > 0.8 and flat.max() < 1.2


def test_a_mel_checkpoint_is_the_encoder_that_was_saved(tmp_path):
    encoder = MelEncoder(MelParams(hidden_size=16, layers=1, heads=2, ffn=16)).eval()
    config = {"name": "mine", "dim": 16, "encoder": encoder.describe(), "window": 60, "overlap": 10}
    save_checkpoint(tmp_path / "mine.safetensors", encoder.state_dict(), "speech", config)
    loaded = load_speech_encoder(tmp_path / "mine.safetensors")
    speech = noise(1.0)
    assert loaded.dim == 16 and loaded.window == 60
    assert torch.equal(loaded(speech), SpeechFeatures(encoder, "mine", "", 60, 10)(speech))


def test_trained_features_turn_at_the_onset_of_speech_wherever_it_is(shipped):
    turns = []
    for onset in (30, 65):
        speech = torch.cat([torch.zeros(320 * onset), syllables(1.3)]) + 1e-3 * noise(onset / 50 + 1.3)
        distance = (features := shipped(speech)).sub(features[:20].mean(0)).norm(dim=1)
        turns.append(int((distance > 0.75 * distance[onset:].median()).float().argmax()) - onset)
    assert max(map(abs, turns)) <= 8 and abs(turns[0] - turns[1]) <= 3


@pytest.mark.parametrize("overlap", [10, 50])
def test_windows_cover_everything_once_their_weights_are_divided_out(overlap):
    class Counter(torch.nn.Module):
        def forward(self, speech):
            cells = speech[:, 40:-40].unfold(1, 320, 320).mean(2)
            return type("Output", (), {"last_hidden_state": cells[..., None].expand(-1, -1, 2)})

    counter = Counter()
    counter.config = Wav2Vec2Config(hidden_size=2)
    counter.anchor = torch.nn.Parameter(torch.zeros(1))
    long = SpeechFeatures(counter, "counter", "", window=100, overlap=overlap)
    whole = SpeechFeatures(counter, "counter", "", window=10**6, overlap=overlap)
    speech = noise(9.37)
    assert len(long.windows(470)) > 4
    assert torch.allclose(long(speech), whole(speech), atol=1e-5)


def test_long_speech_is_the_cross_fade_of_its_windows(encoder):
    model = SpeechFeatures(encoder.encoder, "tiny", "", window=100, overlap=20)
    speech = normalise_loudness(noise(3.6))
    padded = torch.nn.functional.pad(speech, (40, 40))
    first, second = model.encode(padded[: 100 * 320 + 80]), model.encode(padded[80 * 320 :])
    result = model(noise(3.6))
    rise = ((torch.arange(20) + 0.5) / 20)[:, None]
    assert model.windows(180) == [(0, 100), (80, 180)]
    assert torch.allclose(result[:80], first[:80], atol=1e-5) and torch.allclose(result[100:], second[20:], atol=1e-5)
    assert torch.allclose(result[80:100], first[80:] * (1 - rise) + second[:20] * rise, atol=1e-4)


def test_progress_counts_windows(encoder):
    calls = []
    SpeechFeatures(encoder.encoder, "tiny", "", window=50, overlap=10)(noise(3), progress=lambda *a: calls.append(a))
    assert calls == [(i + 1, len(calls)) for i in range(len(calls))] and len(calls) > 3


@pytest.mark.parametrize("gain", [1e-2, 0.3, 20.0])
def test_loudness_of_the_recording_does_not_matter(shipped, gain):
    speech = syllables(2.0)
    assert torch.allclose(shipped(speech), shipped(gain * speech), atol=2e-3)


def test_pauses_do_not_change_the_gain():
    speech = syllables(2.0)
    padded = torch.cat([speech, torch.zeros(16000 * 60)])
    assert torch.allclose(normalise_loudness(speech), normalise_loudness(padded)[: len(speech)], atol=0.02, rtol=0.02)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_one_broken_sample_does_not_silence_the_rest(broken):
    speech = syllables(1.0)
    speech[500] = broken
    heard = normalise_loudness(speech)
    assert heard.isfinite().all() and heard.std() > 0.5


@pytest.mark.parametrize("speech", [torch.zeros(16000), torch.full((16000,), 0.5), torch.full((700,), float("nan"))])
def test_silence_is_finite(shipped, speech):
    assert shipped(speech).isfinite().all()


def test_no_speech_is_an_error(encoder):
    for speech in (torch.zeros(0), torch.zeros(2, 1600)):
        with pytest.raises(InputError, match="expected one channel"):
            encoder(speech)


@pytest.mark.parametrize(
    "model_class, config_class",
    [(Wav2Vec2Model, Wav2Vec2Config), (HubertModel, HubertConfig), (WavLMModel, WavLMConfig)],
)
@pytest.mark.parametrize("options", [{}, PER_FRAME])
def test_a_folder_and_its_single_file_load_as_the_same_encoder(tmp_path, model_class, config_class, options):
    model = tiny(model_class, config_class, **options)
    model.save_pretrained(tmp_path / "mine")
    expected = SpeechFeatures(model, "", "")(noise(1))
    folder = load_speech_encoder(tmp_path / "mine")
    file = load_speech_encoder(tmp_path / "mine/model.safetensors")
    assert folder.name == "mine" and folder.dim == 64 and folder.sha256 == file.sha256
    assert torch.allclose(folder(noise(1)), expected, atol=1e-5)
    assert torch.allclose(file(noise(1)), expected, atol=1e-5)


def test_names_with_a_prefix_a_head_and_the_old_weight_norm_load(tmp_path):
    """As older files and ComfyUI's `models/audio_encoders` have them."""
    model = tiny(Wav2Vec2ForCTC)
    names = {
        "conv.parametrizations.weight.original0": "conv.weight_g",
        "conv.parametrizations.weight.original1": "conv.weight_v",
    }
    state = model.state_dict()
    for new, old in names.items():
        state = {name.replace(new, old): tensor.clone() for name, tensor in state.items()}
    assert any("weight_g" in name for name in state) and all(
        name.startswith(("wav2vec2.", "lm_head.")) for name in state
    )
    save_file(state, tmp_path / "english_fp16.safetensors")
    loaded = load_speech_encoder(tmp_path / "english_fp16.safetensors")
    assert torch.allclose(loaded(noise(1)), SpeechFeatures(model.wav2vec2, "", "")(noise(1)), atol=1e-5)


def test_the_shipped_checkpoint_is_small_and_says_what_it_is(shipped):
    assert shipped.name == "speech_small" and shipped.dim == 384 and len(shipped.sha256) == 64
    assert 4_000_000 < sum(p.numel() for p in shipped.encoder.parameters()) < 8_000_000
    assert not any(p.requires_grad for p in shipped.parameters()) and not shipped.encoder.training


def test_unknown_encoders_are_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="not found"):
        load_speech_encoder(tmp_path / "nothing")
    with pytest.raises(InputError, match="expected config.json"):
        load_speech_encoder(tmp_path)


def test_broken_encoders_are_one_clear_error(tmp_path):
    tiny().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({n: t for n, t in state.items() if "layers.1" not in n}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="lacks"):
        load_speech_encoder(tmp_path)
    tiny().save_pretrained(tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    for part in ("pos_conv", "layers.0.feed_forward"):  # which sizes are read from
        save_file({n: t for n, t in whole.items() if part not in n}, tmp_path / "single.safetensors")
        with pytest.raises(InputError, match="of no speech encoder"):
            load_speech_encoder(tmp_path / "single.safetensors")
    for text in ("{", "[]", json.dumps(TINY | {"hidden_size": 32})):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match="of no speech encoder"):
            load_speech_encoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(InputError, match="bert"):
        load_speech_encoder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not a checkpoint")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(InputError, match="cannot read"):
            load_speech_encoder(path)


def test_files_of_other_models_are_one_clear_error(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no wav2vec 2.0"):
        load_speech_encoder(tmp_path / "other.safetensors")
    save_checkpoint(tmp_path / "face.safetensors", {"weight": torch.zeros(2)}, "face", {})
    with pytest.raises(InputError, match="face weights"):
        load_speech_encoder(tmp_path / "face.safetensors")
