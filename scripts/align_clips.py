"""By how many seconds is the speech of each prepared clip late? Writes the JSON that `train --offsets` reads.

    python -m scripts.align_clips data/prepared -o offsets.json

`{clip: seconds}`; see `comfyui_mytalk/training/alignment.py`. Prints, per corpus, the lag and how well a mouth
predicted from the speech fits the filmed one before and after. Clips without sound, or with a face in less than 80 %
of their frames, are left out with a word.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.output import check_output, write_aside
from comfyui_mytalk.speech.features import load_speech_encoder
from comfyui_mytalk.training.alignment import align_clips
from comfyui_mytalk.training.clips import PreparedClip, read_clips, say_left_out, spoken_clips

LEAST_FRAMES = 8  # of a clip that is worth a look
Gains = dict[str, tuple[float, float]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of prepared clips")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--speech-encoder", default="speech_small", help="name, folder or file")
    args = parser.parse_args()
    try:
        output = check_output(args.output)
        clips = long_enough(spoken_clips(read_clips(args.data)))
        offsets, gains = align(clips, args.speech_encoder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with write_aside(output) as aside:
        aside.write_text(json.dumps(offsets, indent=1) + "\n", encoding="utf-8")
    report(clips, offsets, gains)
    return 0


def long_enough(clips: list[PreparedClip]) -> list[PreparedClip]:
    """Those with more than a few frames; says how many are left out."""
    chosen = [clip for clip in clips if len(clip) > LEAST_FRAMES]
    say_left_out(len(clips), {f"with {LEAST_FRAMES} frames or less": len(clips) - len(chosen)})
    return chosen


def align(clips: list[PreparedClip], speech_encoder: str) -> tuple[dict[str, float], Gains]:
    """Offsets and gains of `clips`, with a bar for the features, which take longest."""
    encoder, bar = load_speech_encoder(speech_encoder), tqdm(total=len(clips), desc="features")

    def encode(speech: Tensor) -> Tensor:
        bar.update()
        return encoder(speech)

    return align_clips(clips, encode)


def report(clips: list[PreparedClip], offsets: dict[str, float], gains: Gains) -> None:
    """Print the lags of each corpus, and what moving its clips changes."""
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
    sys.exit(main())
