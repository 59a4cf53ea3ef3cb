"""The demo actor: a still NASA portrait (public domain) that turns its head, blinks and moves its mouth.

    python scripts/make_demo_actor.py -o demo/actor.mp4

Three maps from the picture of a frame back to the still are composed and sampled once: head turn (parallax over a
smooth depth map), expression (the face mesh moved to new landmarks), and, inside the lips, the upper teeth, which
stay with the skull while the lips move over them. Lengths of the mouth are canonical centimetres.

    f frames   n points   s picture side in pixels
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut
from torch import Tensor
from tqdm import tqdm

from comfyui_mytalk.appearance.warp import reference_flow
from comfyui_mytalk.landmarks.canonical import fit_pose, from_canonical, to_canonical
from comfyui_mytalk.landmarks.sets import contour, landmark_set
from comfyui_mytalk.landmarks.track import load_face_landmarker, track_faces
from comfyui_mytalk.video.writer import VideoWriter

SIZE, FPS, SECONDS = 512, 25, 6.0
PORTRAIT_BOX = (96, 0, 360, 264)  # of scikit-image's astronaut, pixels: head and collar
HEAD_CENTRE, HEAD_RADII = (252.0, 195.0), (150.0, 172.0)  # the hair's outline as an ellipse, pixels of the crop
NECK, PIVOT_DEPTH = (
    (252.0, 385.0),
    95.0,
)  # the head rolls about the neck and turns about an axis this far behind the face
CAVITY = torch.tensor([0.20, 0.08, 0.07])[:, None, None]  # behind the teeth
LIP_LINE = torch.tensor([0.44, 0.23, 0.20])[:, None, None]  # the shadow between closed lips
LASHES = torch.tensor([0.26, 0.18, 0.15])[:, None, None]
UPPER_INNER = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER_INNER = (95, 88, 178, 87, 14, 317, 402, 318, 324)
UPPER_OUTER = (185, 40, 39, 37, 0, 267, 269, 270, 409)
LOWER_OUTER = (146, 91, 181, 84, 17, 314, 405, 321, 375)
CORNERS = ((61, 76, 62, 78), (291, 306, 292, 308))
CHIN = (152, 148, 377, 176, 400, 175, 199, 200, 18, 83, 313, 201, 421)
JAW = (149, 378, 150, 379, 136, 365)
EYES = (  # upper lid, the lower lid under it, and the crease above
    ((246, 161, 160, 159, 158, 157, 173), (7, 163, 144, 145, 153, 154, 155)),
    ((466, 388, 387, 386, 385, 384, 398), (249, 390, 373, 374, 380, 381, 382)),
)
BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285)


@dataclass(frozen=True)
class Performance:
    """What the actor does, one number per frame: head angles in radians, mouth in centimetres, the rest 0..1."""

    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    opening: np.ndarray  # inner lips at the middle, cm
    spread: np.ndarray  # 1 the still's smile, 0 at rest, -1 puckered
    blink: np.ndarray
    brow: np.ndarray  # cm


def perform(frames: int, seed: int = 3) -> Performance:
    """Slow head sway and invented syllables: two phrases with a pause between them."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / FPS
    opening, spread = np.zeros(frames), np.full(frames, 0.1)
    for start, stop in ((0.35, 2.6), (3.1, 5.6)):
        for middle in np.arange(start, stop, 0.22) + rng.uniform(-0.03, 0.03, len(np.arange(start, stop, 0.22))):
            opening += _bump(t, middle, 0.13) * rng.choice([0.4, 0.9, 1.5, 2.1])
            spread += _bump(t, middle, 0.2) * rng.uniform(-0.9, 0.35)
    blink = sum(_bump(t, middle, 0.14) for middle in (0.9, 3.0, 4.7))
    return Performance(
        yaw=np.radians(6) * np.sin(2 * np.pi * t / 4.3 + 0.4) * (0.75 + 0.25 * np.cos(2 * np.pi * t / 2.9)),
        pitch=np.radians(2.5) * np.sin(2 * np.pi * t / 3.1 + 1.3) + np.radians(1.0) * np.sin(2 * np.pi * t / 1.3),
        roll=np.radians(1.8) * np.sin(2 * np.pi * t / 5.2 - 0.6),
        opening=gaussian_filter(opening, 0.8).clip(0, 2.0),
        spread=gaussian_filter(spread, 1.5).clip(-0.8, 0.8),
        blink=np.clip(blink * 1.1, 0, 1),
        brow=0.22 * (_bump(t, 1.9, 0.5) + _bump(t, 4.1, 0.45)),
    )


def _bump(t: np.ndarray, middle: float, half: float) -> np.ndarray:
    """Raised cosine of height 1 around `middle`, seconds."""
    return 0.5 + 0.5 * np.cos(np.pi * np.clip((t - middle) / half, -1, 1))


