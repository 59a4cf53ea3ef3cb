"""Scores of videos that differ from their source in a known way."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from scipy.ndimage import gaussian_filter

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.clips import Clip
from comfyui_mytalk.evaluation.methods import folds
from comfyui_mytalk.evaluation.outputs import find_output, read_output
from comfyui_mytalk.evaluation.score import (
    Judges,
    compare_crops,
    identical_outside,
    score,
    score_motion,
    score_pictures,
)
from comfyui_mytalk.evaluation.sync_score import TOO_SHORT
from comfyui_mytalk.evaluation.talks import (
    PAIRED,
    RECONSTRUCTION,
    UNPAIRED,
    Case,
    Talk,
    aligned_crops,
    make_case,
    on_motion_grid,
    partners,
)
from comfyui_mytalk.geometry import geometry
from comfyui_mytalk.speech.audio import Audio, fit_audio
from comfyui_mytalk.video.writer import VideoWriter


@pytest.fixture(scope="module")
def case(talk: Talk) -> Case:
    return make_case(PAIRED, talk, talk)


@pytest.fixture(scope="module")
def mask(talk: Talk) -> torch.Tensor:
    return geometry(talk.track).mask(256)


def test_a_video_against_itself(case: Case, mask: torch.Tensor) -> None:
    pictures = score_pictures(case, aligned_crops(case.frames, case.talk.track), mask)
    same = dict.fromkeys(("ssim", "ssim_mouth", "sharpness", "seam", "flicker"), 1.0)
    assert pictures == pytest.approx(same | {"psnr": 100, "psnr_mouth": 100}, abs=1e-4)
    motion, _ = score_motion(case, case.talk.track)
    assert motion["lag_frames"] == motion["lip_distance_cm"] == 0
    assert [motion[name] for name in ("opening_correlation", "articulation", "jerk")] == pytest.approx([1, 1, 1])


def test_blur_and_noise_show_in_the_picture_figures(case: Case, mask: torch.Tensor) -> None:
    blurred = torch.from_numpy(gaussian_filter(case.frames.numpy(), (0, 1.5, 1.5, 0)))
    noise = torch.randint(-20, 21, case.frames.shape, generator=torch.Generator().manual_seed(0))
    noisy = (case.frames.int() + noise).clamp(0, 255).byte()
    soft, rough = (score_pictures(case, aligned_crops(x, case.talk.track), mask) for x in (blurred, noisy))
    assert soft["sharpness"] < 0.3 and rough["sharpness"] > 1.5
    assert 20 < rough["psnr_mouth"] < 35 and rough["ssim_mouth"] < 0.95
    assert rough["flicker"] > 1.5
    assert identical_outside(case, case.frames, mask) == 1 and identical_outside(case, noisy, mask) < 0.1
    assert identical_outside(case, torch.cat([case.frames[:-1], noisy[-1:]]), mask) < 0.9, "the worst stretch counts"


def test_the_mouth_box_is_the_mouth_alone(case: Case, mask: torch.Tensor) -> None:
    made, truth = case.crops[:1].clone(), case.crops[:1]
    made[..., :60, :] = 0
    figures = compare_crops(made, truth, mask[:1], True, False)
    assert figures["psnr_mouth"] == 100 and figures["ssim_mouth"] > 0.9999 and figures["psnr"] < 30


def late(talk: Talk, frames: int) -> Talk:
    return replace(talk, track=talk.track.replace(points=talk.track.points.roll(frames, 0)))


def test_a_mouth_five_frames_late_has_lag_five(case: Case) -> None:
    motion, _ = score_motion(case, late(case.talk, 5).track)
    assert motion["lag_frames"] == 5
    assert motion["best_lag_correlation"] > motion["opening_correlation"]


def test_frames_of_a_varying_rate_are_compared_at_their_times(
    case: Case, mask: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was painted is given without times, and a perfect copy counted as early here and late there."""
    times = torch.linspace(0, 1, len(case.talk), dtype=torch.float64).square()
    source = case.talk.track.replace(times=times)
    film = replace(case, talk=replace(case.talk, track=source), speaker=replace(case.speaker, track=source))
    detected = source.replace(times=torch.linspace(0, 1, len(times), dtype=torch.float64))
    monkeypatch.setattr("comfyui_mytalk.evaluation.score.same_person", lambda *_: 1.0)
    seen = []
    judge = SimpleNamespace(score=lambda _, times, *__: seen.append(times) or TOO_SHORT)
    judges = Judges(SimpleNamespace(), SimpleNamespace(), judge)
    monkeypatch.setattr(Judges, "track", lambda *_: detected)
    figures = score(film, film.frames.clone(), mask, judges).figures
    assert figures["opening_correlation"] == pytest.approx(1) and figures["lip_distance_cm"] == 0
    assert torch.equal(seen[0], times)


