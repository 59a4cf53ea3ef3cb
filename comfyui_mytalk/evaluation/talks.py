"""Talking clips in memory, and who speaks whose words in each protocol.

f frames   h w picture   t motion frames at 25 fps   n points
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..appearance.bank import ReferenceBank
from ..errors import InputError
from ..frames import TensorSource
from ..landmarks.align import cut_crops
from ..landmarks.canonical import to_canonical
from ..landmarks.track import FaceTrack, track_faces
from ..landmarks.tracker import FaceLandmarker
from ..motion.generate import resample
from ..motion.params import FPS
from ..speech.audio import Audio, fit_audio, read_audio, speech_16k
from ..video.reader import VideoReader, in_chunks
from ..video.timing import last_shown
from .clips import Clip

CHUNK = 8  # frames in flight
SAME = 1e-6  # seconds
LEAST_FRAMES = 12  # usable ones: a shorter clip has no movement to measure
RECONSTRUCTION, PAIRED, UNPAIRED = "reconstruction", "paired", "unpaired"
PROTOCOLS = {
    RECONSTRUCTION: "the clip's own landmarks, painted anew (the paper's Table 4)",
    PAIRED: "the clip speaks its own words (Table 1)",
    UNPAIRED: "the clip speaks another clip's words (Table 2)",
}


@dataclass(frozen=True)
class Talk:
    """What is known of a clip without its pixels: landmarks, and its own speech of the same length."""

    path: Path
    track: FaceTrack
    audio: Audio
    fps: float

    def __len__(self) -> int:
        return len(self.track)

    @property
    def ends(self) -> Tensor:
        """Until when each frame is shown `(f,)`, seconds after the first one began."""
        times = self.track.times - self.track.times[0]
        return torch.cat([times[1:], times[-1:] + last_shown(times, self.fps)])

    @property
    def seconds(self) -> float:
        return float(self.ends[-1])

    @cached_property
    def speech(self) -> Tensor:
        """`(s,)` at 16 kHz."""
        return speech_16k(self.audio)

    def frames(self) -> Tensor:
        """The clip's pixels `(f, h, w, 3)` uint8, read from its file."""
        pictures = VideoReader(self.path).frames(0, len(self))
        return torch.cat([frames for frames, _ in in_chunks(pictures, CHUNK)])

    def cut(self, frames: int) -> Talk:
        """The first `frames` of the clip."""
        return fitted(replace(self, track=self.track[:frames]))


def fitted(talk: Talk) -> Talk:
    """The same talk with its sound cut to, or filled up to, the length of its pictures."""
    return replace(talk, audio=fit_audio(talk.audio, talk.seconds))


def read_talk(path: Path, landmarker: FaceLandmarker, duration: float | None = None) -> Talk:
    """Read a clip, or its first `duration` seconds; raises InputError when it has no face or no sound."""
    reader = VideoReader(path, duration=duration)
    audio, fps = read_audio(path, duration=duration), float(reader.info.fps)
    track = track_faces(reader.chunks(CHUNK), landmarker)
    if int(track.usable.sum()) < LEAST_FRAMES:
        raise InputError(f"only {int(track.usable.sum())} frames show a face, expected at least {LEAST_FRAMES}")
    return fitted(Talk(path, track, audio, fps))


@dataclass(frozen=True)
class Case:
    """One clip in one protocol: `talk` is what is seen, `speaker` who first said what is now said."""

    protocol: str
    talk: Talk
    speaker: Talk
    frames: Tensor  # (f, h, w, 3) uint8, the source's pixels
    banks: dict[tuple[int, int, int], ReferenceBank] = field(default_factory=dict, repr=False)

    @property
    def held_out(self) -> bool:
        """Whether the source is the right answer, so that no frame may be painted from itself."""
        return self.protocol != UNPAIRED

    @property
    def source(self) -> TensorSource:
        return TensorSource(self.frames, self.talk.fps)

    @cached_property
    def crops(self) -> Tensor:
        """The source's aligned crops `(f, 3, s, s)` uint8."""
        return aligned_crops(self.frames, self.talk.track)

    @cached_property
    def audio(self) -> Audio:
        """What is spoken, as long as the pictures."""
        return fit_audio(self.speaker.audio, self.talk.seconds)

    @cached_property
    def speech(self) -> Tensor:
        """The same `(s,)` at 16 kHz."""
        return speech_16k(self.audio)


def make_case(protocol: str, talk: Talk, speaker: Talk) -> Case:
    """Read the pixels; in the unpaired protocol the clip is cut to what its speaker says."""
    if protocol == UNPAIRED:
        talk = talk.cut(max(LEAST_FRAMES, int((talk.ends <= speaker.seconds + SAME).sum())))
    return Case(protocol, talk, speaker if protocol == UNPAIRED else talk, talk.frames())


def aligned_crops(frames: Tensor, track: FaceTrack) -> Tensor:
    """Crops `(f, 3, s, s)` uint8 of `frames (f, h, w, 3)`, placed by the source's face."""
    crops = []
    for part in torch.arange(len(frames)).split(CHUNK):
        crop = cut_crops(frames[part].permute(0, 3, 1, 2).float() / 255, track.transform[part])
        crops.append((crop * 255).round().byte())
    return torch.cat(crops)


def partners(clips: Sequence[Clip]) -> dict[str, str]:
    """Whose words each clip speaks in the unpaired protocol: somebody else, half the list away.

    Empty when all clips show one person; a clip without an identity counts as a person of its own.
    """
    people, count, pairs = [clip.identity or clip.name for clip in clips], len(clips), {}
    for i, clip in enumerate(clips):
        others = ((i + count // 2 + step) % count for step in range(count))
        other = next((j for j in others if people[j] != people[i]), None)
        if other is not None:
            pairs[clip.name] = clips[other].name
    return pairs


def on_motion_grid(track: FaceTrack) -> tuple[Tensor, Tensor]:
    """Pose-free landmarks `(t, n, 3)` in centimetres at 25 fps, and which of them were really seen `(t,)`."""
    usable, times = track.usable, (track.times - track.times[0]).double()
    interval = last_shown(times)
    grid = torch.arange(max(1, round((times[-1].item() + interval) * FPS)), dtype=torch.float64) / FPS
    points = resample(to_canonical(track.points, track.pose)[usable], times[usable], grid)
    nearest = (torch.searchsorted(times.contiguous(), grid - interval / 2)).clamp(max=len(times) - 1)
    return points, usable[nearest]
