from contextlib import nullcontext

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.landmarks.canonical import canonical_face
from comfyui_mytalk.speech.features import load_speech_encoder
from comfyui_mytalk.training import speech
from comfyui_mytalk.training.augment_speech import augment, log_mel, stretch, warp_bands
from comfyui_mytalk.training.run import Run
from comfyui_mytalk.training.speech import best_score, mouth_loss, read_phones, train_speech
from comfyui_mytalk.training.speech_data import SpeechBatches, SpeechTraining, mel_of
from comfyui_mytalk.training.synthetic_speech import CLASS_NAMES, phone_classes, read_shards, write_shard
from tests.support.pretended_device import DEVICE, PretendedDevice

BILABIAL, OPEN = CLASS_NAMES.index("bilabial"), CLASS_NAMES.index("open")


def halves(seconds=4):
    """Silence, then noise: labels and sound change at the same moment."""
    count = seconds * 50
    labels = np.repeat([0, OPEN], count // 2).astype(np.uint8)
    noise = np.random.default_rng(0).normal(size=count * 320) * 3000
    return (noise * np.repeat(labels > 0, 320)).astype(np.int16), labels, "en+m1"


def write_clip(path, split):
    """A face whose mouth opens with a voice of 4 Hz, in the format of prepared clips."""
    times = torch.arange(50, dtype=torch.float64) / 25
    wave = torch.sin(2 * torch.pi * 4 * times).float()
    face = torch.cat([canonical_face(), canonical_face()[:10]]) * torch.tensor([1.0, -1.0, -1.0]) * 10 + 128
    points = face.repeat(50, 1, 1)
    points[:, 14, 1] += 5 + 5 * wave
    points[:, 17, 1] += 5 * wave
    loud = (1 + torch.sin(2 * torch.pi * 4 * torch.arange(32000) / 16000)) * torch.randn(32000) * 3000
    tensors = {"points": points, "found": torch.ones(50, dtype=torch.bool), "times": times, "speech": loud.short()}
    tensors |= {"crop_transform": torch.zeros(50, 2, 3), "crop_offsets": torch.zeros(51, dtype=torch.int64)}
    metadata = {"format": "mytalk-prepared", "split": split, "corpus": "made", "identity": "made", "fps": "25"}
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    "ipa, names",
    [
        ("p", ["bilabial"]),
        ("mʲ", ["bilabial"]),
        ("tʃ", ["postalveolar"]),
        ("aɪ", ["open", "close front"]),
        ("ɐ̃ʊ̃", ["open", "close rounded"]),
        ("uː", ["close rounded"]),
        ("(en)", []),
        ("", []),
    ],
)
def test_phones_fall_into_classes_by_their_look(ipa, names):
    assert [CLASS_NAMES[index] for index in phone_classes(ipa)] == names


def test_shards_keep_utterances_apart(tmp_path):
    write_shard(tmp_path / "train_000.safetensors", [halves(2), halves(4)])
    (shard,) = read_shards(tmp_path, "train")
    audio, labels = shard.utterance(1)
    assert len(shard) == 2 and len(audio) == 64000 and (labels == halves(4)[1]).all()
    assert np.abs(audio - halves(4)[0] / 32768).max() == 0
    with pytest.raises(InputError, match="synthesise_speech"):
        read_shards(tmp_path, "voices")


def test_labels_stay_on_their_sound_when_a_crop_is_stretched(tmp_path):
    write_shard(tmp_path / "train_000.safetensors", [halves()])
    shards = read_shards(tmp_path, "train")
    options = SpeechTraining(real_per_batch=0, synthetic_per_batch=1, strength=0.5)
    batches = SpeechBatches([], shards, options)
    batches._record = lambda mel, rng: mel
    for seed in range(12):
        mel, phones, _, _ = batches.draw(np.random.default_rng(seed))
        power = mel[0, ::2].mean(1)
        sounds = power > 0.3 * power.median().clamp(min=0.1)
        assert (sounds != (phones[0] == OPEN)).sum() <= 2


def test_augmentation_is_repeatable_finite_and_does_not_move_a_sound():
    click = np.full((200, 80), 1e-6, np.float32)
    click[100:104] = 1.0
    for seed in range(20):
        result = augment(click, click[::-1], np.random.default_rng(seed))
        again = augment(click, click[::-1], np.random.default_rng(seed))
        assert np.isfinite(result).all() and result.shape == click.shape and (result == again).all()
        assert np.isfinite(log_mel(result, np.random.default_rng(seed))).all()
    loudest = [int(augment(click, click[:0], np.random.default_rng(s), 0.6).sum(1).argmax()) for s in range(30)]
    assert abs(np.median(loudest) - 101.5) < 3


def test_a_warp_raises_a_tone_and_keeps_its_power_near():
    tone = torch.sin(2 * torch.pi * 800 * torch.arange(16000) / 16000)
    higher = mel_of(torch.sin(2 * torch.pi * 960 * torch.arange(16000) / 16000))[50].argmax()
    assert abs(int(warp_bands(mel_of(tone).astype(np.float32), 1.2)[50].argmax()) - int(higher)) <= 1