class Actor:
    """The still, its landmarks, and the pictures it can be moved to."""

    def __init__(self, still: Tensor, points: Tensor) -> None:
        """`still (3, s, s)` 0..1, `points (478, 3)` pixels."""
        ring = points[contour("lips_inner_ring"), :2]
        self.still, self.points = still, points
        self.toothless = _paint(still, LIP_LINE, _polygon_mask(ring, blur=1.0, grow=1))
        eyes = [_polygon_mask(points[[*upper, *reversed(lower)], :2], blur=0.7) for upper, lower in EYES]
        self.lidded = _paint(self.toothless, LASHES, sum(eyes))
        self.pose = fit_pose(points[None])
        self.face = to_canonical(points[None], self.pose)[0].double().numpy()  # (478, 3) cm
        self.depth = _depth_map(points)
        self.head_weight = _head_weight()
        self.face_weight = _face_weight(points)
        self.teeth = _polygon_mask(ring, blur=0.8)

    def frame(self, performance: Performance, index: int) -> Tensor:
        """The picture `(3, s, s)` 0..1 of one moment."""
        moment = {name: float(values[index]) for name, values in vars(performance).items()}
        head = self._head_map(moment["yaw"], moment["pitch"], moment["roll"])
        target = self._expression(moment)
        flow = reference_flow(self.points[None, None, :, :2], target[None, :, :2], SIZE, grid=SIZE)[0, 0]
        flow = torch.from_numpy(gaussian_filter(flow.numpy(), (0, 0.8, 0.8)))  # no stairs along lips and lids
        expressed = head + _sample(flow * self.face_weight, head)
        picture = _sample(torch.lerp(self.toothless, self.lidded, moment["blink"]), expressed)
        lips = target[contour("lips_inner_ring"), :2]
        inside = _sample(_polygon_mask(lips, blur=0.7), head)
        return _paint(picture, self._mouth(head, lips), inside)

    def _mouth(self, head: Tensor, lips: Tensor) -> Tensor:
        """Upper teeth over the cavity `(3, s, s)`, both shaded towards the lips."""
        teeth = _sample(self.teeth, head)
        shade = 0.35 + 0.65 * _sample(_polygon_mask(lips, blur=4.0), head).clamp(0, 1)
        return _paint(CAVITY, _sample(self.still, head), teeth) * shade

    def _head_map(self, yaw: float, pitch: float, roll: float) -> Tensor:
        """For each pixel of the frame, the pixel of the unturned picture `(2, s, s)`."""
        here = _pixel_centres()
        neck = torch.tensor(NECK)[:, None, None]
        arm = here - neck
        turn = torch.stack([self.depth * np.sin(yaw) - arm[1] * roll, self.depth * np.sin(pitch) + arm[0] * roll])
        return here - turn * self.head_weight

    def _expression(self, moment: dict[str, float]) -> Tensor:
        """Landmarks `(478, 3)` pixels of the still's pose with another mouth, lids and brows."""
        control, shift = _controls(self.face, moment)
        still_points = [i for i in landmark_set("upper").tolist() if i < 468 and i not in control]
        index = np.array([*control, *still_points])
        values = np.concatenate([np.array(shift), np.zeros((len(still_points), 2))])
        field = RBFInterpolator(self.face[index, :2], values, kernel="linear", smoothing=1e-3)
        moved = self.face.copy()
        moved[:, :2] += field(self.face[:, :2])
        moved[list(control), :2] = self.face[list(control), :2] + np.array(shift)
        return from_canonical(torch.from_numpy(moved).float()[None], self.pose)[0]


def _controls(face: np.ndarray, moment: dict[str, float]) -> tuple[list[int], list[np.ndarray]]:
    """Points that the performance moves, and by how much: `(n, 2)` canonical cm."""
    shift: dict[int, np.ndarray] = {}
    opening, spread = moment["opening"], moment["spread"]
    gap = face[list(UPPER_INNER), 1] - face[list(LOWER_INNER), 1]
    middle = face[13, 0]
    seam = face[list(UPPER_INNER), 1] - 0.4 * gap
    share = gap / gap.max()
    upper = seam + 0.22 * opening * share - face[list(UPPER_INNER), 1]
    lower = seam - 0.78 * opening * share - face[list(LOWER_INNER), 1]
    narrow = 0.19 * (1 - spread)
    for ring, dy, follow in ((UPPER_INNER, upper, 1.0), (LOWER_INNER, lower, 1.0), (UPPER_OUTER, upper, 0.6)):
        shift |= {i: np.array([(middle - face[i, 0]) * narrow, d * follow]) for i, d in zip(ring, dy, strict=True)}
    dy = np.where(lower > 0, 0.55 * lower, 0.9 * lower)
    shift |= {i: np.array([(middle - face[i, 0]) * narrow, d]) for i, d in zip(LOWER_OUTER, dy, strict=True)}
    for side in CORNERS:
        shift |= {i: np.array([(middle - face[i, 0]) * narrow, -0.3 * (1 - spread) - 0.12 * opening]) for i in side}
    drop = min(0.0, float(lower[4]))
    shift |= {i: np.array([0.0, 0.9 * drop]) for i in CHIN}
    shift |= {i: np.array([0.0, 0.55 * drop]) for i in JAW}
    shift |= {i: np.array([0.0, moment["brow"]]) for i in BROWS}
    for lid, under in EYES:
        shift |= {i: moment["blink"] * 0.97 * (face[j, :2] - face[i, :2]) for i, j in zip(lid, under, strict=True)}
        shift |= {j: np.zeros(2) for j in under}
    return list(shift), list(shift.values())


