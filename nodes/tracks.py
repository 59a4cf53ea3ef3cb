"""Tracks and the frames that they are given together with: of the same clip, and of the same shape."""

from __future__ import annotations

import torch
from torch import Tensor

from ..comfyui_mytalk.errors import InputError
from ..comfyui_mytalk.landmarks.track import FaceTrack
from .checks import counted
from .media import read_images

SAME = "connect the same frames to both"


def check_frames(images: Tensor, track: FaceTrack, name: str = "images", remedy: str = SAME) -> None:
    """Raise InputError, which ends with the remedy, unless there is one image for each frame of the track."""
    if len(read_images(images, name)) != len(track):
        raise InputError(f"{name}: got {counted(len(images), 'frame')}, but the track has {len(track)}; {remedy}")


def check_motion(motion: FaceTrack, track: FaceTrack, name: str = "motion") -> None:
    """Raise InputError unless `motion` has as many frames as the track that it is a motion of."""
    if len(motion) != len(track):
        raise InputError(
            f"{name}: got {counted(len(motion), 'frame')}, but the track has {len(track)}; connect what was made of it"
        )


def track_in(images: Tensor, track: FaceTrack, name: str = "images") -> FaceTrack:
    """The face of `track` in the pixels of these frames, which may have been scaled since it was found.

    Raises InputError unless there is one image for each frame, of the shape of those in which the face was found.
    """
    check_frames(images, track, name)
    return scaled_to(track, tuple(images.shape[1:3]), name)


def scaled_to(track: FaceTrack, size: tuple[int, int], name: str = "images") -> FaceTrack:
    """The track in frames of `size (h, w)`, the same picture larger or smaller; raises InputError for another shape."""
    (height, width), (was_height, was_width) = size, track.size
    if size == tuple(track.size):
        return track
    across, down = width / was_width, height / was_height
    if abs(across - down) > 1 / was_width + 1 / was_height:  # more than rounding both sides to pixels explains
        raise InputError(
            f"{name}: got {width}x{height} pixels, but the face was found in frames of {was_width}x{was_height}, of "
            "another shape; scale frames without cutting or stretching them, or find the face in these frames"
        )
    scale = torch.tensor([across, down, (across + down) / 2], dtype=track.points.dtype)
    return track.replace(points=track.points * scale, size=size)
