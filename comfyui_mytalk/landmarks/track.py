"""A face through a video: what every later step reads.

f frames   n points (478)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import InputError
from ..stages import Progress
from .align import crop_transform
from .canonical import Pose, fit_pose
from .people import SAME, tell_apart
from .sets import POINTS
from .tracker import Face, FaceLandmarker, Tracker, load_face_landmarker

__all__ = ["FaceTrack", "load_face_landmarker", "parse_choice", "track_faces"]

Choice = Literal["largest"] | int | tuple[float, float]  # an index (see `track_faces`), or the place of the face
MAX_GAP = 0.3  # seconds: longer gaps are not guessed
MIN_SHARE = 0.05  # of the frames of the most frequent face: a face seen more rarely is a false alarm
JUMP = 0.35  # face widths from one frame to the next: more is a cut


@dataclass(frozen=True)
class FaceTrack:
    """Landmarks of one face, one row per frame of the video.

    points `(f, 478, 3)` pixels, found `(f,)` bool, times `(f,)` float64 seconds, size `(height, width)` pixels.
    Where the face was not found, `points` are interpolated (`filled`) or held from the nearest found frame. `people
    (f,)` int says whose face it is, where cuts show several; None is one person.
    """

    points: Tensor
    found: Tensor
    times: Tensor
    size: tuple[int, int]
    filled: Tensor | None = None
    people: Tensor | None = None

    def __len__(self) -> int:
        return len(self.points)

    @property
    def usable(self) -> Tensor:
        """`(f,)` bool: found, or interpolated over a short gap."""
        return self.found if self.filled is None else self.found | self.filled

    @property
    def count(self) -> int:
        """How many people the usable frames show."""
        return 1 if self.people is None else len(self.people[self.usable].unique())

    @cached_property
    def pose(self) -> Pose:
        """Head pose per frame; depends on the upper face only."""
        return fit_pose(self.points)

    @cached_property
    def shots(self) -> Tensor:
        """`(f,)` int: counts the jumps up to each frame; nothing may be smoothed from one shot into the next."""
        jump = torch.cat([torch.zeros(1, dtype=torch.bool), jumped(self.points[:-1], self.points[1:])])
        return jump.long().cumsum(0)

    @cached_property
    def transform(self) -> Tensor:
        """`(f, 2, 3)` crop pixels -> frame pixels, smoothed within each shot (`align.crop_transform`)."""
        return torch.cat([crop_transform(self.pose[self.shots == shot]) for shot in self.shots.unique()])

    def replace(self, **changes: Any) -> FaceTrack:
        """A copy with some fields changed, for example `points`."""
        return replace(self, **changes)

    def __getitem__(self, frames: slice | Tensor) -> FaceTrack:
        """The track of some frames, or of all in another order; a number in `frames` may come again."""
        filled, people = (None if rows is None else rows[frames] for rows in (self.filled, self.people))
        return FaceTrack(self.points[frames], self.found[frames], self.times[frames], self.size, filled, people)

    def each_person(self) -> Iterator[tuple[FaceTrack, Tensor]]:
        """For everybody whom the track shows: the track in which only their frames are usable, and these `(f,)` bool.

        People without a usable frame are left out.
        """
        people = torch.zeros(len(self), dtype=torch.long) if self.people is None else self.people
        for person in people[self.usable].unique().tolist():
            own = people == person
            filled = None if self.filled is None else self.filled & own
            yield self.replace(found=self.found & own, filled=filled, people=None), own

    def fill_gaps(self, max_seconds: float = MAX_GAP, starts: Sequence[int] = ()) -> FaceTrack:
        """Interpolate linearly over gaps of at most `max_seconds` within a shot; longer ones stay unusable.

        `starts` are the first frames of shots: what is shown for a moment in between, a black frame for one, has no
        face to be guessed.
        """
        known, cut = self.found.nonzero()[:, 0], torch.zeros_like(self.found)
        cut[list(starts)] = True
        points, filled = self.points[_nearest(known, len(self))].clone(), torch.zeros_like(self.found)
        for before, after in zip(known[:-1].tolist(), known[1:].tolist(), strict=True):
            if after - before < 2 or self.times[after] - self.times[before] > max_seconds + 1e-6:
                continue
            if cut[before + 1 : after + 1].any():
                continue
            if jumped(self.points[before : before + 1], self.points[after : after + 1])[0]:
                continue
            if self.people is not None and self.people[before] != self.people[after]:
                continue
            gap = slice(before + 1, after)
            share = (self.times[gap] - self.times[before]) / (self.times[after] - self.times[before])
            points[gap] = torch.lerp(self.points[before], self.points[after], share.to(points.dtype)[:, None, None])
            filled[gap] = True
        return self.replace(points=points, filled=filled)


def _nearest(known: Tensor, count: int) -> Tensor:
    """Which of the rising numbers `known (k,)` is nearest to each of 0 to `count` - 1, `(count,)`."""
    at = torch.arange(count)
    after = torch.searchsorted(known, at).clamp(max=len(known) - 1)
    before, after = known[(after - 1).clamp_min(0)], known[after]
    return torch.where(at - before <= after - at, before, after)


def jumped(before: Tensor, after: Tensor) -> Tensor:
    """`(f,)` bool: whether the face of `before (f, 478, 3)` cannot have moved to `after` within a frame."""
    low, high = before[..., :2].amin(1), before[..., :2].amax(1)
    width = (high - low).amax(-1)
    growth = (after[..., :2].amax(1) - after[..., :2].amin(1)).amax(-1) / width
    moved = (after[..., :2].mean(1) - before[..., :2].mean(1)).norm(dim=-1) / width
    return (moved > JUMP) | (growth > 1 + JUMP) | (growth < 1 / (1 + JUMP))


def track_faces(
    chunks: Iterable[tuple[Any, Any]],
    landmarker: FaceLandmarker,
    choice: Choice = "largest",
    progress: Progress = None,
    total: int = 0,
) -> FaceTrack:
    """Follow one face through a video that comes in `chunks` of (uint8 `(n, h, w, 3)`, times `(n,)` seconds).

    The result does not depend on how the video is chunked, and only two batches of frames are ever held.
    `choice` picks among several faces: "largest" (most picture area over the whole video), an index from 0
    (in order of first appearance, from left to right), or the place `(x, y)` in pixels of the face when it first
    appears. `progress` is called with (frames done, `total`). Short gaps are filled.

    Raises InputError when there is no frame, no face anywhere, or no face of that index.
    """
    tracker, times = Tracker(landmarker), []
    size = (0, 0)
    for frames, stamps in rebatch(chunks, landmarker.batch):
        tracker.push(frames)
        times.append(stamps)
        size = (frames.shape[1], frames.shape[2])
        if progress is not None:
            progress(tracker.frames, total)
    if not times:
        raise InputError("got a video without frames, expected at least one; check the start and duration")
    tracker.finish()
    face = choose_face(tracker.faces, choice)
    track = build_track(face, torch.cat(times), size)
    return track.replace(people=people_of(face, tracker.starts, len(track))).fill_gaps(starts=tracker.starts)


def rebatch(chunks: Iterable[tuple[Any, Any]], batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut the frames and times of `chunks` anew, into batches of exactly `batch` (the last may be shorter)."""
    frames, times, count = [], [], 0
    for chunk, stamps in chunks:
        chunk, stamps = torch.as_tensor(chunk), torch.as_tensor(stamps, dtype=torch.float64)
        while len(chunk):
            take = batch - count
            frames.append(chunk[:take])
            times.append(stamps[:take])
            count += len(frames[-1])
            chunk, stamps = chunk[take:], stamps[take:]
            if count == batch:
                yield (frames[0] if len(frames) == 1 else torch.cat(frames)), torch.cat(times)
                frames, times, count = [], [], 0
    if count:
        yield torch.cat(frames), torch.cat(times)


