"""The paper's Table 7 at a size that fits, and ours: what the network is shown of the person.

    python benchmarks/appearance_ablations.py data/prepared --steps 400

Every row is trained from random weights on the same clips without a GAN, and measured as in training: mouth box, true
landmarks, references of a clip's first half, targets of its second, mean over the corpora of the validation split.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from comfyui_mytalk.appearance.model import load_appearance
from comfyui_mytalk.training import appearance
from comfyui_mytalk.training.appearance_validation import corpus_mean, network, score_corpora
from comfyui_mytalk.training.clips import read_clips

ROWS = {
    "single reference, whole face": "single-full",
    "single reference, lips only": "single-masked",
    "three references, lips only (the paper's)": "masked",
    "three references, moved onto the landmarks": "aligned",
    "regression on all, three moved (ours)": "regression",
}
TRAINING = ("--cut", "112", "128", "--echo", "8", "--pool", "64", "--gan-from", "2", "--validate-every", "1000000")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=1, help="measure on every so many clips")
    options = parser.parse_args()
    trainer = argparse.ArgumentParser()
    appearance.add_arguments(trainer)
    clips = read_clips(options.data, "val")[:: options.every]
    print("| | all of the first half: PSNR / SSIM / sharpness | three fixed references |\n|---|---|---|")
    for name, design in ROWS.items():
        with tempfile.TemporaryDirectory() as run:
            save = Path(run) / "weights.safetensors"
            args = ["--data", options.data, "--references", design, "--run", run, "--save", str(save), *TRAINING]
            appearance.main(trainer.parse_args([*args, "--steps", str(options.steps), "--validate-clips", "1"]))
            model = load_appearance(str(save))
        cells = []
        for fixed in (False, True):
            with torch.no_grad():
                row = corpus_mean(score_corpora(clips, network(model), model.params, 2, fixed))
            cells.append("{psnr:.2f} / {ssim:.3f} / {sharpness:.2f}".format(**row))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
