"""What any method must beat: mouths that know nothing of phonemes.

    f frames   n points   s speech samples at 16 kHz

Both are given the clip's own range of mouth shapes, which no real method has: a hard floor to stand on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..landmarks.canonical import mouth_opening, to_canonical
from ..landmarks.track import FaceTrack
from ..motion.edit import loudness, lower_face, with_lower_face

ENDS = 0.2  # share of the frames that are averaged into the closed and into the open face


def static_mouth(track: FaceTrack) -> FaceTrack:
    """The same track with a lower face that stays at its mean, in the pose of each frame."""
    lower = lower_face(track)
    return with_lower_face(track, lower[track.usable].mean(0, keepdim=True).expand_as(lower))


def energy_mouth(track: FaceTrack, speech: Tensor) -> FaceTrack:
    """The same track with a mouth that opens with the loudness of `speech (s,)`, as far as the clip's own mouth does.

    The lower face is blended between the mean of the most closed and the mean of the most open frames so that the
    opening has the mean and the deviation of the original.
    """
    lower, usable = lower_face(track), track.usable
    opening = mouth_opening(to_canonical(track.points, track.pose))
    order = usable.nonzero()[:, 0][opening[usable].argsort(stable=True)]
    count = max(1, int(ENDS * len(order)))
    closed, wide = lower[order[:count]].mean(0), lower[order[-count:]].mean(0)
    low, high = opening[order[:count]].mean(), opening[order[-count:]].mean()
    level = loudness(speech, track.times - track.times[0])
    level = (level - level.mean()) / level.std().clamp_min(1e-6)
    wanted = opening[usable].mean() + opening[usable].std() * level
    share = ((wanted - low) / (high - low).clamp_min(1e-6)).clamp(-0.5, 1.5)
    return with_lower_face(track, torch.lerp(closed, wide, share[:, None, None]))
