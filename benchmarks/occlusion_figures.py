"""What the occlusion network finds in clips: of drawn occluders, and of bare faces.

    python benchmarks/occlusion_figures.py data/prepared --split val

Drawn occluders: share of covered pixels found, overlap, share of a bare face's pixels taken for covered.
Clips: share of frames in which anything stays as filmed, and in which it covers lips; most clips show bare
faces, and those that are named have to be looked at.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from comfyui_mytalk.appearance.mask import MaskExtent
from comfyui_mytalk.appearance.occlusion import Occlusion, OcclusionNet, landmark_marks, load_occlusion
from comfyui_mytalk.geometry import Geometry
from comfyui_mytalk.keep import covers_lips, occlusion_of
from comfyui_mytalk.training.clips import PreparedClip, read_clips
from comfyui_mytalk.training.occlusion import validate
from comfyui_mytalk.training.occlusion_data import OcclusionBatches

BATCH = 32


def find(net: OcclusionNet, clip: PreparedClip) -> Occlusion:
    """As `find_occlusion`, from a prepared clip's crops."""
    size, frames = net.params.size, clip.found.nonzero()[:, 0]
    points = clip.crop_points(frames.tolist()) * (size / int(clip.metadata["crop_size"]))

    def chances() -> Iterator[Tensor]:
        for index, at in zip(frames.split(BATCH), points.split(BATCH), strict=True):
            crops = F.interpolate(clip.crops(index.tolist()).float() / 255, size=(size, size), mode="area")
            with torch.inference_mode():
                yield from net(crops, landmark_marks(at, size)).sigmoid()[:, 0]

    return occlusion_of(chances(), points, frames, len(clip))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default="occlusion_small")
    parser.add_argument("--batches", type=int, default=48, help="of 16 drawn samples (default %(default)s)")
    parser.add_argument("--every", type=int, default=1, help="look at every n-th clip (default %(default)s)")
    args = parser.parse_args()
    net, clips = load_occlusion(args.model), read_clips(args.data, args.split)
    drawn = list(OcclusionBatches(clips, net.params.size, 16, seed=1, start=0, stop=args.batches))
    print("drawn occluders:", ", ".join(f"{name} {value:.4f}" for name, value in validate(net, drawn).items()))
    frames = somewhere = mouth = 0
    for clip in clips[:: args.every]:
        found = find(net, clip)
        place = Geometry(clip.pose, clip.transform, MaskExtent(), clip.points)
        here, lips = int((found.rows >= 0).sum()), int(covers_lips(found, place).sum())
        frames, somewhere, mouth = frames + int(clip.found.sum()), somewhere + here, mouth + lips
        if here:
            print(f"{clip.path.stem}: something in {here} of {int(clip.found.sum())} frames, over the lips in {lips}")
    print(f"{len(clips[:: args.every])} clips, {frames} frames: something in {somewhere}, over the lips in {mouth}")


if __name__ == "__main__":
    main()
