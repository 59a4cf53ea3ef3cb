"""A result judged inside a graph."""

from __future__ import annotations

import json

import pytest
import torch


def score(host, clip, frames, **more):
    from tiny import NAMES

    given = {"source": clip.images, "track": clip.track, "audio": clip.audio, "fps": clip.fps}
    return host.run(
        "MyTalkScore", frames=frames, identity_model=NAMES["identity"], sync_judge=NAMES["sync_judge"], **given, **more
    )


def test_the_source_itself_is_all_leak_and_no_loss(host, clip) -> None:
    plot, report, data = score(host, clip, clip.images)
    figures = json.loads(data)
    for name in ("leak", "sharpness", "flicker", "seam", "identity", "articulation", "identical_outside"):
        assert figures[name] == pytest.approx(1, abs=1e-3), name
    assert figures["face_lost"] == 0 and "opening_correlation" not in figures
    assert plot.shape == (1, 320, 960, 3) and 0 <= plot.min() < plot.max() <= 1
    assert "leak: 1 (correlation" in report


def test_with_the_same_words_the_source_is_the_answer(host, clip) -> None:
    figures = json.loads(score(host, clip, clip.images, same_words=True)[2])
    assert figures["opening_correlation"] == pytest.approx(1, abs=1e-3) and figures["lag_frames"] == 0
    assert "leak" not in figures
    spoken = json.loads(score(host, clip, clip.frames, same_words=True)[2])
    assert spoken["opening_correlation"] < 0.99, "untrained weights cannot be right"


def test_other_frames_than_the_sources_are_refused(host, clip) -> None:
    with pytest.raises(ValueError, match="^frames: got .* the source has"):
        score(host, clip, clip.images[:8])


def identical(host, clip, frames, **more) -> float:
    return json.loads(score(host, clip, frames, **more)[2])["identical_outside"]


def test_pixels_outside_the_given_mask_are_compared_one_by_one(host, clip) -> None:
    """Also where what is new reaches farther than the source's own mouth would need."""
    mask = clip.mask.clone()
    mask[:, -60:, 80:120] = 0.5
    frames = torch.where(mask[..., None] > 0, clip.frames * 0.9, clip.images)
    assert identical(host, clip, frames, mask=mask) == 1
    assert identical(host, clip, frames) < 1, "without being told"
    frames[5, 0, 0] = 1 - frames[5, 0, 0]
    outside = (mask[:8] == 0).sum().item()
    assert identical(host, clip, frames, mask=mask) == pytest.approx(1 - 1 / outside, abs=1e-7)
    with pytest.raises(ValueError, match="^mask: got shape"):
        score(host, clip, frames, mask=mask[:, 1:])


def test_a_chin_that_sinks_is_pasted_farther_down(host, clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that are new within the mask of both jaws, as results are, and of a result whose jaw is wide open."""
    live, blend = host.module("comfyui_mytalk.evaluation.live"), host.module("comfyui_mytalk.appearance.blend")
    talks, places = host.module("comfyui_mytalk.evaluation.talks"), host.module("comfyui_mytalk.geometry")
    jaw, points = host.module("comfyui_mytalk.landmarks.sets").landmark_set("generated"), clip.track.points.clone()
    points[:, jaw, 1] += 12
    face = clip.track.replace(points=points)
    source = (clip.images * 255).round().byte()
    pasted = blend.frame_mask(places.geometry(clip.track, face).mask(256), clip.track.transform, source.shape[1:3])
    made = torch.where(pasted[:, 0, :, :, None] > 0, 255 - source, source)
    audio = host.module("comfyui_mytalk.speech.audio").Audio(clip.audio["waveform"][0], 16_000)
    talk = talks.Talk(None, clip.track, audio, clip.fps)
    case = talks.Case(talks.UNPAIRED, talk, talk, source)
    assert live.identical_outside(case, made, places.geometry(clip.track).mask(256)) < 0.999
    assert live.identical_beside(case, made, face, None) == 1
