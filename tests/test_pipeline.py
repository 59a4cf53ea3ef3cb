"""The steps together, on a moving portrait: what must stay bit-identical, and what must not depend on chunking."""

import dataclasses

import pytest
import torch
from skimage import data

from comfyui_mytalk import pipeline
from comfyui_mytalk.appearance.bank import Schedule
from comfyui_mytalk.appearance.blend import frame_mask, paste_into
from comfyui_mytalk.appearance.fixed import telling_pictures
from comfyui_mytalk.appearance.mask import NECK
from comfyui_mytalk.appearance.model import AppearanceModel
from comfyui_mytalk.appearance.params import PRESETS
from comfyui_mytalk.appearance.references import BANK
from comfyui_mytalk.frames import TensorSource, cut_frames, cut_source, picked
from comfyui_mytalk.geometry import Geometry, geometry
from comfyui_mytalk.landmarks.align import CROP_HALF, cut_crops
from comfyui_mytalk.landmarks.canonical import mouth_opening
from comfyui_mytalk.landmarks.track import FaceTrack, load_face_landmarker, track_faces

FRAMES = 6


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    """`(f, h, w, 3)` uint8: a portrait that drifts by two pixels a frame."""
    picture = torch.from_numpy(data.astronaut()[:320, 60:380].copy())
    return torch.stack([picture.roll((2 * i, 2 * i), (0, 1)) for i in range(FRAMES)])


@pytest.fixture(scope="module")
def track(frames) -> FaceTrack:
    source = TensorSource(frames, 25)
    return track_faces(source.chunks(4), load_face_landmarker("cpu"))


@pytest.fixture(scope="module")
def model() -> AppearanceModel:
    """Random weights: what is tested here holds for any picture that the network may draw."""
    torch.manual_seed(0)
    return AppearanceModel(PRESETS["small"]).eval()


def open_mouth(track: FaceTrack, pixels: float = 6.0) -> FaceTrack:
    points = track.points.clone()
    points[:, [14, 87, 317, 17, 84, 314, 152, 148, 377], 1] += pixels
    return track.replace(points=points)


def render(model, frames, track, spoken, chunk=8, fps=25.0):
    source, place = TensorSource(frames, fps), geometry(track, spoken)
    bank = pipeline.select_references(source, track, place, 4)
    parts = list(pipeline.render_clip(model, source, spoken, place, bank, chunk))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def test_only_the_lower_face_changes(model, frames, track):
    out, times, mask = render(model, frames, track, open_mouth(track))
    changed = (out != frames).any(-1)
    rows = changed.any(2)
    nose = track.points[:, 2, 1]  # just under the nose tip
    for frame in range(FRAMES):
        top = rows[frame].nonzero()[0].item()
        assert top > nose[frame] - 6, "pixels above the nose base changed"
        assert 0.01 < changed[frame].float().mean() < 0.25
    assert times.tolist() == pytest.approx([i / 25 for i in range(FRAMES)])
    assert mask.amax() == 1


def test_the_result_does_not_depend_on_the_chunk_size(model, frames, track):
    whole, _, _ = render(model, frames, track, open_mouth(track), chunk=FRAMES)
    single, _, _ = render(model, frames, track, open_mouth(track), chunk=1)
    assert (whole.int() - single.int()).abs().max() <= 1  # convolutions round differently per batch size


def test_a_chin_that_rises_at_the_frames_edge_brings_no_black_along(model, frames, track, monkeypatch):
    monkeypatch.setattr(type(model), "forward", lambda self, masked, landmarks, references: references[:, 0])
    cut = int(track.points[:, 152, 1].min()) - 8  # above the chin
    close, near = frames[:, :cut], track.replace(size=(cut, frames.shape[2]))
    out, _, _ = render(model, close, near, open_mouth(near, -6.0))
    change = out[:, -1].int() - close[:, -1].int()
    assert change.abs().max() > 3, "the mask reaches the edge"
    assert change.min() > -60


def test_frames_without_a_usable_face_pass_through(model, frames, track):
    found = track.found.clone()
    found[2:4] = False
    lost = track.replace(found=found, filled=torch.zeros_like(found))
    out, _, mask = render(model, frames, lost, open_mouth(lost))
    assert torch.equal(out[2:4], frames[2:4])
    assert mask[2:4].amax() == 0
    assert not torch.equal(out[1], frames[1])


def test_the_mask_does_not_move_with_the_mouth(track):
    place = geometry(track)
    for pixels in (3.0, 9.0):
        moved = dataclasses.replace(geometry(open_mouth(track, pixels)), extent=place.extent)
        assert torch.equal(place.mask(256), moved.mask(256)) and torch.equal(place.hole(256), moved.hole(256))