def test_only_faces_that_the_source_shows_can_be_lost(
    case: Case, mask: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = torch.arange(len(case.talk)) >= 10
    source = case.talk.track.replace(found=found, filled=None)
    film = replace(case, talk=replace(case.talk, track=source), speaker=replace(case.speaker, track=source))
    monkeypatch.setattr("comfyui_mytalk.evaluation.score.same_person", lambda *_: 1.0)
    monkeypatch.setattr(Judges, "track", lambda *_: source.replace(found=torch.arange(len(found)) >= 15))
    figures = score(film, film.frames.clone(), mask, Judges(SimpleNamespace(), SimpleNamespace())).figures
    assert figures["face_lost"] == 0.5


def test_unpaired_is_measured_against_the_speaker_and_leak_against_the_source(case: Case) -> None:
    speaker = late(case.talk, 5)
    unpaired = Case(UNPAIRED, case.talk, speaker, case.frames)
    faithful, _ = score_motion(unpaired, speaker.track)
    leaking, _ = score_motion(unpaired, case.talk.track)
    assert (faithful["opening_correlation"], leaking["leak"]) == pytest.approx((1, 1))
    assert faithful["leak"] < 0.9 and leaking["opening_correlation"] < 0.9
    assert leaking["lag_frames"] == -5
    assert math.isnan(faithful["lip_distance_cm"]), "two faces differ anyhow"


def test_every_frame_rate_is_measured_at_25_fps(talk: Talk) -> None:
    slow = replace(talk.track, times=talk.track.times * 2)  # 12.5 fps
    points, seen = on_motion_grid(slow)
    assert len(points) == len(seen) == 2 * len(talk) and seen.all()
    torch.testing.assert_close(points[::2], on_motion_grid(talk.track)[0], atol=1e-4, rtol=0)


def test_frames_without_a_face_are_not_measured(talk: Talk) -> None:
    found = talk.track.found.clone()
    found[8:12] = False
    _, seen = on_motion_grid(talk.track.replace(found=found, filled=None))
    assert (~seen).nonzero()[:, 0].tolist() == [8, 9, 10, 11]
    points = talk.track.points.clone()
    points[8:12] = torch.rand(4, 478, 3, generator=torch.Generator().manual_seed(0)) * 100
    lost = talk.track.replace(points=points, found=found, filled=None)
    for case in (Case(PAIRED, talk, talk, None), Case(PAIRED, talk, replace(talk, track=lost), None)):
        motion, _ = score_motion(case, lost if case.speaker is talk else talk.track)
        assert motion["opening_correlation"] == pytest.approx(1) and motion["lip_distance_cm"] < 1e-5


def test_halves_take_references_from_each_other(talk: Talk) -> None:
    (first, allowed), (second, others) = folds(talk.track, held_out=True)
    assert (first.stop, second.start) == (10, 10)
    assert allowed.usable.nonzero()[:, 0].tolist() == list(range(15, 20)), "0.24 s from frame 9"
    assert others.usable.nonzero()[:, 0].tolist() == list(range(5)), "and from frame 10"
    assert len(folds(talk.track, held_out=False)) == 1


def test_everybody_speaks_somebody_elses_words() -> None:
    clips = [Clip(None, f"{i}.mp4", "all", person) for i, person in enumerate("aabb")]
    pairs = partners(clips)
    assert pairs == {"0.mp4": "2.mp4", "1.mp4": "3.mp4", "2.mp4": "0.mp4", "3.mp4": "1.mp4"}, "everybody is heard"
    assert partners(clips[:2]) == {}


def test_an_unpaired_case_lasts_as_long_as_its_words(talk: Talk) -> None:
    short = replace(talk, audio=fit_audio(talk.audio, 0.6), track=talk.cut(15).track)
    case = make_case(UNPAIRED, talk, short)
    assert len(case.talk) == len(case.frames) == 15
    own = make_case(RECONSTRUCTION, talk, short)
    assert len(own.frames) == len(talk) and own.speaker is talk and case.speaker is short


def test_films_of_a_varying_rate_are_cut_by_frames_and_heard_as_long_as_they_are_seen(talk: Talk, tmp_path) -> None:
    """Slow at first, they gave fewer pictures than landmarks, and sound of another length."""
    times = torch.cat([torch.arange(10) * 0.1, 1 + torch.arange(10) * 0.02]).double()
    with VideoWriter(tmp_path / "film.mp4", 256, 256, 25) as writer:
        writer.write(talk.frames(), times)
    film = replace(talk, path=tmp_path / "film.mp4", track=talk.track.replace(times=times), fps=16.1)
    case = make_case(UNPAIRED, film, film.cut(15))
    assert len(case.talk) == len(case.frames) == 15
    assert case.audio.duration == pytest.approx(1.1, abs=1e-4)


def test_another_tools_video_is_brought_to_the_sources_frames(case: Case, tmp_path) -> None:
    levels = (10 * torch.arange(len(case.frames), dtype=torch.uint8))[:, None, None, None]
    case = replace(case, frames=levels.expand_as(case.frames))
    fast = case.frames.repeat_interleave(2, 0)[:, ::2, ::2].contiguous()
    with VideoWriter(tmp_path / "actor.mkv", 128, 128, 50, audio=Audio(torch.zeros(1, 16000), 16000), crf=0) as writer:
        writer.write(fast.numpy())
    path = find_output(tmp_path, PAIRED, Clip(case.talk.path, "actor.mp4"))
    frames = read_output(path, case)
    assert frames.shape == case.frames.shape
    assert torch.equal(frames, case.frames)
    longer = replace(case, talk=replace(case.talk, track=case.talk.track.replace(times=case.talk.track.times * 3)))
    with pytest.raises(InputError, match="before its source does"):
        read_output(path, longer)
