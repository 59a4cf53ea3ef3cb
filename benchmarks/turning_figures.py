"""What it is worth to know how a turn of the head displaces the mesh (`motion/turning.py`), by how far heads turn.

    python -m scripts.align_clips data/prepared -o offsets.json
    python benchmarks/turning_figures.py data/prepared --offsets offsets.json

Every clip speaks its own words; distance of the lips (LMD) in canonical centimetres and correlation of the opening,
with the effect and without, for the clips of any split in which heads turn most and for some others.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch

from comfyui_mytalk.evaluation.metrics import correlation, lip_distance
from comfyui_mytalk.landmarks.canonical import mouth_opening, to_canonical
from comfyui_mytalk.landmarks.track import FaceTrack
from comfyui_mytalk.motion import edit, generate
from comfyui_mytalk.motion.identity import identity_tokens, load_identity
from comfyui_mytalk.motion.model import load_motion
from comfyui_mytalk.speech.features import load_speech_encoder
from comfyui_mytalk.training.clips import PreparedClip, read_clips, read_offsets

BOUNDS = (0, 5, 10, 15, 90)  # degrees, deviation of the yaw
FEATURES_PER_SECOND = 50


def turned(clip: PreparedClip) -> float:
    """Deviation of the yaw, degrees."""
    return math.degrees(clip.pose.yaw[clip.found].std().item())


def without(track: FaceTrack) -> torch.Tensor:
    """No effect at all."""
    return torch.zeros(len(track), 180, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--offsets", type=Path, required=True)
    parser.add_argument("--most", type=int, default=45, help="clips with the most turning")
    parser.add_argument("--others", type=int, default=45, help="of the rest, evenly spaced")
    args = parser.parse_args()
    torch.set_num_threads(1)
    clips = [clip for clip in read_clips(args.data) if clip.found.float().mean() >= 0.8 and len(clip) > 25]
    clips.sort(key=turned, reverse=True)
    rest = clips[args.most :]
    clips = clips[: args.most] + rest[:: max(1, len(rest) // args.others)]
    model, extractor, encode = load_motion(), load_identity(), load_speech_encoder("speech_small")
    offsets, effect, rows = read_offsets(args.offsets), generate.turn_effect, []
    for clip in clips:
        track = FaceTrack(clip.points, clip.found, clip.times, (0, 0))
        late = round(offsets.get(clip.path.stem, 0) * FEATURES_PER_SECOND)
        interval = track.times.diff().median()
        wanted = round((track.times[-1] - track.times[0] + interval).item() * FEATURES_PER_SECOND)
        features = encode(clip.speech)
        features = features[(torch.arange(wanted) + late).clamp(0, len(features) - 1)]
        truth, row = to_canonical(track.points, track.pose)[track.usable], [turned(clip)]
        for used in (without, effect):
            generate.turn_effect = edit.turn_effect = used
            spoken = generate.speak(model, track, features, identity_tokens(extractor, track))
            made = to_canonical(spoken.points, track.pose)[track.usable]
            row += [lip_distance(made, truth), correlation(mouth_opening(made), mouth_opening(truth))]
        rows.append(row)
    print("| deviation of yaw | clips | LMD without, cm | with | correlation without | with |")
    print("|---|---|---|---|---|---|")
    table = np.array(rows)
    for low, high in zip(BOUNDS[:-1], BOUNDS[1:], strict=True):
        chosen = table[(table[:, 0] >= low) & (table[:, 0] < high)]
        lmd, corr, lmd_with, corr_with = chosen[:, 1:].mean(0)
        figures = f"{lmd:.3f} | {lmd_with:.3f} | {corr:.2f} | {corr_with:.2f}"
        print(f"| {low} to {high} degrees | {len(chosen)} | {figures} |")


if __name__ == "__main__":
    main()
