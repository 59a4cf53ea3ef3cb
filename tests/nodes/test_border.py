"""What other packs really send, and what the host really does."""

from __future__ import annotations

import math
import re
import weakref
from fractions import Fraction
from typing import Any

import pytest
import torch
from tiny import LazyAudio


@pytest.fixture
def models(host):
    return host.module("nodes.models")


@pytest.fixture
def work(host):
    return host.module("nodes.progress")


@pytest.fixture
def media(host):
    return host.module("nodes.media")


def test_audio_may_be_any_mapping(media) -> None:
    audio = media.read_audio(LazyAudio(torch.full((1, 2, 100), 0.25), 44_100))
    assert audio.waveform.shape == (2, 100) and audio.sample_rate == 44_100


@pytest.mark.parametrize("kind", [torch.int16, torch.int32])
def test_integer_samples_become_fractions_of_full_scale(media, kind: torch.dtype) -> None:
    half = torch.full((1, 1, 10), torch.iinfo(kind).max // 2, dtype=kind)
    assert media.read_audio({"waveform": half, "sample_rate": 8000}).waveform.mean().item() == pytest.approx(
        0.5, abs=1e-4
    )


def test_half_precision_audio_is_read_as_float32(media) -> None:
    assert (
        media.read_audio({"waveform": torch.zeros(1, 1, 10).half(), "sample_rate": 8000}).waveform.dtype
        == torch.float32
    )


@pytest.mark.parametrize("audio", [None, {"waveform": torch.zeros(1, 1, 0), "sample_rate": 16_000}])
def test_no_sound_is_one_clear_line(media, audio) -> None:
    with pytest.raises(ValueError, match="^audio: got .*expected") as error:
        media.read_audio(audio)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (8, 8, 3), (2, 8, 8, 1)])
def test_wrong_images_are_one_clear_line(media, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="^images: got shape"):
        media.read_images(torch.zeros(shape))


@pytest.mark.parametrize("sounds", [0, 2])
def test_several_sounds_at_once_are_refused(media, sounds: int) -> None:
    """A batch of a text-to-speech node: which of them should be said?"""
    with pytest.raises(ValueError, match=f"^audio: got {sounds} sounds at once, expected one"):
        media.read_audio({"waveform": torch.zeros(sounds, 1, 800), "sample_rate": 16_000})


@pytest.mark.parametrize("sample", [math.nan, math.inf, -math.inf])
def test_sound_that_overflowed_is_refused(media, sample: float) -> None:
    """What a text-to-speech model in float16 may give: it would be a mouth at rest, and no film could be saved."""
    waveform = torch.zeros(1, 2, 800)
    waveform[0, 1, 700] = sample
    with pytest.raises(ValueError, match="^source_audio: got samples that are no numbers"):
        media.read_audio({"waveform": waveform, "sample_rate": 16_000}, "source_audio")


@pytest.mark.parametrize("audio", [torch.zeros(8000), {"waveform": torch.zeros(1, 1, 8000), "sample_rate": "fast"}])
def test_what_is_no_sound_is_refused(media, audio: object) -> None:
    with pytest.raises(ValueError, match="^audio: got .*, expected sound"):
        media.read_audio(audio)


@pytest.mark.parametrize("fps", [0.0, -25.0, float("nan"), float("inf"), 1e-6, 1e6])
def test_rates_that_no_clip_has_are_refused_by_every_node(host, clip, fps: float) -> None:
    """A link brings any number, whatever the widget allows."""
    given = {
        "MyTalkLipSync": {"images": clip.images, "audio": clip.audio},
        "MyTalkFitVideoToSpeech": {"images": clip.images, "audio": clip.audio},
        "MyTalkExtractDenseLandmarks": {"images": clip.images},
        "MyTalkLoadSpeech": {"audio": clip.audio},
        "MyTalkScore": {"frames": clip.images, "source": clip.images, "track": clip.track, "audio": clip.audio},
    }
    asked = {node for node, kind in host.nodes.items() if "fps" in [i.id for i in kind.GET_SCHEMA().inputs]}
    assert asked == set(given)
    for node, inputs in given.items():
        with pytest.raises(ValueError, match=re.escape(f"fps: got {fps:g} frames per second")):
            host.run(node, **inputs, fps=fps)


