"""The overlay and the motion editor, on a real face."""

from __future__ import annotations

import pytest
import torch


@pytest.mark.parametrize("kind", ["float", "half", "alpha"])
def test_overlay_draws_on_the_face_and_nowhere_else(host, clip, kind: str) -> None:
    images = {
        "float": clip.images,
        "half": clip.images.half(),
        "alpha": torch.cat([clip.images, clip.images[..., :1]], -1),
    }[kind]
    frames = host.run("MyTalkLandmarkOverlay", images=images, track=clip.track)[0]
    changed = (frames != images).any(-1)
    assert frames.dtype == images.dtype and 0.01 < changed.float().mean() < 0.4
    x, y = clip.track.points[..., 0], clip.track.points[..., 1]
    for i in range(len(images)):
        rows, columns = changed[i].nonzero().unbind(1)
        assert rows.min() >= y[i].min() - 3 and rows.max() <= y[i].max() + 3
        assert columns.min() >= x[i].min() - 3 and columns.max() <= x[i].max() + 3
    lip = clip.track.points[0, 0, :2].long()
    assert frames[0, lip[1], lip[0], 0] > 0.75 > frames[0, lip[1], lip[0], 1], "lips are red"


def test_overlay_passes_frames_without_a_face_and_follows_resized_ones(host, clip) -> None:
    found = clip.track.found.clone()
    found[3:6] = False
    lost = clip.track.replace(found=found, filled=None)
    frames = host.run("MyTalkLandmarkOverlay", images=clip.images, track=lost)[0]
    assert torch.equal(frames[3:6], clip.images[3:6]) and not torch.equal(frames[6], clip.images[6])
    half = clip.images[:, ::2, ::2]
    small = host.run("MyTalkLandmarkOverlay", images=half, track=clip.track)[0]
    assert (small != half).any(-1).nonzero()[:, 1].max() <= clip.track.points[..., 1].max() / 2 + 3
    assert torch.equal(host.run("MyTalkLandmarkOverlay", images=half, track=clip.track, opacity=0.0)[0], half)


def test_overlay_refuses_frames_that_were_cut(host, clip) -> None:
    """As every node with a track: its lines would be beside the face."""
    with pytest.raises(ValueError, match="^images: got .*, of another shape"):
        host.run("MyTalkLandmarkOverlay", images=clip.images[:, : clip.images.shape[1] // 2], track=clip.track)


def test_editor_at_its_defaults_is_a_wire(host, clip) -> None:
    assert host.run("MyTalkEditMotion", track=clip.track, motion=clip.motion)[0] is clip.motion


def test_editor_hands_every_number_to_the_library(host, clip) -> None:
    edit, audio = host.module("comfyui_mytalk.motion.edit"), host.module("comfyui_mytalk.speech.audio")
    options = {"strength": 1.5, "smoothing": 0.05, "blend": 0.5, "silence_gate": 0.75, "silence_threshold": 3.0}
    found = host.run("MyTalkEditMotion", track=clip.track, motion=clip.motion, audio=clip.audio, **options)[0]
    speech = audio.speech_16k(audio.Audio(clip.audio["waveform"][0], 16_000))
    expected = edit.edit_motion(clip.track, clip.motion, edit.MotionEdit(1.5, 0.05, 0.5, 0.75, 3.0), speech)
    assert torch.equal(found.points, expected.points) and not torch.equal(found.points, clip.motion.points)


def test_gate_without_audio_is_refused(host, clip) -> None:
    with pytest.raises(ValueError, match="^audio: got no audio, .*; connect the speech .* or set silence_gate to 0$"):
        host.run("MyTalkEditMotion", track=clip.track, motion=clip.motion, silence_gate=0.5)


def test_motion_of_another_clip_is_refused(host, clip) -> None:
    with pytest.raises(ValueError, match="^motion: got 1 frame, but the track has 10; connect what was made of it$"):
        host.run("MyTalkEditMotion", track=clip.track, motion=clip.motion[:1])


def test_edited_motion_is_painted(host, clip) -> None:
    still = host.run("MyTalkEditMotion", track=clip.track, motion=clip.motion, strength=0.0)[0]
    drawn = host.run("MyTalkRenderLandmarkImage", track=still)[0]
    painted = {**clip.painted, "motion": still, "landmark_images": drawn}
    crops, mask = host.run("MyTalkAppearanceVAE", images=clip.images, **painted)
    assert (crops - clip.crops).abs().max() > 0.001 and mask.max() == 1
