"""Can the sync judge be trusted? Its answers on real clips, per corpus.

    python benchmarks/sync_judge_figures.py data/prepared

in sync: share of clips (or of stretches of 1.2, 2 and 4 s, at most eight of each clip) whose offset is within a frame
of 0; chance is 0.10. agree: of stretches whose offset is within a frame of that of their whole clip, which asks nothing
of the clip's own sync. moved: of clips whose offset moves by 5, within a frame, when picture and sound are moved by 5
frames. confidence: mean, under the clip's own speech; other: under another clip's; told apart: share of clips
with more confidence under their own. Clips known to be out of sync are left out.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from comfyui_mytalk.evaluation.sync_judge import SyncJudge, load_sync_judge
from comfyui_mytalk.evaluation.sync_score import SAMPLES, score_embeddings, whole_windows
from comfyui_mytalk.training.clips import read_clips
from comfyui_mytalk.training.sync_judge import window_scores
from comfyui_mytalk.training.sync_judge_data import SyncClip, load_clips

STRETCHES = {"1.2 s": 30, "2 s": 50, "4 s": 100}
MOVED = 5  # frames


def figures(judge: SyncJudge, clip: SyncClip, other: Tensor) -> dict[str, list[float]]:
    """Every figure of one clip, as lists to be averaged per corpus; `other (n,)` is speech that does not belong."""
    seen, heard = judge.embed(clip.mouths, clip.sound)
    if not len(seen):
        return {}
    usable = whole_windows(clip.usable)
    whole = score_embeddings(seen, heard, usable)
    if math.isnan(whole.distance):
        return {}
    wrong = score_embeddings(seen, judge.embed(clip.mouths, other)[1], usable)
    moved = score_embeddings(seen[MOVED:], heard[:-MOVED], usable[MOVED:])
    rows = {"in sync, clip": [float(whole.in_sync)], "moved": [], "confidence": [whole.confidence]}
    if not math.isnan(moved.distance):
        rows["moved"].append(float(abs(moved.offset_frames - whole.offset_frames + MOVED) <= 1))
    for name, frames in STRETCHES.items():
        scores = window_scores(seen, heard, usable, frames)
        rows[f"in sync, {name}"] = [float(score.in_sync) for score in scores]
        rows[f"agree, {name}"] = [float(abs(score.offset_frames - whole.offset_frames) <= 1) for score in scores]
    return rows | {"other": [wrong.confidence], "told apart": [float(whole.confidence > wrong.confidence)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of prepared clips")
    parser.add_argument("--judge", default="sync_judge_small", help="name or path of its weights")
    parser.add_argument("--cache", type=Path, help="folder where mouth pictures are kept")
    args = parser.parse_args()
    judge = load_sync_judge(args.judge)
    clips = load_clips(read_clips(args.data, "val"), cache=args.cache)
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for index, clip in enumerate(clips):
        strangers = [c for c in clips[index + 1 :] + clips[:index] if c.identity != clip.identity]
        sound = torch.cat([c.sound for c in strangers[:4]])
        speech = sound.repeat(-(-len(clip.speech) // len(sound)))[: len(clip) * SAMPLES]
        for name, values in figures(judge, clip, speech).items():
            table[name][clip.corpus] += values
    corpora = sorted({clip.corpus for clip in clips})
    print("| | " + " | ".join([*corpora, "mean of corpora"]) + " |\n" + "|---" * (len(corpora) + 2) + "|")
    counts = [sum(clip.corpus == corpus for clip in clips) for corpus in corpora]
    print("| clips | " + " | ".join(map(str, counts)) + " | |")
    for name, row in table.items():
        means = {corpus: sum(row[corpus]) / len(row[corpus]) for corpus in corpora if row[corpus]}
        cells = [f"{means[corpus]:.2f}" if corpus in means else "–" for corpus in corpora]
        print(f"| {name} | " + " | ".join([*cells, f"{sum(means.values()) / len(means):.2f}"]) + " |")


if __name__ == "__main__":
    main()