def test_the_neck_below_both_jaws_is_the_sources(model, frames, track):
    """Though the mask reaches farther in a clip that opens its mouth wide in another frame."""
    spoken = open_mouth(track)
    spoken.points[0] = open_mouth(track, 25.0).points[0]
    place, later = geometry(track, spoken), slice(1, None)
    assert (place.pasted(spoken.points, 256) <= place.mask(256)).all()
    out, _, mask = render(model, frames, track, spoken)
    jaws = torch.stack([place.crop_points(each.points)[later, 152] for each in (track, spoken)])
    column, row = jaws[..., 0].mean().round().int(), jaws[..., 1].amax().ceil().int() + round(NECK) + 2
    assert place.mask(256)[later, 0, row, column].amin() > 0 and mask[later, 0, row:].amax() == 0
    chins = torch.stack([track.points[later, 152, 1], spoken.points[later, 152, 1]]).amax(0)
    changed = (out != frames).any(-1)[later].any(2)
    lowest = torch.stack([rows.nonzero()[-1, 0] for rows in changed])
    scale = 2 * CROP_HALF * place.pose.scale[later] / 256  # frame pixels per crop pixel
    assert (lowest > chins).all() and (lowest < chins + (NECK + 2) * scale).all()


def test_a_dark_spot_below_the_chin_is_a_shadow_at_most(model, frames, track):
    spoken = open_mouth(track)
    place = geometry(track, spoken)
    bank = pipeline.select_references(TensorSource(frames, 25), track, place, 4)
    references = bank.gather(pipeline.reference_schedule(bank, spoken, place, model.params))
    painted = pipeline.paint_crops(model, frames, place, spoken.points, references)
    assert torch.equal(painted.face, place.face(256))
    share = place.least_light(spoken.points, 256)
    assert (painted.crops >= share * painted.source).all() and (share[painted.mask > 0.1] > 0.5).any()
    assert (painted.crops < 0.5 * painted.source).any()  # random weights paint dark spots, but not there


def test_colours_are_compared_on_the_face_alone(track):
    """Not on the neck: where the chin moved, source and picture show different things there."""
    place = geometry(track)
    face, points = place.face(256)[:, 0], place.crop_points(track.points)
    for frame, chin, brow in zip(face, points[:, 152].round().int(), points[:, 9].round().int(), strict=True):
        assert frame[chin[1] - 12, chin[0]] == 1 and frame[brow[1], brow[0]] == 1
        assert frame[chin[1] + 1 :, chin[0]].amax() == 0


def test_float_frames_keep_their_values_outside_the_mask(model, frames, track):
    place = geometry(track)
    bank = pipeline.select_references(TensorSource(frames, 25), track, place, 3, fixed=True)
    references = bank.gather(pipeline.reference_schedule(bank, track, place, model.params))
    pictures = (frames.float() / 255) ** 1.01  # values that are no multiples of 1/255
    out, _ = pipeline.render_frames(model, pictures, place, track.points, references, track.usable)
    assert (out == pictures).all(-1).float().mean() > 0.7
    assert out.dtype == torch.float32 and out.min() >= 0 and out.max() <= 1


def test_fixed_references_are_those_of_the_bank_that_tell_most(frames, track):
    place, source = geometry(track), TensorSource(frames, 25)
    whole = pipeline.select_references(source, track, place, BANK)
    few = pipeline.select_references(source, track, place, 3, fixed=True)
    best = telling_pictures(whole.regression, 3)
    assert few.frames.tolist() == whole.frames[best].tolist() and torch.equal(few.crops, whole.crops[best])
    short = track.replace(found=torch.arange(FRAMES) < 1)
    assert pipeline.select_references(source, short, place, 3, fixed=True).frames.tolist() == [0]


def test_references_know_how_wide_the_whole_clip_opens(frames, track):
    """Not only those that a frame is shown: a mouth is drawn only where the clip has none."""
    place = geometry(track)
    bank = pipeline.select_references(TensorSource(frames, 25), open_mouth(track, 2.0), place, 4)
    bank.points[2, 14, 1] += 30
    gathered = bank.gather(Schedule(torch.tensor([[0, 1, 3], [0, 0, 1]])))
    assert torch.equal(gathered.openings[:, 1], mouth_opening(bank.points[2]).expand(2))


