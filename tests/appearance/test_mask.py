import math

import pytest
import torch
import torch.nn.functional as F

from comfyui_mytalk.appearance.mask import (
    FEATHER_CM,
    NECK,
    SHADOW,
    MaskExtent,
    dilate,
    face_region,
    lip_mask,
    lip_region,
    mask_extent,
    neck_light,
    nose_region,
    room_for_cheeks,
)
from comfyui_mytalk.landmarks.align import apply_transform, crop_transform, invert
from comfyui_mytalk.landmarks.canonical import Pose, canonical_face, fit_pose, from_canonical
from comfyui_mytalk.landmarks.sets import landmark_set


def face(opening: float = 0.0) -> torch.Tensor:
    """The canonical face `(1, 478, 3)` with its lower lip and jaw lowered, cm."""
    points = F.pad(canonical_face(), (0, 0, 0, 10)).clone()
    generated = landmark_set("generated")
    lower = torch.zeros(478)
    lower[generated] = (points[generated, 1] < -4.4).float()
    points[:, 1] -= opening * lower * torch.exp(-((points[:, 0] / 4) ** 2))
    return points[None]


def head(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0, scale: float = 20.0) -> Pose:
    """One head pose, degrees."""
    a, b, c = (torch.tensor(math.radians(angle)) for angle in (yaw, pitch, roll))
    zero, one = torch.zeros(()), torch.ones(())
    rows = [
        torch.stack([a.cos(), zero, a.sin(), zero, one, zero, -a.sin(), zero, a.cos()]),
        torch.stack([one, zero, zero, zero, b.cos(), -b.sin(), zero, b.sin(), b.cos()]),
        torch.stack([c.cos(), -c.sin(), zero, c.sin(), c.cos(), zero, zero, zero, one]),
    ]
    y, x, z = (row.view(3, 3) for row in rows)
    return Pose(torch.tensor([scale]), (z @ y @ x)[None], torch.tensor([[300.0, -250.0, 0.0]]))


def crop_points(canonical: torch.Tensor, pose: Pose) -> torch.Tensor:
    return apply_transform(invert(crop_transform(pose)), from_canonical(canonical, pose)[..., :2])


def values(mask: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """`mask (1, 1, s, s)` read at crop points `(1, n, 2)`."""
    grid = points[:, None] * 2 / mask.shape[-1] - 1
    return F.grid_sample(mask, grid, align_corners=False)[0, 0, 0]


def test_there_is_room_for_a_jaw_that_the_clip_never_opens():
    shut = face().repeat(20, 1, 1)
    chin = shut[0, 152, 1].item()
    assert mask_extent(shut).bottom + FEATHER_CM < chin - 0.9


def test_the_mask_does_not_change_when_only_the_mouth_moves():
    masks = []
    for opening in (0.0, 2.5):
        pose = fit_pose(from_canonical(face(opening), head(15, 5, 8)))
        masks.append(lip_mask(pose, crop_transform(pose), MaskExtent()))
    assert torch.equal(*masks)


@pytest.mark.parametrize("opening", [0.0, 2.0])
@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (30, 0, 0), (-30, 10, 20), (20, -15, -30)])
def test_lips_lie_fully_inside_and_the_chin_within(yaw, pitch, roll, opening):
    pose = head(yaw, pitch, roll)
    extent = mask_extent(torch.cat([face(0.0), face(2.0)]))
    mask, points = lip_mask(pose, crop_transform(pose), extent), crop_points(face(opening), pose)
    assert values(mask, points[:, landmark_set("lips_outer")]).min() > 0.99
    assert values(mask, points[:, [152, 148, 377, 176, 400]]).min() > 0.5


def test_the_nose_and_the_crops_border_are_left_alone():
    pose = head()
    mask = lip_mask(pose, crop_transform(pose), mask_extent(face()))
    assert values(mask, crop_points(face(), pose)[:, [1, 98, 327, 129, 358]]).max() < 0.05
    border = torch.cat([mask[0, 0, 0], mask[0, 0, -1], mask[0, 0, :, 0], mask[0, 0, :, -1]])
    assert border.max() == 0
    assert mask.max() == 1


def test_even_a_patch_larger_than_the_crop_ends_softly_at_its_border():
    pose = head()
    mask = lip_mask(pose, crop_transform(pose), MaskExtent(top=3, bottom=-20, half_width=15))[0, 0]
    assert mask[0].max() == 0 and mask[:, -1].max() == 0
    assert mask.diff(dim=0).abs().max() < 0.25


def test_a_wide_smile_and_a_long_chin_widen_the_extent():
    stretched = face()
    stretched[..., :2] *= 1.8
    plain, wide = mask_extent(face()), mask_extent(stretched)
    assert wide.half_width > plain.half_width and wide.bottom < plain.bottom


