"""A result judged inside a graph."""

from __future__ import annotations

import json

import pytest


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
