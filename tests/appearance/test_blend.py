import math

import pytest
import torch
import torch.nn.functional as F

from comfyui_mytalk.appearance.blend import frame_mask, match_colour, paste_into
from comfyui_mytalk.evaluation.pictures import sharpness_ratio
from comfyui_mytalk.landmarks.align import cut_crops, sample_affine

SIZE = 64
EVERYWHERE = torch.ones(1, 1, SIZE, SIZE)


def disc(size: int = SIZE) -> torch.Tensor:
    """A soft round mask `(1, 1, s, s)`, 0 near the border."""
    axis = torch.linspace(-1, 1, size)
    return ((0.8 - torch.hypot(axis[:, None], axis)) / 0.3).clamp(0, 1)[None, None]


def placed(x: float, y: float, scale: float, degrees: float = 0.0) -> torch.Tensor:
    """Crop pixels -> frame pixels `(1, 2, 3)`: scale, turn, and the crop's centre at `(x, y)`."""
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    half = SIZE / 2
    return torch.tensor([[[c, -s, x - half * (c - s)], [s, c, y - half * (s + c)]]])


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def smooth_frame(height: int, width: int) -> torch.Tensor:
    y, x = torch.arange(height)[:, None] / 9, torch.arange(width) / 11
    return torch.stack([x.sin() * y.cos(), (x + y).sin(), (x - y).cos()])[None] / 2 + 0.5


def paste_back(frames: torch.Tensor, crops: torch.Tensor, mask: torch.Tensor, transform: torch.Tensor) -> torch.Tensor:
    """A copy of `frames (f, 3, h, w)` with `crops (f, 3, s, s)` laid over."""
    result = frames.clone()
    paste_into(result, torch.arange(len(frames)), crops, mask, transform)
    return result


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    "transform", [placed(70, 60, 1.1, 25), placed(3, 90, 0.7, -140), placed(90, 50, 2.6, 8), placed(60, 50, 0.3)]
)
def test_outside_the_mask_every_value_is_the_sources(transform, kind):
    frames = noise(1, 3, 101, 133)
    frames = (frames * 255).byte() if kind == torch.uint8 else frames
    pasted = paste_back(frames, noise(1, 3, SIZE, SIZE, seed=1), disc(), transform)
    mask = frame_mask(disc(), transform, (101, 133))
    outside = (mask == 0).expand_as(frames)
    assert pasted.dtype == kind
    assert torch.equal(pasted[outside], frames[outside])
    assert (pasted != frames)[(mask > 0.9).expand_as(frames)].float().mean() > 0.9


def test_the_mask_given_out_is_the_one_used():
    transform = placed(60, 50, 1.3, 33)
    black, white = torch.zeros(1, 3, 99, 121), torch.ones(1, 3, SIZE, SIZE)
    pasted = paste_back(black, white, disc(), transform)
    mask = frame_mask(disc(), transform, (99, 121))
    assert torch.allclose(pasted, mask.expand(-1, 3, -1, -1), atol=1e-6)
    assert mask.max() == 1


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.5])
def test_a_crop_pasted_where_it_was_cut_gives_the_frame_back(scale):
    frame, transform = smooth_frame(120, 140), placed(71.3, 58.8, scale, 17)
    pasted = paste_back(frame, sample_affine(frame, transform, (SIZE, SIZE)), disc(), transform)
    assert (pasted - frame).abs().max() < 2.5 / 255


def test_a_crop_pasted_where_it_was_cut_is_as_sharp_as_the_frame():
    frame = torch.rand(1, 3, 30, 35, generator=torch.Generator().manual_seed(0))
    frame = F.interpolate(frame, scale_factor=4, mode="bicubic").clamp(0, 1)  # detail of 8 pixels and more
    transform = placed(71.3, 58.8, 0.8, 17)
    pasted = paste_back(frame, cut_crops(frame, transform, SIZE), torch.ones(1, 1, SIZE, SIZE), transform)
    inside = (Ellipsis, slice(45, 75), slice(55, 85))
    assert sharpness_ratio(pasted[inside], frame[inside]) > 0.95


def test_the_crop_lands_where_the_transform_says():
    crop = torch.zeros(1, 3, SIZE, SIZE)
    crop[:, :, 30:34, 30:34] = 1  # its centre, (32, 32) in crop pixels
    pasted = paste_back(torch.zeros(1, 3, 201, 301), crop, disc(), placed(220.5, 77.5, 1.5, 40))
    weight = pasted[0, 0]
    y, x = (torch.arange(n) + 0.5 for n in weight.shape)
    assert ((weight.sum(0) @ x) / weight.sum()).item() == pytest.approx(220.5, abs=0.1)
    assert ((weight.sum(1) @ y) / weight.sum()).item() == pytest.approx(77.5, abs=0.1)