def test_frames_without_a_face_do_not_shape_the_extent():
    broken = face() * 3
    usable = torch.tensor([True, False])
    assert mask_extent(torch.cat([face(), broken]), usable) == mask_extent(face())


def test_each_frame_has_its_mask_whatever_the_batch():
    poses = [head(-20), head(0, 10), head(25, 0, 30)]
    batch = Pose(*(torch.cat([getattr(pose, name) for pose in poses]) for name in ("scale", "rotation", "translation")))
    transform = torch.cat([crop_transform(pose) for pose in poses])
    together = lip_mask(batch, transform, MaskExtent())
    alone = [lip_mask(batch[i : i + 1], transform[i : i + 1], MaskExtent()) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-4)


def test_a_crop_of_half_the_size_shows_the_same_mask():
    pose = head(10)
    large = lip_mask(pose, crop_transform(pose, 256), MaskExtent(), 256)
    small = lip_mask(pose, crop_transform(pose, 128), MaskExtent(), 128)
    assert (F.avg_pool2d(large, 2) - small).abs().max() < 0.1


def test_the_lip_region_follows_the_mouth():
    pose = head()
    closed, opened = (lip_region(crop_points(face(opening), pose)) for opening in (0.0, 2.5))
    assert opened.sum() > closed.sum() * 1.1
    assert values(opened, crop_points(face(2.5), pose)[:, landmark_set("lips_outer")]).min() > 0.99


def test_the_network_paints_more_than_is_pasted_and_not_the_nose():
    pose, extent = head(15, 5, 8), mask_extent(face())
    pasted, hole = (lip_mask(pose, crop_transform(pose), part) for part in (extent, extent.hole))
    assert (hole >= pasted).all() and hole.sum() > 1.03 * pasted.sum()
    assert values(hole, crop_points(face(), pose)[:, [1, 98, 327]]).max() < 0.05


@pytest.mark.parametrize(("smile", "share"), [(0.0, 0.0), (0.2, 0.0), (0.45, 0.5), (1.0, 1.0)])
def test_mouths_unlike_the_old_ones_get_room_for_cheeks(smile, share):
    """By what the clip's most different frames need, not by a single one."""
    extent, old = mask_extent(face()), face().repeat(20, 1, 1)
    new = old.clone()
    new[:4, landmark_set("lips_outer"), 0] += smile
    new[19, landmark_set("lips_outer"), 0] += 3
    room = room_for_cheeks(extent, old, new)
    assert (room.top - extent.top, room.half_width - extent.half_width) == pytest.approx(
        (share / 2, share / 5), abs=1e-3
    )
    assert room.bottom == extent.bottom


@pytest.mark.parametrize(("old", "new"), [(0.0, 1.0), (1.0, 0.0)])
def test_only_the_neck_below_both_jaws_keeps_its_light(old, new):
    pose = head(0)
    source, target = (crop_points(face(opening), pose) for opening in (old, new))
    light, chins = neck_light(source, target), torch.stack([source[:, 152], target[:, 152]], 1)
    lower, rise = chins.amax(1, keepdim=True), (chins[:, :1] - chins[:, 1:]).clamp_min(0)[..., 1].item()
    assert values(light, chins - torch.tensor([0.0, 1.0])).max() < 0.05
    assert values(light, lower + torch.tensor([0.0, rise])).item() < 0.05  # where the old chin's rim is, if it rose
    assert values(light, lower + torch.tensor([0.0, rise + 6.0])).item() == pytest.approx(SHADOW)


def test_the_nose_is_left_out_to_its_edge():
    pose = head(10, 5, 0)
    points = crop_points(face(), pose)
    mask = nose_region(points)
    assert values(mask, points[:, [1, 4, 5, 195]]).min() > 0.95
    assert values(mask, points[:, [0, 61, 291, 205, 425]]).max() == 0  # lips, and where cheeks fold


@pytest.mark.parametrize(("old", "new"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
def test_both_jaws_are_covered_and_little_of_the_neck_below(old, new):
    pose = head(0)
    source, target = (crop_points(face(opening), pose) for opening in (old, new))
    mask, chin = face_region(source, target), torch.stack([source[:, 152], target[:, 152]], 1)
    assert values(mask, chin).min() > 0.99
    lower = chin[:, chin[0, :, 1].argmax()][:, None]
    shadow = max(0.0, (source - target)[0, 152, 1].item()) / 2  # a chin that rose leaves its shadow behind
    below = lower + torch.tensor([0.0, NECK + shadow])
    assert values(mask, below + torch.tensor([0.0, 2.0])).item() == 0 < values(mask, below - 2).item()


@pytest.mark.parametrize("radius", [1, 4, 6, 8])
def test_dilation_grows_by_a_square(radius: int) -> None:
    mask = torch.rand(2, 1, 40, 40, generator=torch.Generator().manual_seed(0)) ** 8
    assert torch.equal(dilate(mask, radius), F.max_pool2d(mask, 2 * radius + 1, 1, radius))
