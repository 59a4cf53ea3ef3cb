"""Following faces through a video: who is who, and where the mesh looks, smoothed over time.

    f frames   n faces

Every face is meshed twice. The first look, at the detector's region, gives a better region; regions are then
smoothed over time, and the second look, at the smoothed region, gives the points: the mesh answers differently
to every shift of its region, so a calm region means calm points. For the same reason the second look is at the
face and at its mirror image, of which the mean is taken. Smoothing needs a few frames of the future, hence one batch
of frames is held back. Everything happens in batches of a fixed size, so that the result does not depend on how the
video is chunked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..checkpoints import Checkpoint, find_weights, load_checkpoint, of_this_version
from ..devices import pick_device
from .detector import FaceDetector, overlap, region_boxes, tiles
from .graph import Graph
from .mesh import FaceMesh, region_from_points
from .people import EVERY, LOOKS, CutFinder, signatures

BATCH = {"cpu": 8, "cuda": 32, "mps": 16}  # 8 frames fit a CPU's cache: 96 at once take twice as long per frame
MIN_PRESENCE = 0.5
SMOOTH_SIGMA = 2.0  # frames
SMOOTH_RADIUS = 6  # frames; at most the smallest batch, which is what is held back
SAME_FACE = 0.2  # overlap of regions from frame to frame above which a face is the same one
SAME_SHOT = 0.5  # overlap below which a face has jumped: regions are not smoothed across
MAX_FACES = 6  # the largest ones of a frame
SEARCH_SIDE = 2.0  # window around a lost face, in sides of its last region
SEARCH_FRAMES = 25  # for how long it is looked for there
Mesher = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # as `FaceMesh.forward`
TILE_EVERY = 4  # frames: how often an empty frame is searched in tiles


@dataclass(frozen=True)
class FaceLandmarker:
    """Detector and mesh on one device, and how many frames they take at a time: at least `SMOOTH_RADIUS`."""

    detector: FaceDetector
    mesh: FaceMesh
    device: torch.device
    batch: int


def load_face_landmarker(device: str | torch.device = "auto", weights: str = "face_landmarks") -> FaceLandmarker:
    """Load detector and mesh from `weights`; raises InputError when the file is missing or does not fit."""
    device = pick_device(str(device))
    checkpoint = load_checkpoint(find_weights(weights, "face"), "face")
    with of_this_version(checkpoint.path):
        regions = checkpoint.config["regions"]
        detector = FaceDetector(stored_graph(checkpoint, "detector", regions))
        mesh = FaceMesh(stored_graph(checkpoint, "mesh", regions), regions)
        run_once(detector, mesh)
    batch = BATCH.get(device.type, BATCH["cpu"])
    return FaceLandmarker(detector.to(device), mesh.to(device), device, batch)


def stored_graph(checkpoint: Checkpoint, name: str, regions: list[dict[str, Any]]) -> Graph:
    """One of the networks of a checkpoint; its tensors are called `name.…` there."""
    prefix = f"{name}."
    state = {key.removeprefix(prefix): value for key, value in checkpoint.state.items() if key.startswith(prefix)}
    return Graph(checkpoint.config[name], state, regions)


@torch.inference_mode()
def run_once(detector: FaceDetector, mesh: FaceMesh) -> None:
    """Look at a blank picture: a stored graph tells only when it runs what is missing or does not fit."""
    blank = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
    detector(blank)
    mesh(blank, torch.tensor([0]), torch.tensor([[64.0, 64.0, 128.0, 0.0]]))


@dataclass
class Face:
    """One face through time. `regions` and `points` are by frame number; a missing frame is one without it."""

    last: Tensor  # (4,) region
    seen: int  # frame number of `last`
    regions: dict[int, Tensor] = field(default_factory=dict)  # after the first look
    shots: dict[int, int] = field(default_factory=dict)  # counts the jumps
    points: dict[int, Tensor] = field(default_factory=dict)  # (478, 3), after the second look
    signatures: dict[int, Tensor] = field(default_factory=dict)  # (d,), of a few frames after each cut

    @property
    def area(self) -> float:
        """Picture area summed over time: how much of the video this face is."""
        return float(sum(region[2] ** 2 for region in self.regions.values()))

    def look(self, frame: int, region: Tensor) -> None:
        """Keep the region of a first look, and note whether the face has jumped there."""
        shot = 0
        if self.regions:
            before = next(reversed(self.regions))
            shot = self.shots[before] + (not overlaps(self.regions[before], region, SAME_SHOT))
        self.regions[frame], self.shots[frame] = region, shot

    def unsigned(self, frame: int, start: int) -> bool:
        """Whether a signature is wanted at `frame` of the shot that starts with the frame `start`."""
        signed = [at for at in self.signatures if at >= start]
        return len(signed) < LOOKS and all(frame - at >= EVERY for at in signed)

    def smooth_region(self, frame: int) -> Tensor | None:
        """The region at `frame`, fitted to those around it but never across a jump; None far from any."""
        near = [i for i in range(frame - SMOOTH_RADIUS, frame + SMOOTH_RADIUS + 1) if i in self.regions]
        if not near:
            return None
        shot = self.shots[min(near, key=lambda i: abs(i - frame))]
        near = [i for i in near if self.shots[i] == shot]
        regions = torch.stack([self.regions[i] for i in near])
        parts = torch.cat([regions[:, :3], regions[:, 3:].cos(), regions[:, 3:].sin()], 1)
        x, y, side, c, s = smoothing_weights(torch.tensor(near) - frame) @ parts
        return torch.stack([x, y, side, torch.atan2(s, c)])


def smoothing_weights(offset: Tensor) -> Tensor:
    """Weights `(n,)` of values at `offset (n,)` frames for their smooth value at 0: a Gaussian-weighted line.

    In the middle of a shot that is the Gaussian mean; at its ends a mean would lag behind a moving face. A line is
    not continued beyond the values.
    """
    weight = torch.exp(-0.5 * (offset / SMOOTH_SIGMA) ** 2)
    weight = weight / weight.sum()
    centre = weight @ offset.float()
    spread = weight @ (offset - centre) ** 2
    if spread == 0 or offset.min() > 0 or offset.max() < 0:
        return weight
    return weight * (1 - centre * (offset - centre) / spread)


def overlaps(a: Tensor, b: Tensor, threshold: float) -> bool:
    return bool(overlap(region_boxes(a[None]), region_boxes(b[None])) >= threshold)


class Tracker:
    """Takes batches of frames in order, holds one back; afterwards `faces` has all faces of the video.

    tracker = Tracker(landmarker)
    for frames in batches:          # uint8 (f, h, w, 3), all but the last of landmarker.batch frames
        tracker.push(frames)
    tracker.finish()
    """

    def __init__(self, landmarker: FaceLandmarker):
        self.landmarker = landmarker
        self.faces: list[Face] = []
        self.frames = 0
        self.held: Tensor | None = None
        self.starts, self.cuts = [0], CutFinder()  # first frames of shots

    @torch.inference_mode()
    def push(self, frames: Tensor) -> None:
        frames = frames.to(self.landmarker.device).contiguous()
        self.starts += [self.frames + frame for frame in self.cuts.push(frames)]
        looks = self.assign(frames)
        self.first_look(frames, looks)
        self.frames += len(frames)
        self.finish(upcoming=len(frames))
        self.held = frames

    @torch.inference_mode()
    def finish(self, upcoming: int = 0) -> None:
        """Second look at the frames held back, which end `upcoming` frames before the last one pushed."""
        if self.held is None:
            return
        first = self.frames - upcoming - len(self.held)
        looks = [
            (frame, face, region)
            for frame in range(len(self.held))
            for face in self.faces
            if (region := face.smooth_region(first + frame)) is not None
        ]
        for (frame, face, _), points in self.present(self.held, looks, self.landmarker.mesh.both_ways):
            face.points[first + frame] = points.clone()
            start = max(start for start in self.starts if start <= first + frame)
            if face.unsigned(first + frame, start) or first + frame + 1 in self.starts:
                face.signatures[first + frame] = signatures(self.held[frame : frame + 1], points[None])[0]
        self.held = None

    def first_look(self, frames: Tensor, looks: list[tuple[int, Face, Tensor]]) -> None:
        for (frame, face, _), points in self.present(frames, looks, self.landmarker.mesh):
            face.look(self.frames + frame, region_from_points(points[None])[0])

    def present(
        self, frames: Tensor, looks: list[tuple[int, Face, Tensor]], mesh: Mesher
    ) -> Iterator[tuple[tuple[int, Face, Tensor], Tensor]]:
        """Mesh each look (frame, face, region); yields those where there is a face, with its points."""
        if not looks:
            return
        index = torch.tensor([frame for frame, _, _ in looks])
        points, presence = mesh(frames, index, torch.stack([region for _, _, region in looks]))
        for look, found, probability in zip(looks, points, presence.tolist(), strict=True):
            if probability >= MIN_PRESENCE:
                yield look, found

    def assign(self, frames: Tensor) -> list[tuple[int, Face, Tensor]]:
        """Detect all faces of a batch and say whose they are: (frame within the batch, face, region)."""
        looks = []
        for i, found in enumerate(self.landmarker.detector(frames)):
            largest = found[:, 2].argsort(descending=True, stable=True)[:MAX_FACES]
            for face, region in self.who(frames[i], self.frames + i, found[largest, :4]):
                face.last, face.seen = region, self.frames + i
                looks.append((i, face, region))
        return looks

    def who(self, frame: Tensor, number: int, regions: Tensor) -> list[tuple[Face, Tensor]]:
        """Pair the regions `(n, 4)` found in one frame with faces, looking closer where a face is missing."""
        pairs, regions = match(self.faces, regions, SAME_FACE)
        for face in self.lost(number, pairs):
            pairs += self.search_near(frame, face, pairs)
        if not pairs and not len(regions) and number % TILE_EVERY == 0:
            regions = self.landmarker.detector.search(frame, tiles(*frame.shape[:2]))[:MAX_FACES, :4]
            pairs, regions = match(self.faces, regions, SAME_FACE)
        if not pairs:  # a cut, or a return: nobody is where anybody was
            pairs, regions = match(self.faces, regions, -1.0)
        for region in regions[regions[:, 0].argsort()]:
            self.faces.append(Face(region, number))
            pairs.append((self.faces[-1], region))
        return pairs

    def lost(self, number: int, pairs: list[tuple[Face, Tensor]]) -> list[Face]:
        """Faces seen lately that nothing in this frame was paired with."""
        here = [id(face) for face, _ in pairs]
        return [face for face in self.faces if id(face) not in here and number - face.seen <= SEARCH_FRAMES]

    def search_near(self, frame: Tensor, face: Face, pairs: list[tuple[Face, Tensor]]) -> list[tuple[Face, Tensor]]:
        """Detect once more in a window around the face's last place, where it appears larger."""
        window = face.last * face.last.new_tensor([1.0, 1.0, SEARCH_SIDE, 0.0])
        found = self.landmarker.detector.search(frame, window[None])[:, :4]
        free = [region for region in found if not any(overlaps(region, other, SAME_FACE) for _, other in pairs)]
        return match([face], torch.stack(free), SAME_FACE)[0] if free else []


def match(faces: list[Face], regions: Tensor, threshold: float) -> tuple[list[tuple[Face, Tensor]], Tensor]:
    """Pair faces and regions, most overlapping first, down to `threshold`; also returns the regions left over.

    Without overlap the nearest counts, relative to its size; a negative threshold pairs whatever there is.
    """
    pairs, left = [], list(range(len(regions)))
    if not faces or not left:
        return [], regions
    last = torch.stack([face.last for face in faces])
    score = overlap(region_boxes(last), region_boxes(regions))
    distance = (last[:, None, :2] - regions[None, :, :2]).norm(dim=-1) / last[:, None, 2]
    score = torch.where(score > 0, score, -distance / (1 + distance))
    while score.max() >= threshold:
        row, column = divmod(int(score.argmax()), score.shape[1])
        pairs.append((faces[row], regions[column]))
        left.remove(column)
        score[row], score[:, column] = -2.0, -2.0
    return pairs, regions[left]