def test_a_face_outside_the_frame_changes_nothing():
    frames = noise(1, 3, 50, 60)
    assert torch.equal(paste_back(frames, noise(1, 3, SIZE, SIZE), disc(), placed(-300, 20, 1)), frames)
    assert torch.equal(paste_back(frames, noise(1, 3, SIZE, SIZE), 0 * disc(), placed(30, 20, 1)), frames)


def test_frames_do_not_depend_on_their_batch():
    frames, crops, masks = noise(3, 3, 90, 80), noise(3, 3, SIZE, SIZE, seed=1), disc().expand(3, -1, -1, -1)
    transform = torch.cat([placed(40, 40, 0.8), placed(30, 50, 1.2, 50), placed(60, 20, 0.5)])
    alone = [paste_back(frames[i : i + 1], crops[i : i + 1], masks[i : i + 1], transform[i : i + 1]) for i in range(3)]
    assert torch.equal(paste_back(frames, crops, masks, transform), torch.cat(alone))


def test_equal_pictures_keep_their_colours_exactly():
    picture = noise(2, 3, SIZE, SIZE)
    assert torch.equal(match_colour(picture, picture, disc().expand(2, -1, -1, -1), EVERYWHERE), picture)


def test_a_tinted_and_unevenly_lit_picture_is_matched_inside_the_mask_too():
    source = 0.4 + 0.3 * smooth_frame(SIZE, SIZE)
    light = torch.tensor([0.9, 1.0, 1.1])[None, :, None, None] + torch.linspace(-0.08, 0.08, SIZE)
    generated = source * light
    matched = match_colour(generated, source, disc(), EVERYWHERE)
    assert (matched - source).abs().mean() < 0.2 * (generated - source).abs().mean()


def test_what_differs_inside_the_mask_only_changes_no_colour():
    source, mask = noise(1, 3, SIZE, SIZE), disc()
    generated = torch.where(mask > 0.9, 0.1, source)
    assert torch.equal(match_colour(generated, source, mask, EVERYWHERE), generated)


def test_the_gain_is_bounded():
    source = torch.ones(1, 3, SIZE, SIZE)
    assert match_colour(0.2 * source, source, disc(), EVERYWHERE).max() <= 0.2 * 1.25 + 1e-6


def test_colours_are_compared_beyond_a_hard_edge() -> None:
    source = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    assert (match_colour(0.9 * source, source, mask, EVERYWHERE) - source).abs().max() < 0.01


def test_a_collar_that_moved_does_not_change_the_faces_colour() -> None:
    source, face = 0.4 + 0.3 * smooth_frame(SIZE, SIZE), EVERYWHERE.clone()
    face[..., 48:, :] = 0
    generated = torch.where(face > 0, 0.9 * source, 0.9 * source + 0.3)
    matched = match_colour(generated, source, disc(), face)
    led_astray = match_colour(generated, source, disc(), EVERYWHERE)
    inside = (Ellipsis, slice(16, 44), slice(16, 48))
    assert (matched - source)[inside].abs().max() < 0.01
    assert (led_astray - source)[inside].abs().max() > 0.05


def test_the_sources_own_chin_says_in_what_light_it_is() -> None:
    """The ring says little of it where light falls off downwards; what is no skin, a mouth, says nothing."""
    source = 0.4 + 0.3 * smooth_frame(SIZE, SIZE)
    light = 1 - 0.2 * torch.linspace(0, 1, SIZE)[:, None]
    face, skin = EVERYWHERE.clone(), torch.zeros(1, 1, SIZE, SIZE)
    face[..., 20:, :] = 0  # the ring is seen above the mouth alone
    skin[..., 38:50, 20:44] = 1
    generated = source / light
    generated[..., 24:34, 20:44] = 0
    generated[..., :20, :] += 0.03 * smooth_frame(SIZE, SIZE)[..., 20:40, :]
    chin = (Ellipsis, slice(38, 50), slice(20, 44))
    errors = [(match_colour(generated, source, disc(), face, x) - source)[chin].abs().mean() for x in (None, skin)]
    assert errors[1] < 0.02 and errors[1] < 0.5 * errors[0]


def test_beyond_the_frame_no_colours_are_compared() -> None:
    source = 0.4 + 0.3 * smooth_frame(SIZE, SIZE)
    generated = 0.9 * source
    source[..., 44:, :] = 0  # the crop reaches beyond the frame
    matched = match_colour(generated, source, disc(), EVERYWHERE)
    assert (matched - generated / 0.9)[..., 16:40, 16:48].abs().max() < 0.01


def test_without_a_face_at_the_edge_colours_stay() -> None:
    picture = noise(1, 3, SIZE, SIZE)
    assert torch.equal(match_colour(picture, 0.5 * picture, disc(), 0 * EVERYWHERE), picture)
