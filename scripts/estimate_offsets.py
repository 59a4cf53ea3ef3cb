"""By how many frames is the picture of each prepared clip late, and how sure is that? The sync judge's answer as JSON.

    python -m scripts.estimate_offsets data/prepared -o offsets.json

`{clip: {offset_frames, confidence, distance}}` at 25 fps, null for clips too short to say. `train sync-judge --offsets`
reads it. Clips that the judge was trained on are pulled towards 0 by that training.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from comfyui_mytalk.evaluation.sync_judge import load_sync_judge
from comfyui_mytalk.evaluation.sync_score import score_embeddings, whole_windows
from comfyui_mytalk.output import write_aside
from comfyui_mytalk.training.clips import read_clips
from comfyui_mytalk.training.sync_judge_data import load_clip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of prepared clips")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--split", help="only this split")
    parser.add_argument("--judge", default="sync_judge_small", help="name or path of its weights")
    parser.add_argument("--cache", type=Path, help="folder where mouth pictures are kept")
    args = parser.parse_args()
    judge, rows = load_sync_judge(args.judge), {}
    for prepared in tqdm(read_clips(args.data, args.split)):
        clip = load_clip(prepared, cache=args.cache)
        seen, heard = judge.embed(clip.mouths, clip.sound)
        score = score_embeddings(seen, heard, whole_windows(clip.usable) if len(seen) else None)
        rows[clip.name] = {name: None if math.isnan(value) else value for name, value in asdict(score).items()}
    with write_aside(args.output) as aside:
        aside.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
