"""A clip in which a person is seen and heard, as a style reference for what they are to say (arXiv 2408.05412).

    f source frames   t motion frames of the clip (25 fps)   s speech frames (50 Hz)   r identity references

The film that is dubbed is its own natural reference: its sound tells which of its mouths belong to which sounds. What
is heard must be what the lips say: music, an off-screen voice or another person would teach nonsense. So the model
itself is asked first, without a reference: the mouth that it makes for the sound must move as the mouth that is seen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..evaluation.metrics import correlation
from ..landmarks.canonical import to_canonical
from ..landmarks.sets import landmark_set
from .edit import inner_distance
from .generate import MotionOptions, generate_motion, resample
from .identity import resting_frames
from .model import MotionModel
from .params import FPS
from .style import StyleMemory
from .turning import turn_effect
from .windows import cut_windows, fuse_windows, in_batches, window_starts

if TYPE_CHECKING:
    from ..landmarks.track import FaceTrack

LONGEST = 60 * FPS  # motion frames that are looked at, from the clip's first on
SHORTEST = 1 * FPS  # fewer show little, and pass for in sync by chance
NEAR = 0.06  # seconds from a motion frame to a frame with a face that shows its mouth
BELIEVED = 0.4  # correlation of the mouth that is seen with the one that the sound asks for
LATEST = 5  # motion frames by which a film's sound may be early or late
PLAIN = MotionOptions(steps=4, variation=0.0, guidance=1.0)  # the likeliest mouth for a sound


class Seen(NamedTuple):
    """A clip at 25 fps: lower faces `(t, 180, 2)` and upper faces `(t, 103, 2)` in canonical cm, the resting lower
    faces `(r, 180, 2)`, speech features `(2 t, d)`, and in which frames there was a face `(t,)`."""

    lower: Tensor
    upper: Tensor
    rest: Tensor
    features: Tensor
    known: Tensor


class StyleReference(NamedTuple):
    """What a clip shows of how its person speaks, or None, and for people why it is taken or not."""

    memory: StyleMemory | None
    why: str


UNHEARD = StyleReference(None, "no sound came with the clip")
UNWANTED = StyleReference(None, "style_strength is 0")
UNKNOWN = StyleReference(None, "the motion weights take none")
SEVERAL = StyleReference(None, "several people are to speak")


def unheard_reference(model: MotionModel, track: FaceTrack, strength: float) -> StyleReference:
    """None, before any clip is heard: `UNHEARD` where its sound may make one, another where it is not even asked.

    `track` is who is to speak; `strength` is that of `MotionOptions`.
    """
    if not strength:
        return UNWANTED
    if track.people is not None:
        return SEVERAL
    return UNKNOWN if model.style is None else UNHEARD


def remember(model: MotionModel, track: FaceTrack, features: Tensor, identity: Tensor) -> StyleReference:
    """What the clip of `track` and speech `features (s, d)`, which start together, shows of how its person speaks.

    Nothing where the clip is short, shows several people, or says something else than its lips do. `identity (r, d)`
    are the person's tokens.
    """
    if track.people is not None:
        return StyleReference(None, "the clip shows several people")
    track = track[: int((track.times - track.times[0] <= LONGEST / FPS).sum())]
    seen = see(track, features) if track.usable.sum() >= 2 else None
    if seen is None or seen.known.sum() < SHORTEST:
        return StyleReference(None, f"the clip shows its face with sound for less than {SHORTEST / FPS:g} s")
    return memorise(model, seen, identity)


def see(track: FaceTrack, features: Tensor) -> Seen:
    """The clip as the motion model knows faces."""
    usable, times = track.usable, track.times - track.times[0]
    frames = min(len(features) // 2, math.floor(times[-1].item() * FPS) + 1)
    grid = torch.arange(frames, dtype=torch.float64) / FPS
    canonical, lower = to_canonical(track.points, track.pose), landmark_set("generated")
    canonical[:, lower] -= turn_effect(track)
    rest = canonical[resting_frames(canonical, usable)][:, lower, :2]
    given, at = canonical[usable][..., :2], times[usable]
    after = torch.searchsorted(at, grid).clamp(max=len(at) - 1)
    away = torch.minimum((at[after] - grid).abs(), (at[(after - 1).clamp_min(0)] - grid).abs())
    faces = (resample(given[:, landmark_set(name)], at, grid) for name in ("generated", "prefix"))
    return Seen(*faces, rest, features[: 2 * frames], away <= NEAR)


@torch.inference_mode()
def memorise(model: MotionModel, seen: Seen, identity: Tensor) -> StyleReference:
    """`seen` as the denoiser takes it, with its sound moved to where it fits; nothing where it fits nowhere."""
    lag, likeness = in_sync(model, seen, identity)
    if likeness < BELIEVED:
        return StyleReference(None, f"the lips say something else than the clip's sound (correlation {likeness:.2f})")
    device = model.lower_mean.device
    shown = model.encode(seen.lower[None].to(device), seen.rest.to(device).mean(0, keepdim=True))
    shown, known = shown.roll(-lag, 1), seen.known.roll(-lag, 0)
    if lag:
        known[-lag if lag > 0 else 0 : None if lag > 0 else -lag] = False
    memory = StyleMemory(encode_speech(model, seen.features.to(device))[None], shown, known[None].to(device))
    return StyleReference(memory, f"the lips say what the clip's sound says (correlation {likeness:.2f})")


def encode_speech(model: MotionModel, features: Tensor) -> Tensor:
    """Speech features `(2 t, d)` as the model hears them `(t, e)`, in windows of its own length."""
    frames, size = len(features) // 2, min(model.params.frames, len(features) // 2)
    starts = window_starts(frames, size, model.params.overlap)
    windows = cut_windows(features, [2 * start for start in starts], 2 * size)
    return fuse_windows(in_batches(model.speech_encoder, 8, windows), starts, frames, model.params.overlap)


def in_sync(model: MotionModel, seen: Seen, identity: Tensor) -> tuple[int, float]:
    """By how many motion frames the mouth is late against the sound, and how well it fits there (correlation).

    The upper face is played backwards: it would tell the model what the mouth does.
    """
    asked = generate_motion(model, seen.features, seen.upper.flip(0), identity, seen.rest, PLAIN)
    expected, shown = inner_distance(asked), inner_distance(seen.lower)
    fits = {lag: _correlation(expected, shown, seen.known, lag) for lag in range(-LATEST, LATEST + 1)}
    best = max(fits, key=lambda lag: (fits[lag], -abs(lag)))
    return best, fits[best]


def _correlation(expected: Tensor, shown: Tensor, known: Tensor, lag: int) -> float:
    """Of `expected[i]` with `shown[i + lag]` where that is `known`."""
    count = len(expected) - abs(lag)
    expected, shown, known = expected[max(0, -lag) :][:count], *(x[max(0, lag) :][:count] for x in (shown, known))
    return correlation(expected[known], shown[known]) if known.sum() > 2 else 0.0
