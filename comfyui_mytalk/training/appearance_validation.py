"""What the appearance trainer reports: PSNR, SSIM and sharpness of the mouth box, on people it never saw.

Protocol (A1 of docs/experiments.md): references from the first half of a clip, targets from the second half, true
landmarks, faces of at least 100 px, medians over a corpus' clips, mean over corpora.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..appearance.fixed import telling_pictures
from ..appearance.model import AppearanceModel
from ..appearance.params import AppearanceParams
from ..appearance.references import FIXED
from ..appearance.render import References, finish_mouth
from ..errors import InputError
from ..evaluation.pictures import psnr, require_torchmetrics, sharpness_ratio, ssim
from .appearance_data import ClipView, RawSample, Sample, make_sample, nearest
from .clips import PreparedClip

MIN_FACE, MIN_FRAMES = 100.0, 24
Method = Callable[[RawSample, Sample], Tensor]
FIGURES = ("psnr", "ssim", "sharpness")


def validation_samples(
    clips: list[PreparedClip], p: AppearanceParams, per_clip: int = 3, fixed: bool = False
) -> Iterator[tuple[PreparedClip, RawSample]]:
    """Targets spread over the second half of each clip, with references of the first half; pictures of one at a time.

    References are the nearest mouths, of all of them or of those few (`fixed`) that tell most about the others, which
    are then also all that a regression knows.
    """
    for clip in clips:
        if clip.face_px >= MIN_FACE and (halves := targets(clip, p.references, per_clip)) is not None:
            view, first, frames = halves
            if fixed:
                first = fixed_references(view, first, FIXED if p.regression else p.references)
            for frame in frames:
                yield clip, _raw(view, frame, first, p)
            clip.forget()


def check_validation(clips: list[PreparedClip], p: AppearanceParams, per_clip: int = 2) -> None:
    """Raise InputError when `validate` could use none of the clips, or has no torchmetrics, before hours of training.

    No clips, no validation. Landmarks and the metadata tell: no picture is read.
    """
    if clips:
        require_torchmetrics()
    large = [clip for clip in clips if clip.face_px >= MIN_FACE]
    if clips and not any(long_enough(clip, p.references, per_clip) for clip in large):
        raise InputError(
            f"no usable validation clip: of {len(clips)}, {len(clips) - len(large)} show a face smaller than "
            f"{MIN_FACE:.0f} px or of unknown size, and {len(large)} have fewer than {MIN_FRAMES} frames or hardly any "
            "with a face in one of their halves; prepare longer clips, or larger faces, of people for validation"
        )


def long_enough(clip: PreparedClip, references: int, count: int) -> bool:
    """Whether both halves of a clip show the face often enough for so many references and targets."""
    first = int(clip.found[: len(clip) // 2].sum())
    return len(clip) >= MIN_FRAMES and first >= references and int(clip.found.sum()) - first >= count


def targets(clip: PreparedClip, references: int, count: int) -> tuple[ClipView, np.ndarray, list[int]] | None:
    """The clip, the frames of its first half, and `count` frames of the second; None for a clip too short."""
    if not long_enough(clip, references, count):
        return None
    view, middle = ClipView(clip), len(clip) // 2
    first, second = view.frames[view.frames < middle], view.frames[view.frames >= middle]
    return view, first, second[np.linspace(0, len(second) - 1, count + 2).astype(int)[1:-1]].tolist()


def _raw(view: ClipView, frame: int, allowed: np.ndarray, p: AppearanceParams) -> RawSample:
    near = nearest(view, frame, allowed)
    if not p.regression:
        return view.raw(frame, sorted(near[: p.references].tolist(), key=lambda i: float(view.opening[i])))
    if view.regression is None:
        view.know(allowed)
    return view.raw(frame, near[: p.references - 1].tolist(), allowed)


def fixed_references(view: ClipView, allowed: np.ndarray, count: int) -> np.ndarray:
    """The `count` frames among those `allowed` that tell most about the others; the clip's regression knows no more."""
    view.know(allowed)
    chosen = view.bank[telling_pictures(view.regression, count).numpy()]
    view.know(chosen)
    return chosen


