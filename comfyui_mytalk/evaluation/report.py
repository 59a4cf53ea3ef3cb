"""The report: JSON for machines, Markdown for documents, one HTML page for people (`page.py`).

`report.json` is stable: `protocol -> method -> metric -> {median, iqr, mean, mean_of_corpora, ci, per_corpus,
per_clip}`, beside `about`, which says how the figures were made, and `failed`. `per_corpus` are medians, `ci` holds the
95 % bootstrap intervals of `median` and `mean_of_corpora`. Fields are added, never renamed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from ..output import write_aside
from .clips import Clip
from .score import Figures
from .statistics import Bootstrap, summarise


class Metric(NamedTuple):
    """How a figure is shown: heading, what is good (`high`, `low`, `one`, `zero`), and what it says."""

    label: str
    good: str
    says: str


METRICS = {
    "psnr": Metric("PSNR", "high", "aligned 256 px crop, dB"),
    "ssim": Metric("SSIM", "high", "aligned 256 px crop"),
    "psnr_mouth": Metric("PSNR mouth", "high", "mouth box, dB"),
    "ssim_mouth": Metric("SSIM mouth", "high", "mouth box"),
    "lpips": Metric("LPIPS", "low", "aligned 256 px crop"),
    "fid": Metric("FID", "low", "aligned crops of all clips against the originals'"),
    "sharpness": Metric("sharpness", "one", "Laplacian energy of the mouth box over the original's"),
    "flicker": Metric("flicker", "one", "second difference over time inside the mask over the original's"),
    "seam": Metric("seam", "one", "gradients at the mask's soft edge over the original's"),
    "identical_outside": Metric("identical outside", "one", "share of bit-identical pixels outside the mask"),
    "opening_correlation": Metric("opening corr.", "high", "mouth opening against the speaker's, no lag"),
    "best_lag_correlation": Metric("corr. at lag", "high", "the same at the best lag"),
    "lag_frames": Metric("lag", "zero", "best lag of the mouth opening, 25 fps frames, positive is late"),
    "articulation": Metric("articulation", "one", "standard deviation of the mouth opening over the speaker's"),
    "lip_distance_cm": Metric("LMD, cm", "low", "mean distance of the 80 lip points, pose taken out"),
    "closure_precision": Metric("closure precision", "high", "share of lip closures that the speaker makes too"),
    "closure_recall": Metric("closure recall", "high", "share of the speaker's lip closures that are met"),
    "closure_f1": Metric("closure F1", "high", "harmonic mean of the two"),
    "silent_movement": Metric("in silence", "low", "speed of the opening in pauses over its speed in speech"),
    "jerk": Metric("jerk", "one", "third difference of the lips over the speaker's"),
    "leak": Metric("leak", "zero", "correlation with the source video's own, old mouth"),
    "shift_stability": Metric("shift stability", "high", "correlation with the mouth over a source shifted by 0.48 s"),
    "sync_confidence": Metric("sync conf.", "high", "independent judge: confidence"),
    "sync_distance": Metric("sync dist.", "low", "independent judge: distance"),
    "sync_offset": Metric("sync offset", "zero", "independent judge: offset in 25 fps frames"),
    "in_sync": Metric("in sync", "high", "share of clips whose judged offset is at most a frame"),
    "identity": Metric("identity", "high", "cosine of the landmark identity embeddings"),
    "arcface": Metric("ArcFace", "high", "cosine of the given ArcFace model's embeddings"),
    "face_lost": Metric(
        "face lost", "zero", "share of the source's frames with a face in which none is found any more"
    ),
}
MEANS_ONLY = ("in_sync",)  # the median of yes and no says nothing


class Table:
    """Figures of every clip, gathered while the methods run."""

    def __init__(self, clips: list[Clip]) -> None:
        self.clips = {clip.name: clip for clip in clips}
        self.rows: dict[str, dict[str, dict[str, Figures]]] = {}

    def add(self, protocol: str, method: str, clip: str, figures: Figures) -> None:
        self.rows.setdefault(protocol, {}).setdefault(method, {})[clip] = figures

    def summary(self) -> dict[str, Any]:
        """`protocol -> method -> metric -> {...}`; clips that a protocol could not use are not counted there."""
        return {protocol: self._protocol(methods) for protocol, methods in self.rows.items()}

    def _protocol(self, methods: dict[str, dict[str, Figures]]) -> dict[str, Any]:
        names = [name for name in self.clips if any(name in clips for clips in methods.values())]
        corpora = [self.clips[name].corpus for name in names]
        bootstrap = Bootstrap(corpora, [self.clips[name].identity or name for name in names])
        result: dict[str, Any] = {}
        for method, clips in methods.items():
            metrics = [metric for metric in METRICS if any(metric in figures for figures in clips.values())]
            result[method] = {
                metric: summarise({c: f[metric] for c, f in clips.items() if metric in f}, names, corpora, bootstrap)
                for metric in metrics
            }
        return result


def write_report(folder: Path, report: dict[str, Any], html: str) -> None:
    """Write `report.json`, `report.md` and `report.html` into `folder`, creating it."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"json": json.dumps(report, indent=1) + "\n", "md": markdown(report), "html": html}
    for suffix, text in texts.items():
        with write_aside(folder / f"report.{suffix}") as aside:
            aside.write_text(text, encoding="utf-8")


