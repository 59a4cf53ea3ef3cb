"""What an audio-aware style reference brings: each half of a clip, with the other half as reference, on landmarks.

    python benchmarks/style_figures.py data/prepared [--motion FILE --identity FILE] [--offsets offsets.json]

Every validation clip of at least 2.5 seconds speaks its own words under its upper face played backwards; half a second
lies between target and reference. `other person`: the reference is another clip, which must cost nothing in sync and
gain nothing in shape. `manner`: range and shape of opening are matched to the reference half too, as `speak` does.
Medians per corpus. Last, how well the model can tell a clip's own sound from another clip's (`motion/reference.py`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from comfyui_mytalk.landmarks.sets import landmark_set
from comfyui_mytalk.motion.edit import manner_of, match_manner
from comfyui_mytalk.motion.generate import MotionOptions, generate_motion
from comfyui_mytalk.motion.identity import IdentityExtractor, load_identity
from comfyui_mytalk.motion.model import MotionModel, check_needs, load_motion
from comfyui_mytalk.motion.reference import BELIEVED, Seen, in_sync, memorise
from comfyui_mytalk.motion.style import StyleMemory
from comfyui_mytalk.speech.features import load_speech_encoder
from comfyui_mytalk.training.clips import read_clips, read_offsets
from comfyui_mytalk.training.motion_data import Take, load_takes
from comfyui_mytalk.training.motion_validation import fit_features, measure, per_corpus

GAP = 12  # motion frames between target and reference
LEAST = 62  # motion frames of a clip
LOWER, UPPER = landmark_set("generated"), landmark_set("prefix")
Remember = Callable[[Take, slice], StyleMemory | None]


def halves(take: Take) -> list[tuple[slice, slice]]:
    """Target and reference frames, twice."""
    middle = len(take) // 2
    return [
        (slice(middle, len(take)), slice(0, middle - GAP)),
        (slice(0, middle), slice(middle + GAP, len(take))),
    ]


def seen_in(take: Take, part: slice, features: Tensor | None = None) -> Seen:
    """A part of a take as a reference, with its own speech or other `features`."""
    landmarks, rest = take.landmarks[part], take.landmarks[take.rest][:, LOWER]
    heard = take.features[2 * part.start : 2 * part.stop].float() if features is None else features
    return Seen(landmarks[:, LOWER], landmarks[:, UPPER], rest, heard, torch.ones(len(landmarks), dtype=torch.bool))


def tokens_of(extractor: IdentityExtractor, take: Take) -> Tensor:
    with torch.inference_mode():
        return extractor(take.landmarks[take.rest])


def spoken(
    model: MotionModel, extractor: IdentityExtractor, take: Take, remember: Remember, manner: bool, strength: float
) -> Tensor:
    """The take's face `(t, 478, 2)`, each half generated with what is remembered of the other."""
    made, rest = take.landmarks.clone(), take.landmarks[take.rest][:, LOWER]
    for target, reference in halves(take):
        features = take.features[2 * target.start : 2 * target.stop].float()
        upper, memory = take.landmarks[target][:, UPPER].flip(0), remember(take, reference)
        options = MotionOptions(style_strength=strength)
        lower = generate_motion(model, features, upper, tokens_of(extractor, take), rest, options, memory=memory)
        if manner:
            part = take.landmarks[reference]
            lower = match_manner(lower, manner_of(part, torch.ones(len(part), dtype=torch.bool)))
        made[target] = made[target].index_copy(1, LOWER, lower)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of prepared clips")
    parser.add_argument("--features", default="runs/features", help="where speech features are kept")
    parser.add_argument("--offsets", type=Path, help="JSON of seconds by clip name: how much the speech comes late")
    parser.add_argument("--motion", default="motion_small", help="name or file")
    parser.add_argument("--identity", default="identity_small", help="name or file")
    parser.add_argument("--strength", type=float, default=1.0, help="of the reference (default %(default)s)")
    args = parser.parse_args()
    model, extractor = load_motion(args.motion), load_identity(args.identity)
    speech = load_speech_encoder("speech_small")
    check_needs(model, speech, extractor)
    offsets = read_offsets(args.offsets)
    takes = load_takes(read_clips(args.data, "val"), speech, Path(args.features) / speech.sha256[:12], offsets=offsets)
    takes = [take for take in takes if len(take) >= LEAST]
    another = {take.name: takes[(i + len(takes) // 2) % len(takes)] for i, take in enumerate(takes)}

    def own(take: Take, part: slice) -> StyleMemory | None:
        return memorise(model, seen_in(take, part), tokens_of(extractor, take)).memory

    def foreign(take: Take, part: slice) -> StyleMemory | None:
        other = another[take.name]
        return own(other, slice(0, min(len(other), part.stop - part.start)))

    ways: dict[str, Remember] = {"without": lambda *_: None, "own clip": own, "other person": foreign}
    for manner in (False, True):
        for name, remember in ways.items():
            made = (spoken(model, extractor, take, remember, manner, args.strength) for take in takes)
            table = per_corpus([(take.corpus, measure(face, take)) for take, face in zip(takes, made, strict=True)])
            title = name + (", manner" if manner else "")
            print(f"\n| {title} | " + " | ".join(table) + " |\n" + "|---" * (len(table) + 1) + "|")
            for figure in table["mean"]:
                print(f"| {figure} | " + " | ".join(f"{row[figure]:.3f}" for row in table.values()) + " |", flush=True)
    fits, strange = [], []
    for take in takes:
        for _, part in halves(take):
            other = fit_features(another[take.name].features, part.stop - part.start)
            fits.append(in_sync(model, seen_in(take, part), tokens_of(extractor, take))[1])
            strange.append(in_sync(model, seen_in(take, part, other), tokens_of(extractor, take))[1])
    own_share, other_share = (sum(x >= BELIEVED for x in likeness) / len(likeness) for likeness in (fits, strange))
    print(f"\nbelieved: {own_share:.2f} of clips with their own sound, {other_share:.2f} with another clip's")
    print(
        "likeness, tenths: own", *(f"{x:.2f}" for x in torch.tensor(fits).quantile(torch.arange(0.1, 1, 0.1)).tolist())
    )
    print(
        "               other",
        *(f"{x:.2f}" for x in torch.tensor(strange).quantile(torch.arange(0.1, 1, 0.1)).tolist()),
    )


if __name__ == "__main__":
    main()