def test_one_frame_is_enough(model, frames, track):
    one = track.replace(points=track.points[:1], found=track.found[:1], times=track.times[:1], filled=None)
    out, _, _ = render(model, frames[:1], one, open_mouth(one))
    assert out.shape == frames[:1].shape


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.7])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (300.0, 150.0), (-160.0, -80.0)])
def test_looking_at_the_crops_surroundings_only_changes_nothing(scale, shift):
    """Small faces, close-ups that are averaged before sampling, and faces half outside the picture."""
    angle = torch.tensor([0.2, 0.3])
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(-1, 2, 2) * scale
    centre = torch.tensor([[330.0 + shift[0], 240.0 + shift[1]], [341.0 + shift[0], 236.0 + shift[1]]])
    transform = torch.cat([turn, (centre - turn.sum(-1) * 128)[..., None]], -1)
    place = Geometry(None, transform, None, None)
    frames = torch.rand(2, 480, 640, 4, generator=torch.Generator().manual_seed(0))
    whole = frames[..., :3].permute(0, 3, 1, 2)
    for repeating in (False, True):
        found = cut_source(frames, place, repeating=repeating)
        torch.testing.assert_close(found, cut_crops(whole, transform, repeating=repeating), atol=1e-3, rtol=0)
    crops, mask = torch.rand(2, 3, 256, 256), torch.zeros(2, 1, 256, 256)
    mask[:, :, 90:200, 60:190] = 0.75
    pasted, masks, expected = frames.clone(), torch.zeros(2, 480, 640), whole.clone()
    pipeline.lay_back(pasted, torch.arange(2), crops, mask, place, masks)
    paste_into(expected, torch.arange(2), crops, mask, transform)
    torch.testing.assert_close(pasted[..., :3], expected.permute(0, 2, 3, 1), atol=1e-3, rtol=0)
    torch.testing.assert_close(masks, frame_mask(mask, transform, (480, 640))[:, 0], atol=1e-3, rtol=0)
    assert torch.equal(pasted[masks == 0], frames[masks == 0])


@pytest.fixture(scope="module")
def closeup(frames, track) -> tuple[torch.Tensor, FaceTrack]:
    """The same portrait four times as large, with grain that sticks to the skin, and its track."""
    large = torch.nn.functional.interpolate(frames[:1].permute(0, 3, 1, 2).float(), scale_factor=4, mode="bicubic")
    grain = torch.randn(640, 640, 1, generator=torch.Generator().manual_seed(0))
    large = large[0].permute(1, 2, 0) + 12 * grain.repeat_interleave(2, 0).repeat_interleave(2, 1)
    large = torch.stack([large.clamp(0, 255).byte().roll((8 * i, 8 * i), (0, 1)) for i in range(FRAMES)])
    return large, FaceTrack(track.points * 4, track.found, track.times, (1280, 1280))


def test_a_close_up_keeps_the_films_own_detail(model, closeup, monkeypatch):
    """What the network paints is soft there; pixels outside the mask and other chunk sizes stay what they were."""
    frames, track = closeup
    monkeypatch.setattr(type(model), "forward", lambda self, masked, landmarks, references: references[:, 0])
    place, source = geometry(track), TensorSource(frames, 25)
    bank = pipeline.select_references(source, track, place, 4)
    assert bank.size == 512 and bank.crops.shape[-1] == 256
    fine, _, mask = (torch.cat(x) for x in zip(*pipeline.render_clip(model, source, track, place, bank), strict=True))
    plain_bank = dataclasses.replace(bank, full=None)
    plain = torch.cat([x for x, _, _ in pipeline.render_clip(model, source, track, place, plain_bank)])
    whole = frame_mask(mask, place.transform, (1280, 1280))[:, 0]
    assert torch.equal(fine[whole == 0], frames[whole == 0])
    changed = whole > 0.99
    errors = [(out[changed].float() - frames[changed].float()).square().mean() for out in (fine, plain)]
    assert errors[0] < 0.75 * errors[1]

    def edges(pictures: torch.Tensor) -> torch.Tensor:
        return pictures.float().diff(dim=1)[changed[:, 1:]].square().mean()

    assert edges(fine) > 0.7 * edges(frames) and edges(plain) < 0.45 * edges(frames)
    single = torch.cat([x for x, _, _ in pipeline.render_clip(model, source, track, place, bank, 1)])
    assert (single.int() - fine.int()).abs().max() <= 1


def test_frames_in_memory_come_in_chunks_as_they_were():
    levels = torch.arange(256, dtype=torch.uint8).view(4, 8, 8, 1).expand(-1, -1, -1, 4)
    for images in (levels, levels / 255, (levels - 0.4) / 255):
        chunks = list(TensorSource(images, 25).chunks(3))
        assert torch.equal(torch.cat([frames for frames, _ in chunks]), levels[..., :3])
        assert torch.cat([times for _, times in chunks]).tolist() == [0.0, 0.04, 0.08, 0.12]


def test_crops_are_of_the_frames_that_were_asked_for_in_their_order():
    """Also where the clip is read on: sixteen frames come at a time."""
    films = (10 * torch.arange(20, dtype=torch.uint8))[:, None, None, None].expand(-1, 32, 32, 3).contiguous()
    place = Geometry(
        torch.zeros(20), torch.tensor([[0.125, 0, 0], [0, 0.125, 0]]).expand(20, -1, -1), None, torch.zeros(20)
    )
    for wanted in (torch.arange(20), torch.tensor([19, 3, 3, 15, 16])):
        crops = cut_frames(TensorSource(films, 25), place, wanted, 8)
        assert torch.equal(crops[:, 0, 4, 4].long(), 10 * wanted)


@pytest.mark.parametrize("index", [[2], [1, 2, 3], [0, 2, 5]])
def test_frames_are_picked_alike_with_and_without_gaps(frames, index):
    wanted = torch.tensor(index)
    assert torch.equal(picked(frames, wanted), frames[wanted])
