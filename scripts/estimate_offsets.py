"""By how many frames is the picture of each prepared clip late, and how sure is that? The sync judge's answer as JSON.

    python -m scripts.estimate_offsets data/prepared -o offsets.json

`{clip: {offset_frames, confidence, distance}}` at 25 fps, null for clips too short to say. The trainers' `--offsets`
reads it, as seconds. Clips without sound, or with a face in less than 80 % of their frames, are left out. Clips that
the judge was trained on are pulled towards 0 by that training.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from comfyui_mytalk.errors import InputError
from comfyui_mytalk.evaluation.sync_judge import SyncJudge, load_sync_judge
from comfyui_mytalk.evaluation.sync_score import score_embeddings, whole_windows
from comfyui_mytalk.output import check_output, write_aside
from comfyui_mytalk.training.clips import read_clips, spoken_clips
from comfyui_mytalk.training.sync_judge_data import SyncClip, load_clip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of prepared clips")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--split", help="only this split")
    parser.add_argument("--judge", default="sync_judge_small", help="name or path of its weights")
    parser.add_argument("--cache", type=Path, help="folder where mouth pictures are kept")
    args = parser.parse_args()
    try:
        output = check_output(args.output)
        clips, judge = spoken_clips(read_clips(args.data, args.split)), load_sync_judge(args.judge)
        if not clips:
            raise InputError(f"no clip in {args.data} has sound and a face in most of its frames")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows = {clip.path.stem: estimate(judge, load_clip(clip, cache=args.cache)) for clip in tqdm(clips)}
    with write_aside(output) as aside:
        aside.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def estimate(judge: SyncJudge, clip: SyncClip) -> dict[str, float | None]:
    """The judge's score of one clip, None where it cannot say."""
    seen, heard = judge.embed(clip.mouths, clip.sound)
    score = score_embeddings(seen, heard, whole_windows(clip.usable) if len(seen) else None)
    return {name: None if math.isnan(value) else value for name, value in asdict(score).items()}


if __name__ == "__main__":
    sys.exit(main())
