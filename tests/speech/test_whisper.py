"""The Whisper encoder against Hugging Face's, which pads to a fixed length and never lets go of its last layer norm."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder as TheirEncoder

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.speech.features import load_speech_encoder
from comfyui_mytalk.speech.whisper import WhisperEncoder, WhisperParams, from_hugging_face

SECONDS = 4
POSITIONS = 50 * SECONDS


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=128,
        encoder_layers=2,
        encoder_attention_heads=2,
        encoder_ffn_dim=96,
        num_mel_bins=80,
        max_source_positions=POSITIONS,
    )
    encoder = TheirEncoder(config).eval()
    for parameter in encoder.parameters():  # fresh norms and biases would hide a mix-up
        parameter.data += 0.02 * torch.randn_like(parameter)
    return encoder


@pytest.fixture
def window():
    return torch.randn(1, 320 * POSITIONS + 80, generator=torch.Generator().manual_seed(1))


def named(encoder, prefix="model.encoder."):
    return {prefix + name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def test_log_mel_is_whispers_with_frames_centred_on_ours(window):
    extract = WhisperFeatureExtractor(chunk_length=SECONDS)
    expected = extract(window[0, 200:].numpy(), sampling_rate=16000, return_tensors="pt").input_features
    found = WhisperEncoder(WhisperParams(layers=1)).log_mel(window)
    assert found.shape == expected.shape
    assert torch.allclose(found[..., 5:-5], expected[..., 5:-5], atol=1e-4)  # ends are reflected there, silent here


@torch.inference_mode()
def test_a_full_window_is_encoded_as_by_hugging_face(theirs, window):
    ours = from_hugging_face(named(theirs))
    expected = theirs(ours.log_mel(window)).last_hidden_state
    assert torch.allclose(theirs.layer_norm(ours(window).last_hidden_state), expected, atol=1e-4)


@torch.inference_mode()
def test_fewer_blocks_are_the_hidden_states_of_the_whole(theirs, window):
    ours = from_hugging_face(named(theirs), layers=1, scale=2.0)
    hidden = theirs(ours.log_mel(window), output_hidden_states=True).hidden_states
    assert torch.allclose(2.0 * ours(window).last_hidden_state, hidden[1], atol=1e-4)


@torch.inference_mode()
def test_short_speech_takes_the_first_or_the_last_positions(theirs):
    short = torch.randn(1, 320 * 30 + 80)
    begins, ends = (from_hugging_face(named(theirs), last=last) for last in (False, True))
    assert not torch.allclose(begins(short).last_hidden_state, ends(short).last_hidden_state)
    begins.positions.data[:30] = ends.positions[-30:]
    assert torch.allclose(begins(short).last_hidden_state, ends(short).last_hidden_state)


def test_a_window_longer_than_the_positions_is_an_error(theirs):
    with pytest.raises(InputError, match="at most the encoder's 200"):
        from_hugging_face(named(theirs))(torch.randn(1, 320 * (POSITIONS + 2) + 80))


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_users_own_whisper_is_read_whatever_its_size_and_cut_into_its_windows(theirs, tmp_path, kind):
    state = named(theirs) | {"model.decoder.embed_tokens.weight": torch.zeros(3, 3)}
    if kind == "folder":
        save_file(state, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
        speech = load_speech_encoder(tmp_path)
    else:
        save_file(state, tmp_path / "whisper_own.safetensors")
        speech = load_speech_encoder(tmp_path / "whisper_own.safetensors")
    assert speech.dim == 128 and speech.window == POSITIONS
    assert speech(torch.randn(16000 * 6)).shape == (300, 128)


def test_a_whisper_with_a_missing_tensor_is_an_error_that_names_it(theirs, tmp_path):
    state = named(theirs)
    del state["model.encoder.layers.1.fc2.weight"]
    save_file(state, tmp_path / "broken.safetensors")
    with pytest.raises(InputError, match="layers.1.fc2.weight"):
        load_speech_encoder(tmp_path / "broken.safetensors")