def score_corpora(
    clips: list[PreparedClip], method: Method, params: AppearanceParams, per_clip: int = 3, fixed: bool = False
) -> dict[str, dict[str, float]]:
    """Per corpus the median over its clips of each of `FIGURES` in the mouth box."""
    rows = []
    for clip, raw in validation_samples(clips, params, per_clip, fixed):
        sample = make_sample(params, [raw])
        rows.append((clip, mouth_scores(method(raw, sample), sample)))
    return per_corpus(rows)


def per_corpus(rows: list[tuple[PreparedClip, tuple[float, ...]]]) -> dict[str, dict[str, float]]:
    """Medians over the clips of each corpus, of the means over each clip's targets."""
    values: dict[str, dict[str, list[tuple[float, ...]]]] = defaultdict(lambda: defaultdict(list))
    for clip, scores in rows:
        values[clip.corpus][str(clip.path)].append(scores)
    medians = {name: np.median([np.mean(v, 0) for v in found.values()], 0) for name, found in sorted(values.items())}
    return {name: dict(zip(FIGURES, map(float, row), strict=True)) for name, row in medians.items()}


def corpus_mean(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Mean over corpora of each figure."""
    return {name: float(np.mean([row[name] for row in scores.values()])) for name in FIGURES}


def mouth_window(mouth: Tensor) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the mouth box `(1, 1, h, w)`."""
    rows, columns = mouth[0, 0].amax(1).nonzero()[:, 0], mouth[0, 0].amax(0).nonzero()[:, 0]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def mouth_scores(picture: Tensor, sample: Sample) -> tuple[float, ...]:
    """`FIGURES` of `picture (1, 3, h, w)` in the mouth box, once it lies in the frame."""
    picture = picture.clamp(0, 1) * sample.mask + sample.target * (1 - sample.mask)
    top, bottom, left, right = mouth_window(sample.mouth)
    mine, truth = (whole[..., top:bottom, left:right] for whole in (picture, sample.target))
    return float(psnr(mine, truth)), float(ssim(mine, truth)), float(sharpness_ratio(mine, truth))


def network(model: AppearanceModel) -> Method:
    """What is painted with the model, as a method to score."""
    device = next(model.parameters()).device

    def method(raw: RawSample, sample: Sample) -> Tensor:
        picture, size = model(*sample.to(device).inputs).cpu(), raw.crop.shape[-1]
        parts = (raw.images, raw.reference_points, raw.reference_masks, raw.openings)
        references = References(*(tensor[None] for tensor in parts))
        return finish_mouth(model.params, picture, sample.inputs.references, raw.points[None], references, size)

    return method


@torch.no_grad()
def validate(model: AppearanceModel, clips: list[PreparedClip], per_clip: int = 2) -> dict[str, float]:
    """`val_psnr`, `val_ssim`, `val_sharpness` of the model, mean over corpora."""
    scores = corpus_mean(score_corpora(clips, network(model), model.params, per_clip))
    return {f"val_{name}": value for name, value in scores.items()}


@torch.no_grad()
def save_sheet(model: AppearanceModel, clips: list[PreparedClip], path: Path, columns: int = 10) -> None:
    """Picture for the eye: target, masked input, middle one of the references, output; one column per clip."""
    p = model.params
    clips = [clip for clip in clips if clip.face_px >= MIN_FACE and long_enough(clip, p.references, 1)]
    clips = [clips[i] for i in np.linspace(0, len(clips) - 1, min(columns, len(clips))).astype(int)]
    paint, strips = network(model), []
    for _, raw in validation_samples(clips, p, 1):
        sample = make_sample(model.params, [raw])
        out = paint(raw, sample) * sample.mask + sample.target * (1 - sample.mask)
        shown = sample.inputs.references[:, p.references // 2]
        strips.append(torch.cat([sample.target, sample.inputs.masked, shown, out], 2)[0])
    sheet = (torch.cat(strips, 2).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)
