"""Prepared clips with fewer frames and smaller pictures, to carry to a machine that is far away.

    python -m scripts.thin_clips data/prepared data/thin --most 64 --quality 88

Of every clip at most so many frames with a face, evenly spread. Neighbouring frames show the same mouth: 71,000 frames
became 35,000, and 1.8 GB became 0.6. For `train appearance` alone: speech is left out.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tqdm import tqdm

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.output import write_aside
from comfyui_mytalk.training.clips import PreparedClip, read_clips


def thin(clip: PreparedClip, path: Path, most: int, quality: int) -> int:
    """Write `clip` with every n-th of its usable frames to `path`, whole or not at all; returns how many there are."""
    usable = clip.found.nonzero()[:, 0]
    every = max(1, -(-len(usable) // most))
    frames = usable[::every]
    blobs = [_encoded(clip.crop(int(frame)), quality) for frame in frames]
    tensors = {
        "points": clip.points[frames],
        "found": torch.ones(len(frames), dtype=torch.bool),
        "times": clip.times[frames],
        "speech": torch.zeros(0, dtype=torch.int16),
        "crops": torch.frombuffer(bytearray(b"".join(blobs)), dtype=torch.uint8),
        "crop_offsets": torch.from_numpy(np.cumsum([0] + [len(blob) for blob in blobs])),
        "crop_transform": clip.transform[frames],
    }
    metadata = clip.metadata | {"frames": str(len(frames)), "every": str(every)}
    with write_aside(path) as part:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part, metadata)
    return len(frames)


def _encoded(crop: torch.Tensor, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(crop.permute(1, 2, 0).numpy())
    picture.save(buffer, "jpeg", quality=quality, subsampling=0, optimize=True)
    return buffer.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("output", type=Path, help="folder for the thinned ones")
    parser.add_argument("--most", type=int, default=64, help="frames of a clip (default %(default)s)")
    parser.add_argument("--quality", type=int, default=88, help="of the JPEGs (default %(default)s)")
    options = parser.parse_args()
    try:
        if options.most < 1 or not 1 <= options.quality <= 100:
            raise InputError(
                f"got --most {options.most} --quality {options.quality}, expected at least 1 frame and 1 to 100"
            )
        clips = read_clips(options.data)
        if options.output.resolve() == Path(options.data).resolve():
            raise InputError(f"{options.output} is the folder to read from; name another one")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    frames = sum(
        thin(clip, options.output / clip.path.name, options.most, options.quality) for clip in tqdm(clips, "clips")
    )
    print(f"{len(clips)} clips, {frames} frames in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
