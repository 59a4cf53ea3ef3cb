"""The paper's Tables 5 and 6 at a size that fits: how the person enters the motion model, and the identity loss.

    python benchmarks/motion_ablations.py data/prepared --steps 300 --tokens 512 [--seeds 2]

Every row is trained from the same start on the same batches and measured as in training: paired, one sample, the upper
face played backwards, mean over the corpora of the validation split. corr is of the mouth opening, same_person the
cosine of the generated face with the person's resting one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from comfyui_mytalk.motion.identity import load_identity
from comfyui_mytalk.motion.model import Needs
from comfyui_mytalk.speech.features import load_speech_encoder
from comfyui_mytalk.training import motion
from comfyui_mytalk.training.motion_validation import validate

ROWS = {
    "identity embedding, cross-attention; identity loss 1": {},
    "key landmarks beside the input": {"condition": "concat"},
    "key landmarks added": {"condition": "add"},
    "key landmarks, cross-attention": {"condition": "cross"},
    "identity loss 0": {"identity_weight": 0.0},
    "identity loss 2": {"identity_weight": 2.0},
}
FIGURES = ("corr", "articulation", "closure", "lmd", "same_person")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=512, help="motion frames in a batch")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each row, which are averaged")
    parser.add_argument("--every", type=int, default=1, help="measure on every so many clips")
    parser.add_argument("--cache", default="runs/features", help="where speech features are kept")
    parser.add_argument("--offsets", help="JSON of seconds by clip name: how much the speech comes late")
    given = parser.parse_args()
    trainer = argparse.ArgumentParser()
    motion.add_arguments(trainer)
    args = trainer.parse_args(["--data", given.data, "--versions", "1"])
    args.steps, args.tokens, args.offsets = given.steps, given.tokens, given.offsets
    args.feature_noise = 0.1
    speech, extractor = load_speech_encoder(), load_identity()
    args.cache = str(Path(given.cache) / speech.sha256[:12])
    takes, val = motion.load_splits(args, speech)
    print("| | " + " | ".join(FIGURES) + " |\n" + "|---" * (len(FIGURES) + 1) + "|")
    for name, changes in ROWS.items():
        sums = dict.fromkeys(FIGURES, 0.0)
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as run:
                row = argparse.Namespace(**vars(args) | {"seed": seed, "run": run} | changes)
                model = motion.train_on(takes, [], row, Needs(), extractor)
            found = validate(model, motion.person_of(row, extractor), val[:: given.every], extractor, steps=6)
            sums = {figure: total + found[figure] / given.seeds for figure, total in sums.items()}
        print(f"| {name} | " + " | ".join(f"{sums[figure]:.3f}" for figure in FIGURES) + " |", flush=True)


if __name__ == "__main__":
    main()
