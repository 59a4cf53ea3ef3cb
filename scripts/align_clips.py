"""By how many seconds is the speech of each prepared clip late? Writes the JSON that `train --offsets` reads.

    python -m scripts.align_clips data/prepared -o offsets.json

`{clip: seconds}`; see `comfyui_mytalk/training/alignment.py`. Prints, per corpus, the lag and how well a mouth
predicted from the speech fits the filmed one before and after.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from comfyui_mytalk.output import write_aside
from comfyui_mytalk.speech.features import load_speech_encoder
from comfyui_mytalk.training.alignment import align_clips
from comfyui_mytalk.training.clips import read_clips

LEAST_FACES, LEAST_FRAMES = 0.8, 8  # of a clip that is worth a look


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of prepared clips")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--speech-encoder", default="speech_small", help="name, folder or file")
    args = parser.parse_args()
    clips = [c for c in read_clips(args.data) if c.found.float().mean() >= LEAST_FACES and len(c) > LEAST_FRAMES]
    encoder, bar = load_speech_encoder(args.speech_encoder), tqdm(total=len(clips), desc="features")

    def encode(speech):
        bar.update()
        return encoder(speech)

    offsets, gains = align_clips(clips, encode)
    with write_aside(args.output) as aside:
        aside.write_text(json.dumps(offsets, indent=1) + "\n", encoding="utf-8")
    groups = defaultdict(list)
    for clip in clips:
        groups[clip.metadata.get("split"), clip.corpus].append(clip.path.stem)
    for (split, corpus), names in sorted(groups.items()):
        late = 1000 * np.array([offsets[name] for name in names])
        before, after = np.mean([gains[name] for name in names], 0)
        low, middle, high = np.percentile(late, (10, 50, 90))
        print(
            f"{split} {corpus}: {len(names)} clips late by {middle:.0f} ms ({low:.0f} to {high:.0f}), "
            f"correlation {before:.2f} -> {after:.2f}"
        )


if __name__ == "__main__":
    main()
