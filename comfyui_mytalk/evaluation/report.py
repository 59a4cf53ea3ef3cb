"""From figures per clip to a report: JSON for machines, Markdown for people.

`report.json` is `protocol -> method -> metric -> {median, mean, mean_of_corpora, per_corpus, per_clip}`, where
`per_corpus` are medians and `per_clip` the figures themselves, beside `about`, which says how they were made.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, median
from typing import Any

from ..output import write_aside

Figures = dict[str, float]
LABELS = {
    "psnr_mouth": "PSNR mouth, dB",
    "ssim_mouth": "SSIM mouth",
    "sharpness": "sharpness",
    "opening_correlation": "opening corr.",
    "lag_frames": "lag, frames",
    "best_lag_correlation": "corr. at lag",
    "articulation": "articulation",
    "lip_distance_cm": "LMD, cm",
    "identical_outside": "identical outside",
}


class Table:
    """Figures of every clip, gathered while the methods run."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[str, Figures]] = {}
        self.corpus: dict[str, str] = {}

    def add(self, protocol: str, method: str, clip: str, corpus: str, figures: Figures) -> None:
        self.rows.setdefault((protocol, method), {})[clip] = figures
        self.corpus[clip] = corpus

    def summary(self) -> dict[str, Any]:
        """`protocol -> method -> metric -> {...}`."""
        result: dict[str, Any] = {}
        for (protocol, method), clips in self.rows.items():
            metrics = dict.fromkeys(name for figures in clips.values() for name in figures)
            result.setdefault(protocol, {})[method] = {
                name: summarise({clip: f[name] for clip, f in clips.items() if name in f}, self.corpus)
                for name in metrics
            }
        return result


def summarise(per_clip: Figures, corpus: dict[str, str]) -> dict[str, Any]:
    """Pooled median and mean over clips, median of each corpus, and the mean of those."""
    groups: dict[str, list[float]] = {}
    for clip, value in per_clip.items():
        groups.setdefault(corpus[clip], []).append(value)
    per_corpus = {name: median(values) for name, values in sorted(groups.items())}
    values = list(per_clip.values())
    return {
        "median": median(values),
        "mean": fmean(values),
        "mean_of_corpora": fmean(per_corpus.values()),
        "per_corpus": per_corpus,
        "per_clip": per_clip,
    }


def write_report(folder: Path, summary: dict[str, Any], about: dict[str, Any]) -> None:
    """Write `report.json` and `report.md` into `folder`, creating it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("report.json", json.dumps({"about": about, **summary}, indent=1) + "\n"),
        ("report.md", markdown(summary, about)),
    ):
        with write_aside(folder / name) as aside:
            aside.write_text(text, encoding="utf-8")


def markdown(summary: dict[str, Any], about: dict[str, Any]) -> str:
    """The report as tables: all methods pooled, as mean of the corpora, and per corpus for each method."""
    lines = ["# Evaluation", "", *(f"- {name}: {value}" for name, value in about.items())]
    for protocol, methods in summary.items():
        metrics = [name for name in LABELS if any(name in figures for figures in methods.values())]
        for key, title in (("median", "median over clips"), ("mean_of_corpora", "mean of the corpora's medians")):
            rows = [[method, *(cell(figures, name, key) for name in metrics)] for method, figures in methods.items()]
            lines += ["", f"## {protocol}: {title}", "", *table(["method", *(LABELS[m] for m in metrics)], rows)]
        for method, figures in methods.items():
            names = [name for name in metrics if name in figures]
            corpora = figures[names[0]]["per_corpus"]
            rows = [
                [corpus, *(number(figures[name]["per_corpus"].get(corpus)) for name in names)] for corpus in corpora
            ]
            lines += [
                "",
                f"### {protocol}, {method}: per corpus",
                "",
                *table(["corpus", *(LABELS[m] for m in names)], rows),
            ]
    return "\n".join(lines) + "\n"


def cell(figures: dict[str, Any], name: str, key: str) -> str:
    return number(figures[name][key]) if name in figures else "–"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [" | ".join(line).join(("| ", " |")) for line in (head, ["---"] * len(head), *rows)]