def protocols_of(report: dict[str, Any]) -> dict[str, Any]:
    return {name: methods for name, methods in report.items() if name not in ("about", "failed")}


def markdown(report: dict[str, Any]) -> str:
    """The tables: mean of the corpora's medians with intervals, pooled medians, and each method's corpora."""
    lines = ["# Evaluation", "", *(f"- {name}: {value}" for name, value in report["about"].items())]
    for protocol, methods in protocols_of(report).items():
        for key, title in (("mean_of_corpora", "mean of the corpora's medians"), ("median", "median over clips")):
            lines += ["", f"## {protocol}: {title}", "", *markdown_table(*method_table(methods, key))]
        for method, figures in methods.items():
            lines += ["", f"### {protocol}, {method}: corpora", "", *markdown_table(*corpus_table(figures))]
    return "\n".join(lines) + "\n"


def method_table(methods: dict[str, Any], key: str) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row a metric, one column a method; `key` is `mean_of_corpora` (with interval) or `median`."""
    metrics = [name for name in METRICS if any(name in figures for figures in methods.values())]
    rows = [
        [METRICS[name].label, *(cell(figures.get(name), key, name) for figures in methods.values())]
        for name in metrics
        if key != "median" or name not in MEANS_ONLY
    ]
    counts = [
        str(max((len(figure["per_clip"]) for figure in figures.values()), default=0)) for figures in methods.values()
    ]
    return ["", *methods], [["clips", *counts], *rows]


def cell(summary: dict[str, Any] | None, key: str, metric: str) -> str:
    if summary is None:
        return "–"
    if metric in MEANS_ONLY:
        return number(summary["mean"])
    if not summary["ci"][key]:
        return number(summary[key])
    low, high = summary["ci"][key]
    return f"{number(summary[key])} ({number(low)} … {number(high)})"


def corpus_table(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of one method: one row a corpus, one column a metric."""
    metrics = list(figures)
    corpora = sorted({corpus for metric in metrics for corpus in figures[metric]["per_corpus"]})
    rows = [[corpus, *(number(figures[m]["per_corpus"].get(corpus)) for m in metrics)] for corpus in corpora]
    return ["corpus", *(METRICS[m].label for m in metrics)], rows


def number(value: float | None) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.3f}".rstrip("0").rstrip(".").replace("-0", "0") if abs(value) < 5e-4 else f"{value:.3g}"


def markdown_table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [" | ".join(line).join(("| ", " |")) for line in (head, ["---"] * len(head), *rows)]