def _pixel_centres() -> Tensor:
    centre = torch.arange(SIZE) + 0.5
    return torch.stack(torch.meshgrid(centre, centre, indexing="xy"))


def _sample(picture: Tensor, place: Tensor) -> Tensor:
    """`picture (c, s, s)` at pixels `place (2, s, s)`."""
    grid = place.permute(1, 2, 0)[None] * (2 / SIZE) - 1
    return F.grid_sample(picture[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]


def _depth_map(points: Tensor) -> Tensor:
    """Pixels towards the camera from the axis the head turns about `(s, s)`: mesh in the face, round beyond it."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    outline = np.stack(
        [HEAD_CENTRE[0] + HEAD_RADII[0] * np.cos(angle), HEAD_CENTRE[1] + HEAD_RADII[1] * np.sin(angle)], 1
    )
    face = points[:468].double().numpy()
    place = np.concatenate([face[:, :2], outline, outline * 1.4 - np.array(HEAD_CENTRE) * 0.4])
    depth = np.concatenate([PIVOT_DEPTH - face[:, 2], np.zeros(2 * len(outline))])
    coarse = (np.arange(0, SIZE, 8) + 4.0).astype(float)
    grid = np.stack(np.meshgrid(coarse, coarse, indexing="xy"), -1).reshape(-1, 2)
    values = RBFInterpolator(place, depth, kernel="linear", smoothing=2.0)(grid).reshape(len(coarse), -1)
    smooth = torch.from_numpy(gaussian_filter(values, 1.0)).float()[None, None]
    return F.interpolate(smooth, size=(SIZE, SIZE), mode="bicubic", align_corners=False)[0, 0]


def _head_weight() -> Tensor:
    """1 on the head, falling to 0 in the background and down the neck `(s, s)`."""
    x, y = _pixel_centres()
    radius = torch.hypot((x - HEAD_CENTRE[0]) / HEAD_RADII[0], (y - HEAD_CENTRE[1]) / HEAD_RADII[1])
    return _fall(radius, 1.02, 1.65) * _fall(y, 320, 430)


def _face_weight(points: Tensor) -> Tensor:
    """1 on the face, falling to 0 a little outside of its oval: an expression must not stir hair or background."""
    oval = points[contour("face_oval_ring"), :2]
    low, high = oval.amin(0), oval.amax(0)
    offset = (_pixel_centres() - ((low + high) / 2)[:, None, None]) / ((high - low) / 2)[:, None, None]
    return _fall(offset.norm(dim=0), 1.05, 1.45)


def _fall(x: Tensor, start: float, stop: float) -> Tensor:
    u = ((x - start) / (stop - start)).clamp(0, 1)
    return 1 - u * u * (3 - 2 * u)


def _paint(picture: Tensor, over: Tensor, mask: Tensor) -> Tensor:
    return picture + (over - picture) * mask


def _polygon_mask(points: Tensor, blur: float, grow: int = 0) -> Tensor:
    """Soft mask `(1, s, s)` of a closed ring of pixels `(n, 2)`, `grow` pixels wider."""
    scale = 4
    picture = Image.new("L", (SIZE * scale, SIZE * scale))
    ring = [(x * scale, y * scale) for x, y in points.tolist()]
    ImageDraw.Draw(picture).polygon(ring, fill=255, outline=255, width=1 + 2 * grow * scale)
    mask = np.asarray(picture.reduce(scale), dtype=np.float32) / 255
    return torch.from_numpy(gaussian_filter(mask, blur))[None]


def portrait() -> np.ndarray:
    """The still `(s, s, 3)` uint8."""
    return np.array(Image.fromarray(astronaut()).resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=PORTRAIT_BOX))


def main() -> None:
    parser = argparse.ArgumentParser(description="Animate a public-domain portrait into the demo actor.")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo/actor.mp4"))
    parser.add_argument("--crf", type=int, default=16, help="H.264 quality, lower is better (default 16)")
    parser.add_argument("--portrait", type=Path, help="also write the still, unmoved, here")
    options = parser.parse_args()
    still = portrait()
    if options.portrait:
        Image.fromarray(still).save(options.portrait, quality=95)
    track = track_faces([(still[None].repeat(5, 0), np.arange(5) / FPS)], load_face_landmarker("cpu"))
    actor = Actor(torch.from_numpy(still).permute(2, 0, 1).float() / 255, track.points[2])
    frames = int(SECONDS * FPS)
    performance = perform(frames)
    with VideoWriter(options.output, SIZE, SIZE, FPS, crf=options.crf) as writer:
        for index in tqdm(range(frames), unit="frame"):
            picture = actor.frame(performance, index).clamp(0, 1).mul(255).round().byte()
            writer.write(picture.permute(1, 2, 0)[None].numpy())


if __name__ == "__main__":
    main()
