"""A result judged where it was made, in a graph: against its source and the speech, with no right answer at hand.

f frames   h w picture   t motion frames at 25 fps
"""

from __future__ import annotations

from math import isnan
from pathlib import Path

import torch
from PIL import Image

from ..errors import InputError
from ..frames import TensorSource
from ..geometry import geometry
from ..landmarks.track import FaceTrack
from ..speech.audio import Audio, fit_audio
from .pictures import identical_share
from .plot import opening_plot
from .report import METRICS, number
from .score import Figures, Judges, identical_outside, score
from .talks import CHUNK, UNPAIRED, Case, Talk

SPEAKERS = ("opening_correlation", "best_lag_correlation", "lag_frames", "closure_precision", "closure_recall",
            "closure_f1")  # fmt: skip


def score_result(
    frames: torch.Tensor,
    source: torch.Tensor,
    track: FaceTrack,
    audio: Audio,
    fps: float,
    judges: Judges,
    same_words: bool = False,
    mask: torch.Tensor | None = None,
) -> tuple[Figures, Image.Image]:
    """Figures (`report.METRICS`) and plot of `frames` made from `source`, both `(f, h, w, 3)` uint8 or float 0..1.

    `track` is the face in the source. Figures that compare mouths with the source's are given only where it says the
    `same_words`. `mask (f, h, w)`: which pixels of the frames are new, above 0; else it is taken from both faces.
    Raises InputError when the two differ in shape, or no face is found.
    """
    if frames.shape[:3] != source.shape[:3]:
        raise InputError(
            f"frames: got {tuple(frames.shape[:3])} (count, height, width), the source has {tuple(source.shape[:3])}; "
            "score the frames as they come out of Paste Back or Lip Sync"
        )
    made, original = (to_bytes(pixels, fps) for pixels in (frames, source))
    talk = Talk(Path(), track, fit_audio(audio, len(source) / fps), fps)
    case = Case(UNPAIRED, talk, talk, original)
    result = score(case, made, geometry(track).mask(256), judges)
    figures = {name: value for name, value in result.figures.items() if same_words or name not in SPEAKERS}
    figures["identical_outside"] = identical_beside(case, made, result.track, mask)
    if same_words:
        figures.pop("leak", None)
    opening, truth, level = result.series
    title = "mouth opening: result red, source black; level of the speech below"
    plot = opening_plot(opening, truth, level / level.max().clamp_min(1e-6), title, (960, 320))
    return {name: value for name, value in figures.items() if not isnan(value)}, plot


def identical_beside(case: Case, made: torch.Tensor, face: FaceTrack, mask: torch.Tensor | None) -> float:
    """The least share of identical pixels outside `mask`, in any stretch of `made`, where `face` was found.

    Without a mask, outside of what is made anew for a face that opens its mouth as both of them do: a chin that sinks
    lower than it did in the source is pasted farther down.
    """
    if mask is None:
        return identical_outside(case, made, geometry(case.talk.track, face).mask(256))
    stretches = zip(*(rows.split(CHUNK) for rows in (made, case.frames, mask)), strict=True)
    return min(
        identical_share(*(pixels.permute(0, 3, 1, 2) for pixels in pair), new[:, None]) for *pair, new in stretches
    )


def to_bytes(pixels: torch.Tensor, fps: float) -> torch.Tensor:
    """`(f, h, w, 3)` uint8 of frames in either form."""
    return torch.cat([frames for frames, _ in TensorSource(pixels, fps).chunks(CHUNK)])


def as_text(figures: Figures) -> str:
    """One figure a line, with what it says."""
    return "\n".join(
        f"{metric.label}: {number(figures[name])} ({metric.says})"
        for name, metric in METRICS.items()
        if name in figures
    )
