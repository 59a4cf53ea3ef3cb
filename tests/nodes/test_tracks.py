"""A track and frames that were scaled since, and frames that no scaling of it explains."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import NAMES


def resized(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    pictures = F.interpolate(images.permute(0, 3, 1, 2), size=(height, width), mode="bilinear", antialias=True)
    return pictures.permute(0, 2, 3, 1)


def lips(frames: torch.Tensor, images: torch.Tensor) -> list[float]:
    """Box of what changed, as shares of the frame."""
    rows, columns = ((frames - images).abs().amax((0, 3)) > 0.02).nonzero().unbind(1)
    height, width = images.shape[1:3]
    return [x.item() / size for x, size in ((rows.min(), height), (rows.max(), height), (columns.min(), width))]


@pytest.fixture
def large(clip) -> SimpleNamespace:
    """The clip after an upscaler."""
    return SimpleNamespace(images=resized(clip.images, 512, 512), mask=resized(clip.mask[..., None], 512, 512)[..., 0])


def nodes(clip: SimpleNamespace, images: torch.Tensor) -> dict[str, dict[str, Any]]:
    """Every node that looks for a face where a track says it is, in these frames."""
    track = {"track": clip.track}
    names = {"identity_model": NAMES["identity"], "sync_judge": NAMES["sync_judge"]}
    return {
        "MyTalkMaskedReferenceSelect": {"images": images, **track},
        "MyTalkAppearanceVAE": {"images": images, **clip.painted},
        "MyTalkFindOcclusions": {"images": images, **track, "model": "occlusion_small"},
        "MyTalkPasteBack": {"images": images, "crops": clip.crops, "crop_mask": clip.crop_mask, **clip.laid},
        "MyTalkTuneActor": {"images": images, **track, "model": NAMES["appearance"]},
        "MyTalkScore": {"frames": images, "source": images, **track, "audio": clip.audio, "fps": clip.fps, **names},
    }


def test_the_same_mouth_is_pasted_into_frames_that_were_enlarged(host, clip, large) -> None:
    rest = {"crops": clip.crops, "crop_mask": clip.crop_mask, **clip.laid}
    frames, mask = host.run("MyTalkPasteBack", images=large.images, **rest)
    assert (mask - large.mask).abs().mean() < 0.003 and (mask - large.mask).abs().max() < 0.5
    for there, here in zip(lips(frames, large.images), lips(clip.frames, clip.images), strict=True):
        assert there == pytest.approx(here, abs=0.03)
    assert torch.equal(frames[mask == 0], large.images[mask == 0])


def test_colours_of_enlarged_frames_are_matched_where_the_new_mouth_is(
    host, clip, large, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, given = host.module("nodes.paste_back"), []
    monkeypatch.setattr(module, "lay_over", lambda *inputs: given.append(inputs[-1]) or (inputs[0], inputs[0]))
    rest = {"crops": clip.crops, "crop_mask": clip.crop_mask, **clip.laid}
    host.run("MyTalkPasteBack", images=large.images, **rest)
    assert given[0].size == (512, 512) and torch.allclose(given[0].points, 2 * clip.motion.points)


def test_references_and_crops_of_enlarged_frames_show_the_same_face(host, clip, large) -> None:
    bank, _ = host.run("MyTalkMaskedReferenceSelect", images=large.images, track=clip.track, count=6)
    expected = host.module("comfyui_mytalk.geometry").geometry(clip.track).crop_points(clip.track.points)
    assert (bank.points - expected[bank.frames]).abs().max() < 0.01, "pixels of the crop"
    crops, mask = host.run("MyTalkAppearanceVAE", images=large.images, **clip.painted)
    assert torch.equal(mask, clip.crop_mask) and (crops - clip.crops).abs().mean() < 0.02
    seen, _ = host.run("MyTalkFindOcclusions", images=large.images, track=clip.track, model="occlusion_small")
    assert seen.shape == (10, 512, 512)


@pytest.mark.parametrize(("name", "work"), [("TuneActor", "tune_on_clip"), ("Score", "score_result")])
def test_who_tunes_and_scores_looks_where_the_face_is(
    host, clip, large, monkeypatch: pytest.MonkeyPatch, name: str, work: str
) -> None:
    class Seen(Exception):
        pass

    def look(_: Any, __: Any, track: Any, *more: Any) -> None:
        raise Seen(track)

    monkeypatch.setattr(host.module({"TuneActor": "nodes.tune_actor", "Score": "nodes.score"}[name]), work, look)
    with pytest.raises(Seen) as seen:
        host.run(f"MyTalk{name}", **nodes(clip, large.images)[f"MyTalk{name}"])
    (track,) = seen.value.args
    assert track.size == (512, 512) and torch.allclose(track.points, 2 * clip.track.points)


def test_a_node_that_looks_at_a_face_is_among_the_tested(host, clip) -> None:
    pairs = {"images", "source", "track"}
    both = {name for name, node in host.nodes.items() if len(pairs & {i.id for i in node.GET_SCHEMA().inputs}) == 2}
    assert both == set(nodes(clip, clip.images)) | {"MyTalkLandmarkOverlay"}, "the overlay follows any shape"


def test_frames_of_another_shape_are_refused_with_both_sizes(host, clip) -> None:
    for height, width in ((256, 300), (128, 256), (256, 260)):
        for name, inputs in nodes(clip, resized(clip.images, height, width)).items():
            with pytest.raises(ValueError, match=f"got {width}x{height} pixels, .* frames of 256x256") as error:
                host.run(name, **inputs)
            assert str(error.value).startswith("source: " if name == "MyTalkScore" else "images: "), name


@pytest.mark.parametrize("size", [(1080, 1920), (720, 1280), (480, 853), (480, 854), (270, 480), (2160, 3840)])
def test_rounding_to_whole_and_even_pixels_is_no_other_shape(host, clip, size: tuple[int, int]) -> None:
    scaled = host.module("nodes.tracks").scaled_to(clip.track.replace(size=(1080, 1920)), size)
    assert scaled.size == size and len(scaled) == len(clip.track)
    share = torch.tensor([size[1] / 1920, size[0] / 1080])
    assert torch.allclose(scaled.points[..., :2], clip.track.points[..., :2] * share)


def test_a_track_in_its_own_frames_stays_the_very_same(host, clip) -> None:
    assert host.module("nodes.tracks").track_in(clip.images, clip.track) is clip.track
