import pytest
import torch
import torch.nn.functional as F
from mouths import face

from comfyui_mytalk.appearance import warp
from comfyui_mytalk.appearance.inside import between, inner_lips
from comfyui_mytalk.appearance.warp import align_references, move_pictures, reference_flow
from comfyui_mytalk.landmarks.sets import landmark_set


def waves(size: int = 256) -> torch.Tensor:
    """A smooth picture `(3, s, s)` that differs everywhere."""
    centres = torch.arange(size) + 0.5
    return picture_at(torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1))


def picture_at(places: torch.Tensor) -> torch.Tensor:
    x, y = places.unbind(-1)
    return torch.stack([(x / 17).sin(), (y / 23).cos(), ((x + y) / 29).sin()]) / 2 + 0.5


def flow_at(flow: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """`flow (2, s, s)` read at `places (n, 2)` -> `(n, 2)`."""
    grid = (places * 2 / flow.shape[-1] - 1)[None, None]
    return F.grid_sample(flow[None], grid, padding_mode="border", align_corners=False)[0, :, 0].T


def test_moved_pictures_are_fetched_from_where_the_flow_points():
    picture = torch.rand(2, 3, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    flow = torch.zeros(2, 3, 2, 20, 24)
    flow[:, :, 0], flow[:, :, 1] = 3, -2
    moved = move_pictures(picture, flow)
    torch.testing.assert_close(moved[..., 2:, :21], picture[..., :18, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(move_pictures(picture, 0 * flow), picture, atol=1e-5, rtol=0)


def test_the_identity_leaves_the_picture_alone():
    points = face(1.0)[None]
    warped = align_references(waves()[None, None], points[:, None], points)
    assert (warped[0, 0] - waves()).abs().max() < 0.1 / 255


def test_an_affine_motion_of_the_face_moves_the_picture_by_it():
    turn = torch.tensor([[0.98, -0.06], [0.06, 1.03]])
    target = face(1.0)
    reference = (target - 128) @ turn.T + 128 + torch.tensor([4.0, -3.0])
    warped = align_references(waves()[None, None], reference[None, None], target[None])[0, 0]
    centres = torch.arange(256) + 0.5
    places = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1)
    expected = picture_at((places - 128) @ turn.T + 128 + torch.tensor([4.0, -3.0]))
    assert (warped - expected)[:, 60:180, 80:176].abs().max() < 0.01


def test_one_moved_point_moves_the_picture_there_and_nowhere_else():
    target, reference = face(0.5), face(0.5)
    reference[17] += torch.tensor([3.0, 2.0])  # below the lower lip
    flow = reference_flow(reference[None, None], target[None], 256)[0, 0]
    assert torch.allclose(flow_at(flow, target[17:18]), torch.tensor([[3.0, 2.0]]), atol=0.5)
    assert flow_at(flow, target[[1, 33, 152, 234]]).abs().max() == 0


@pytest.mark.parametrize(("before", "after"), [(0.0, 2.5), (2.5, 0.0), (0.0, 0.0), (2.5, 1.0)])
def test_lips_land_on_the_targets_lips_for_closed_and_open_mouths(before, after):
    reference, target = face(before), face(after)
    flow = reference_flow(reference[None, None], target[None], 256)[0, 0]
    assert flow.isfinite().all()
    rim = landmark_set("lips_outer")
    assert (flow_at(flow, target[rim]) - (reference - target)[rim]).norm(dim=-1).max() < 1.5


def test_a_mouth_that_is_closed_shows_nothing_of_its_inside():
    opened, closed = face(2.5), face(0.0)
    inside = between(*inner_lips(opened[None], (0, 0), (256, 256)))[:, None]
    assert (inside > 0.5).sum() > 500
    warped = align_references(inside.expand(1, 3, -1, -1)[None], opened[None, None], closed[None])
    assert (warped[0, 0, 0] > 0.5).sum() < 20  # the line between the lips at most


def test_a_batch_gives_what_each_target_gives_alone():
    generator = torch.Generator().manual_seed(0)
    targets = torch.stack([face(opening, 128) for opening in (0.0, 1.0, 2.0)])
    references = torch.stack([face(opening, 128) for opening in (0.3, 1.7)]).expand(3, -1, -1, -1)
    references = references + torch.randn(references.shape, generator=generator)
    images = torch.rand(3, 2, 3, 128, 128, generator=generator)
    together = align_references(images, references, targets)
    alone = [align_references(images[i : i + 1], references[i : i + 1], targets[i : i + 1]) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


def test_a_window_shows_a_part_of_the_whole():
    reference, target = face(0.0)[None, None], face(2.0)[None]
    whole = align_references(waves()[None, None], reference, target)
    window = align_references(waves()[None, None], reference, target, (96, 251, 32, 222))
    assert torch.allclose(window, whole[..., 96:251, 32:222], atol=1e-3)


def test_a_face_that_is_cut_by_the_crop_or_turned_away_stays_defined():
    target = face(1.0)
    turned = target.clone()
    turned[:, 0] = 40 + (target[:, 0] - 128) * 0.1  # nearly in profile, partly beyond the crop
    flow = reference_flow(torch.stack([target, turned + 60])[None], turned[None], 256)
    assert flow.isfinite().all()
    assert flow.abs().max() < 400


def test_what_faces_the_camera_hides_what_is_turned_away():
    """Two triangles over the same cells, in any order: the far cheek of a turned head lies behind the near one."""
    corners = torch.tensor([[[0.0, 0.0], [0.0, 8.0], [8.0, 0.0]]])
    towards, away = [0, 1, 2], [0, 2, 1]
    for order in ([towards, away], [away, towards]):
        _, cells, on_top, _ = warp._rasterise(corners, torch.tensor(order), (8, 8))
        assert len(cells) > 20 and all(order[i] == towards for i in on_top.tolist())


def test_lips_that_fold_over_skin_have_a_soft_edge(monkeypatch):
    """A wide mouth pushes the lower lip over the skin below, where the map jumps: an edge of stairs, else."""
    reference, target = face(0.3), face(0.3)
    below = landmark_set("lips_outer")[(target[landmark_set("lips_outer"), 1] > target[14, 1])]
    target[below, 1] += 14.0
    rows = torch.arange(256) + 0.5
    lip = (rows > reference[14, 1] - 1) & (rows < reference[17, 1])
    picture = torch.where(lip, 0.0, 1.0)[:, None].expand(3, 256, 256)

    def hard_steps() -> int:
        """Columns beside the middle in which lip and skin meet without a shade between."""
        moved = align_references(picture[None, None], reference[None, None], target[None])[0, 0, 0]
        under = moved[int(target[17, 1]) - 12 : int(target[17, 1]) + 12, 118:139]
        return int((under.diff(dim=0).abs() > 0.8).any(0).sum())

    assert hard_steps() == 0
    monkeypatch.setattr(warp, "JUMP", (1e6, 2e6))
    assert hard_steps() > 5, "the test does see stairs"
