"""How well the shipped motion model follows speech on prepared clips: paired, one sample, measured on landmarks.

    python benchmarks/motion_figures.py data/prepared [--offsets offsets.json] [--sheet sheet.png]

With `--offsets` (from `scripts/align_clips.py`) speech is moved onto the film first: without, a clip that is itself out
of sync lowers the figures of a mouth that is not.

Every clip speaks its own words under its upper face played backwards: the true upper face gives the mouth away.
Medians per corpus. Baselines: loudness, ridge regression from the same features, another clip's speech, a still mouth.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from comfyui_mytalk.evaluation.metrics import correlation, lip_distance, silence, speech_level
from comfyui_mytalk.landmarks.canonical import mouth_opening
from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.motion.edit import manner_of, match_manner
from comfyui_mytalk.motion.generate import MotionOptions
from comfyui_mytalk.motion.identity import IdentityExtractor, load_identity
from comfyui_mytalk.motion.model import MotionModel, check_needs, load_motion
from comfyui_mytalk.speech.audio import SPEECH_RATE
from comfyui_mytalk.speech.features import load_speech_encoder
from comfyui_mytalk.training.clips import read_clips, read_offsets
from comfyui_mytalk.training.motion_data import Take, load_takes
from comfyui_mytalk.training.motion_validation import (
    fit_features,
    full_face,
    generate_take,
    measure,
    per_corpus,
    same_person,
    save_sheet,
)

CONTEXT = 4  # motion frames on either side that the regression sees


def stacked(take: Take) -> Tensor:
    """Features of each motion frame and its neighbours `(t, d)`."""
    frames = take.features.float().view(len(take), -1)
    padded = torch.cat([frames[:1].expand(CONTEXT, -1), frames, frames[-1:].expand(CONTEXT, -1)])
    return torch.cat([padded[i : i + len(frames)] for i in range(2 * CONTEXT + 1)], 1)


def opening_at_rest(take: Take) -> Tensor:
    return mouth_opening(take.landmarks[take.rest]).mean()


def fit_ridge(takes: list[Take]) -> tuple[Tensor, Tensor]:
    """Weights `(d, 1)` and mean input of a regression of the opening beyond rest."""
    x = torch.cat([stacked(take) for take in takes])
    y = torch.cat([mouth_opening(take.landmarks) - opening_at_rest(take) for take in takes])[:, None]
    mean = x.mean(0)
    gram = (x - mean).T @ (x - mean)
    gram += 1e-2 * gram.diagonal().mean() * torch.eye(len(gram))
    return torch.linalg.solve(gram, (x - mean).T @ (y - y.mean())), mean


def baselines(take: Take, loudness: Tensor, ridge: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Correlations of loudness and regression with the opening, the regression's range, and a still mouth's error."""
    truth = mouth_opening(take.landmarks)
    regression = ((stacked(take) - ridge[1]) @ ridge[0])[:, 0]
    return {
        "loudness": correlation(loudness[: len(take)], truth),
        "ridge": correlation(regression, truth),
        "ridge_articulation": (regression.std() / truth.std()).item(),
        "lmd_mean_mouth": lip_distance(take.landmarks.mean(0, keepdim=True), take.landmarks),
        "lmd_rest_mouth": lip_distance(take.landmarks[take.rest].mean(0, keepdim=True), take.landmarks),
    }


def own_manner(landmarks: Tensor, take: Take, shape: bool = True) -> Tensor:
    """The generated face `(t, 478, 2)` moving in the person's manner, as `speak` makes it; range alone without `shape`.

    Each half of the clip shows the manner for the other: in use the words are others than the clip's.
    """
    lower, half = landmarks[:, landmark_set("generated")], len(take) // 2
    parts = take.landmarks[half:], take.landmarks[:half]
    shown = [manner_of(part, torch.ones(len(part), dtype=torch.bool)) for part in parts]
    first, second = (match_manner(lower, m if shape else m._replace(parted=None)) for m in shown)
    return full_face(take, torch.cat([first[:half], second[half:]]))


