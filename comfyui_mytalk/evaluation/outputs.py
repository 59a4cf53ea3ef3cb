"""Videos that another tool made of the same clips: found by name, brought to the source's frames.

f frames   h w picture
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..video.media import VIDEO_SUFFIXES
from ..video.reader import VideoReader
from .clips import Clip
from .talks import CHUNK, PROTOCOLS, Case


def has_protocols(folder: Path) -> bool:
    """Whether the videos of a folder are sorted by protocol; else they are all of one."""
    return any((folder / protocol).is_dir() for protocol in PROTOCOLS)


def find_output(folder: Path, protocol: str, clip: Clip) -> Path | None:
    """The video of a clip in `folder/PROTOCOL`, or in `folder` if its videos are of one protocol: the clip's own path
    there, or its file name; any suffix."""
    root = folder / protocol if has_protocols(folder) else folder
    for name in (Path(clip.name).with_suffix(""), Path(clip.path.stem)):
        found = [path for suffix in VIDEO_SUFFIXES if (path := root / f"{name}{suffix}").is_file()]
        if found:
            return found[0]
    return None


def read_output(path: Path, case: Case) -> Tensor:
    """The frames `(f, h, w, 3)` uint8 nearest in time to the source's, at the source's size.

    Raises InputError when the video ends more than a quarter of a second before the source does.
    """
    chunks = list(VideoReader(path).chunks(CHUNK))
    frames, times = (torch.cat([torch.as_tensor(part) for part in parts]) for parts in zip(*chunks, strict=True))
    wanted = case.talk.track.times - case.talk.track.times[0]
    if wanted[-1] - times[-1] > 0.25:
        raise InputError(f"{path} ends {wanted[-1] - times[-1]:.2f} s before its source does")
    frames = frames[(times[None] - wanted[:, None]).abs().argmin(1)]
    if frames.shape[1:3] == case.frames.shape[1:3]:
        return frames
    pictures = frames.permute(0, 3, 1, 2).float()
    pictures = F.interpolate(pictures, case.frames.shape[1:3], mode="bicubic", antialias=True)
    return pictures.round().clamp(0, 255).byte().permute(0, 2, 3, 1)