def test_a_film_without_a_rate_is_refused_under_its_own_name(media) -> None:
    from tiny import Film

    with pytest.raises(ValueError, match="^images: got 0 frames per second"):
        media.read_clip(Film(torch.zeros(2, 8, 8, 3), Fraction(0)), 25.0)


def test_halving_does_every_frame_once_in_order(host, work) -> None:
    done, asked = [], []

    def run(part: slice) -> None:
        asked.append(part.stop - part.start)
        if part.stop - part.start > 2:
            raise host.management.OOM_EXCEPTION("too many")
        done.extend(range(part.start, part.stop))

    work.halving(run, 11, 8)
    assert done == list(range(11)) and asked[:3] == [8, 4, 2]


def test_out_of_memory_with_one_frame_is_raised(host, work) -> None:
    def run(part: slice) -> None:
        raise host.management.OOM_EXCEPTION("never enough")

    with pytest.raises(host.management.OOM_EXCEPTION):
        work.halving(run, 3, 4)


def test_cancel_stops_the_next_report(host, work) -> None:
    progress = work.Progress()
    progress(0, 10)
    host.management.interrupt_current_processing(True)
    with pytest.raises(host.management.InterruptProcessingException):
        progress(1, 10)
    progress(2, 10)  # the flag is used up: the next run is not cancelled


class Bar:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.previews: list[tuple] = []

    def update_absolute(self, value: int, total: int, preview: tuple | None = None) -> None:
        self.seen.append((value, total))
        self.previews += [preview] if preview else []


def test_progress_of_stages_adds_up_to_the_whole(work) -> None:
    whole = work.Progress(Bar())
    whole.part(0.0, 0.5)(5, 5)
    whole.part(0.5, 1.0)(1, 2)
    whole.part(0.5, 1.0).part(0.5, 1.0)(2, 2)
    assert whole.bar.seen == [(500, 1000), (750, 1000), (1000, 1000)]


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.uint8])
def test_previews_are_few_and_small_pictures_of_what_was_done(work, kind: torch.dtype) -> None:
    shades = torch.arange(200, dtype=torch.uint8)
    frames = shades.view(-1, 1, 1, 1).expand(-1, 900, 1600, 4)
    stage = work.Progress(Bar()).showing(lambda i: frames[i] if kind == torch.uint8 else frames[i].to(kind) / 255)
    for done in range(1, 201):
        stage(done, 200)
    assert len(stage.bar.previews) == work.PREVIEWS
    form, picture, side = stage.bar.previews[1]
    assert (form, picture.mode, side) == ("JPEG", "RGB", work.PREVIEW_SIDE)
    assert max(picture.size) < 2 * side and picture.getpixel((0, 0)) == (19, 19, 19)


def test_sound_of_two_channels_taking_turns_is_taken_apart(media) -> None:
    """What hosts before 0.13 make of the PCM sound of a video, and what only looks like it."""
    from tiny import tones

    left = (tones(0.5)[0] * 20_000).short()
    for share in (1.0, 0.8):
        right = (left * share).short()
        turns = torch.stack([left, right], 1).view(1, 1, -1)
        found = media.read_audio({"waveform": turns, "sample_rate": 16_000})
        assert found.waveform.shape == (2, 8000) and torch.equal((found.waveform[0] * 2**15).short(), left)
    for other in (left.view(1, 1, -1), torch.stack([left, right])[None], torch.zeros(1, 1, 100, dtype=torch.int16)):
        found = media.read_audio({"waveform": other, "sample_rate": 16_000})
        assert found.waveform.shape == other.shape[1:]


def test_weights_are_found_in_the_hosts_folder(host, models) -> None:
    from tiny import NAMES

    assert NAMES["motion"] in models.model_names("motion")
    assert models.model_path("motion", NAMES["motion"]).parent == host.base / "models" / "mytalk"