def choose_face(faces: list[Face], choice: Choice) -> Face:
    """The chosen face; false alarms, which are seen in few frames only, do not count."""
    longest = max((len(face.points) for face in faces), default=0)
    if not longest:
        raise InputError(
            "no face found in the video: use one where a face looks roughly at the camera and is not tiny; best is a "
            "tenth of the frame's height or more"
        )
    faces = [face for face in faces if len(face.points) >= max(1, MIN_SHARE * longest)]
    if choice == "largest":
        return max(faces, key=lambda face: face.area)
    faces.sort(key=lambda face: (min(face.points), first_place(face)[0]))
    if isinstance(choice, int):
        if not 0 <= choice < len(faces):
            spare = "0" if len(faces) == 1 else f"0 to {len(faces) - 1}"
            raise InputError(f"got face {choice}, but the video shows {len(faces)}; use {spare}, or largest")
        return faces[choice]
    x, y = choice
    return min(faces, key=lambda face: (first_place(face)[0] - x) ** 2 + (first_place(face)[1] - y) ** 2)


def first_place(face: Face) -> tuple[float, float]:
    """Centre of a face where it was first found, pixels."""
    x, y = face.points[min(face.points)][:, :2].mean(0).tolist()
    return x, y


def parse_choice(text: str) -> Choice:
    """Read a choice as people type it: `largest`, an index, or `x,y`; raises InputError for anything else."""
    try:
        numbers = [float(part) for part in text.split(",")] if text != "largest" else []
    except ValueError:
        numbers = [0.0, 0.0, 0.0]
    if len(numbers) == 1 and numbers[0].is_integer():
        return int(numbers[0])
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    if numbers or text != "largest":
        raise InputError(f"got face {text!r}, expected largest, an index such as 0, or a place such as 320,180")
    return "largest"