def figures_of(
    model: MotionModel, extractor: IdentityExtractor, take: Take, other: Take, sound: Tensor, options: MotionOptions
) -> dict[str, float]:
    """All figures of one take; `other` lends its speech, `sound (s,)` is the take's own at 16 kHz."""
    truth, upper = mouth_opening(take.landmarks), take.landmarks[:, landmark_set("prefix")].flip(0)
    made = generate_take(model, extractor, take, options, upper=upper)
    silent = silence(speech_level(sound, len(take)))
    figures = measure(made, take, silent)
    ranged = measure(own_manner(made, take), take, silent)
    figures |= {f"{name}_own_manner": ranged[name] for name in ("articulation", "jerk", "lmd", "closure", "silence")}
    figures["lmd_own_range"] = lip_distance(own_manner(made, take, shape=False), take.landmarks)
    figures["same_person"] = same_person(extractor, own_manner(made, take), take)
    foreign = fit_features(other.features, len(take))
    for name, changed in (("shuffled", {"features": foreign, "upper": upper}), ("true_upper", {})):
        figures[name] = correlation(mouth_opening(generate_take(model, extractor, take, options, **changed)), truth)
    return figures


def one_of_each(takes: list[Take], count: int = 5) -> list[Take]:
    """The first take of each corpus, the largest corpora first."""
    corpora = [name for name, _ in Counter(take.corpus for take in takes).most_common(count)]
    return [next(take for take in takes if take.corpus == corpus) for corpus in corpora]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--features", default="runs/features", help="where speech features are kept")
    parser.add_argument("--offsets", type=Path, help="JSON of seconds by clip name: how much the speech comes late")
    parser.add_argument("--motion", default="motion_small", help="name or file")
    parser.add_argument("--speech-encoder", default="speech_small", help="name, folder or file")
    parser.add_argument("--identity", default="identity_small", help="name or file")
    parser.add_argument("--steps", type=int, default=MotionOptions.steps)
    parser.add_argument("--variation", type=float, default=MotionOptions.variation)
    parser.add_argument("--guidance", type=float, default=MotionOptions.guidance)
    parser.add_argument("--sheet", help="write a picture of curves and lips here")
    args = parser.parse_args()
    model, extractor = load_motion(args.motion), load_identity(args.identity)
    speech = load_speech_encoder(args.speech_encoder)
    check_needs(model, speech, extractor)
    cache = Path(args.features) / speech.sha256[:12]
    clips, offsets = read_clips(args.data, "val"), read_offsets(args.offsets)
    takes = load_takes(clips, speech, cache, offsets=offsets)
    ridge = fit_ridge(load_takes(read_clips(args.data, "train"), speech, cache, offsets=offsets))
    sound = {c.path.stem: pad(c.speech, (-round(offsets.get(c.path.stem, 0) * SPEECH_RATE), 0)) for c in clips}
    options, rows = MotionOptions(steps=args.steps, variation=args.variation, guidance=args.guidance), []
    for index, take in enumerate(takes):
        other = takes[(index + len(takes) // 2) % len(takes)]
        padded = pad(sound[take.name], (0, 640 * len(take)))[: 640 * len(take)]
        figures = figures_of(model, extractor, take, other, padded, options)
        loudness = padded.view(-1, 640).square().mean(1).add(1e-6).log()
        rows.append((take.corpus, figures | baselines(take, loudness, ridge)))
    table = per_corpus(rows)
    print("| | " + " | ".join(table) + " |")
    print("|---" * (len(table) + 1) + "|")
    for name in rows[0][1]:
        print(f"| {name} | " + " | ".join(f"{figures[name]:.2f}" for figures in table.values()) + " |")
    if args.sheet:
        save_sheet(Path(args.sheet), model, extractor, one_of_each(takes), args.steps)


if __name__ == "__main__":
    main()