def test_speech_encoders_of_the_host_and_folders_are_offered(host, models) -> None:
    (host.base / "models/mytalk/wav2vec2-base").mkdir(exist_ok=True)
    (host.base / "models/mytalk/wav2vec2-base/config.json").write_text("{}")
    (host.base / "models/audio_encoders/hubert_fp16.safetensors").touch()
    (host.base / "models/audio_encoders/pickled.pt").touch()
    offered = models.speech_encoder_names()
    assert {"speech_small", "wav2vec2-base", "hubert_fp16.safetensors"} <= set(offered)
    assert "pickled.pt" not in offered, "nothing could read it"
    assert "pickled.pt" in host.method("MyTalkWav2VecFeatures", "validate_inputs")(encoder="pickled.pt")
    assert models.model_path("speech", "wav2vec2-base").is_dir()


@pytest.mark.parametrize(
    ("node_id", "name"),
    [
        ("MyTalkWav2VecFeatures", "encoder"),
        ("MyTalkIdentityEmbed", "model"),
        ("MyTalkLandmarkDiffusionSampler", "model"),
        ("MyTalkAppearanceVAE", "model"),
        ("MyTalkLipSync", "motion_model"),
    ],
)
def test_missing_weights_are_known_before_anything_runs(host, node_id: str, name: str) -> None:
    found = host.method(node_id, "validate_inputs")(**{name: "no_such_model"})
    assert "no_such_model.safetensors" in found and str(host.base / "models" / "mytalk") in found
    assert host.method(node_id, "validate_inputs")(**{name: None}) is True, "a linked input arrives as None"


def test_a_network_is_loaded_once_and_again_when_its_file_changes(host, models) -> None:
    from tiny import NAMES

    loads = []

    def load(path: str) -> torch.nn.Module:
        loads.append(path)
        return torch.nn.Linear(1, 1)

    path = models.model_path("motion", NAMES["motion"])
    kept = dict(models._networks)
    try:
        models._networks.clear()
        first = models.network("motion", NAMES["motion"], load)
        assert models.network("motion", NAMES["motion"], load) is first and len(loads) == 1
        stat = path.stat()
        import os

        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        assert models.network("motion", NAMES["motion"], load) is not first
    finally:
        models._networks.clear()
        models._networks.update(kept)


def test_a_smaller_batch_is_tried_down_to_the_least(host, work) -> None:
    asked = []

    def run(batch: int) -> str:
        asked.append(batch)
        if batch > 8:
            raise host.management.OOM_EXCEPTION("too many")
        return "done"

    assert work.retrying(run, 32, least=8) == "done" and asked == [32, 16, 8]
    with pytest.raises(host.management.OOM_EXCEPTION):
        work.retrying(run, 32, least=16)


@pytest.mark.parametrize("way", ["halving", "retrying"])
def test_memory_is_given_back_once_the_failed_has_let_go(host, work, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Within the `except` block the traceback still holds every tensor of the batch that did not fit."""
    held, alive = [], []
    monkeypatch.setattr(host.management, "soft_empty_cache", lambda: alive.append(held[-1]() is not None))

    def run(batch: Any) -> None:
        size = batch if isinstance(batch, int) else batch.stop - batch.start
        tensor = torch.zeros(size)
        held.append(weakref.ref(tensor))
        if size > 1:
            raise host.management.OOM_EXCEPTION("too many")

    work.halving(run, 4, 4) if way == "halving" else work.retrying(run, 4)
    assert alive == [False, False]


def test_memory_that_never_suffices_is_the_hosts_own_error(host, work) -> None:
    error = host.management.OOM_EXCEPTION("never enough")

    def run(batch: Any) -> None:
        raise error

    for way in (lambda: work.halving(run, 3, 4), lambda: work.retrying(run, 4)):
        with pytest.raises(host.management.OOM_EXCEPTION) as caught:
            way()
        assert caught.value is error