def test_stretching_reads_between_frames_and_is_silent_outside():
    mel = np.arange(10, dtype=np.float32)[:, None].repeat(3, 1)
    assert np.allclose(stretch(mel, np.array([2.5, 7.25]))[:, 0], [2.5, 7.25], atol=1e-4)
    assert stretch(mel + 1, np.array([-5.0, 20.0])).max() < 0.1


def test_the_mouth_loss_ignores_the_mean_and_unknown_frames():
    target = torch.randn(2, 40, 9)
    known = torch.ones(2, 40, dtype=torch.bool)
    known[:, 30:] = False
    shifted = target + 3.0
    shifted[:, 30:] += torch.randn(2, 10, 9)
    assert mouth_loss(shifted, target, known) < 1e-3
    assert mouth_loss(-target, target, known) > 0.5


@pytest.fixture
def material(tmp_path):
    """Folders of prepared clips and of shards."""
    for split in ("train", "val"):
        write_clip(tmp_path / f"{split}__made.safetensors", split)
    for split in ("train", "voices", "languages"):
        write_shard(tmp_path / f"{split}_000.safetensors", [halves()])
    prepared, shards = tmp_path / "prepared", tmp_path / "shards"
    for folder, pattern in ((prepared, "*__*"), (shards, "*_000*")):
        folder.mkdir()
        for file in list(tmp_path.glob(pattern)):
            file.rename(folder / file.name)
    return prepared, shards


SHORT = SpeechTraining(real_per_batch=1, synthetic_per_batch=1, length=32)


def test_a_short_training_writes_a_checkpoint_that_loads(material, tmp_path):
    train_speech(*material, Run(tmp_path / "run"), 3, options=SHORT, output=tmp_path / "mine.safetensors")
    encoder = load_speech_encoder(tmp_path / "mine.safetensors")
    assert encoder(torch.randn(16000)).shape == (50, 256) and encoder.name == "mine"
    assert "opening_made" in (tmp_path / "run/log.csv").read_text()


def test_weights_are_chosen_though_a_clip_for_validation_stands_still(material, tmp_path):
    """Its correlation was not a number, nor was the score then, which is no better than none: no weights at all."""
    clip = material[0] / "val__made.safetensors"
    tensors = load_file(clip)
    tensors["points"] = tensors["points"][:1].repeat(50, 1, 1)
    with safe_open(clip, "pt") as file:
        metadata = file.metadata()
    save_file(tensors, clip, metadata)
    train_speech(*material, Run(tmp_path / "run"), 1, options=SHORT, output=tmp_path / "mine.safetensors")
    assert (tmp_path / "mine.safetensors").is_file()


def test_clips_that_the_weights_are_chosen_by_are_moved_too(material, tmp_path, monkeypatch):
    """A mouth that is right counted as late where the film is known to be."""
    first = []
    monkeypatch.setattr(speech, "validate", lambda *args: first.append(args[2][0].times[0]) or {})
    monkeypatch.setattr(speech, "score_of", lambda _: 0.0)
    for name, offsets in (("still", None), ("moved", {"train__made": 0.1, "val__made": 0.2})):
        train_speech(*material, Run(tmp_path / name), 1, options=SHORT, offsets=offsets)
    assert first == pytest.approx([0.0, 0.2])


def test_a_resumed_run_keeps_better_weights_than_it_finds(material, tmp_path, monkeypatch):
    output, steps = tmp_path / "mine.safetensors", iter(range(1, 9))

    def go_on(*scores):
        """The weights after so many further checks with these scores."""
        found = iter(scores)
        monkeypatch.setattr(speech, "validate", lambda *_: {"accuracy_voices": 0.5, "opening_mean": next(found)})
        for _ in scores:
            train_speech(*material, Run(tmp_path / "run"), next(steps), options=SHORT, output=output)
        return output.read_bytes()

    best = go_on(0.2, 0.4)
    assert go_on(0.1) == best and go_on(float("nan"), 0.3) == best
    assert go_on(0.41) != best
    output.unlink()
    assert go_on(0.1), "what is not there any more is no better"


def test_the_best_of_a_log_is_that_of_its_checks():
    rows = [{"loss": "3.1", "accuracy_voices": ""}, {"accuracy_voices": "0.5", "opening_mean": "0.25"}, {"loss": "1"}]
    assert best_score(rows) == 0.75 and best_score(rows[:1]) == -float("inf")
    assert best_score([*rows, {"accuracy_voices": "0.9", "opening_mean": "nan"}]) == 0.75


def test_it_trains_on_a_device(material, tmp_path, monkeypatch):
    kinds = []
    monkeypatch.setattr(torch, "autocast", lambda kind, *_, **__: kinds.append(kind) or nullcontext())  # it has none
    with PretendedDevice() as device:
        train_speech(*material, Run(tmp_path), 1, options=SHORT, output=tmp_path / "x.safetensors", device=DEVICE)
    assert device.runs > 100 and kinds == ["pretended"]
    assert load_speech_encoder(tmp_path / "x.safetensors")(torch.randn(16000)).isfinite().all()


@pytest.mark.parametrize("content", [None, "no json", "[]", '{"a": 1}', '{"a": ["x"]}'])
def test_phones_that_cannot_be_read_are_one_clear_error(tmp_path, content):
    if content is not None:
        (tmp_path / "phones.json").write_text(content)
    with pytest.raises(InputError, match=r"cannot read the phones .*phones\.json"):
        read_phones(str(tmp_path / "phones.json"))