def check_place(choice: Choice, width: int, height: int) -> None:
    """Raises InputError when `choice` is a place outside pictures of this size: it is of another film, or a slip."""
    if isinstance(choice, tuple) and not (0 <= choice[0] <= width and 0 <= choice[1] <= height):
        place = ",".join(f"{value:g}" for value in choice)
        raise InputError(f"got face {place}, which is outside the video's {width}x{height} pixels")


def people_of(face: Face, starts: list[int], frames: int) -> Tensor | None:
    """Whose face it is in each frame `(frames,)` of shots that begin at `starts`; None when it is one person's.

    A shot that goes on as the one before it ended is no other shot.
    """
    bounds = [*starts, frames]
    shots: list[tuple[int, Tensor]] = []  # first frame, signatures
    for first, after in zip(bounds[:-1], bounds[1:], strict=True):
        looks = torch.stack(
            [face.signatures[at] for at in sorted(face.signatures) if first <= at < after] or [torch.empty(0)]
        )
        if not looks.numel():
            continue
        if shots and shots[-1][1][-1] @ looks[0] >= SAME:
            shots[-1] = shots[-1][0], torch.cat([shots[-1][1], looks])
        else:
            shots.append((first, looks))
    ends = [*(first for first, _ in shots[1:]), frames]
    lengths = [end - first for (first, _), end in zip(shots, ends, strict=False)]
    who = tell_apart([looks for _, looks in shots], lengths)
    if len(set(who)) < 2:
        return None
    people = torch.zeros(frames, dtype=torch.long)
    for (first, _), person in zip(shots, who, strict=True):
        people[first:] = person  # a shot without the face counts to the one before
    return people


def build_track(face: Face, times: Tensor, size: tuple[int, int]) -> FaceTrack:
    """Lay a face's points out over all frames."""
    points = torch.zeros(len(times), POINTS, 3)
    found = torch.zeros(len(times), dtype=torch.bool)
    for frame, values in face.points.items():
        points[frame], found[frame] = values, True
    return FaceTrack(points, found, times, size)
