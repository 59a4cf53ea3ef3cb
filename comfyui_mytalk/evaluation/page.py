"""The report as one self-contained HTML page: tables, and every clip with its plot and mouths, worst first."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Any, NamedTuple

from PIL import Image

from .report import METRICS, corpus_table, method_table, number, protocols_of

WORST_BY = {"reconstruction": "psnr_mouth"}  # elsewhere the mouth opening's correlation
JPEG_QUALITY = 80
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 13px; margin: .5rem 0 1.5rem; display: block; overflow-x: auto }
td, th { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
td:first-child, th:first-child { text-align: left; position: sticky; left: 0; background: #fff }
img { max-width: 100%; display: block; margin: .3rem 0 } details { margin: .4rem 0 } summary { cursor: pointer }
.clip { border-top: 1px solid #ccc; padding: .6rem 0 } .small { color: #666; font-size: 13px }
"""


class Exhibit(NamedTuple):
    """What the page shows of one clip: JPEG or PNG bytes of its plot and, for some, of its mouths."""

    plot: bytes
    sheet: bytes = b""


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    """PNG for plots, JPEG for photographs."""
    data = io.BytesIO()
    image.save(data, kind, **({"quality": JPEG_QUALITY} if kind == "JPEG" else {"optimize": True}))
    return data.getvalue()


def html_page(report: dict[str, Any], shown: str, exhibits: dict[str, dict[str, Exhibit]]) -> str:
    """`shown` is the method whose clips are exhibited: `protocol -> clip -> Exhibit`."""
    parts = [f"<style>{STYLE}</style><h1>Evaluation</h1>", about(report)]
    for protocol, methods in protocols_of(report).items():
        parts += [f"<h2>{escape(protocol)}</h2>"]
        parts += ["<h3>Mean of the corpora's medians, 95 % bootstrap interval over people</h3>"]
        parts += [table(*method_table(methods, "mean_of_corpora"))]
        parts += [fold("Medians over all clips", table(*method_table(methods, "median")))]
        for method, figures in methods.items():
            parts += [fold(f"{method}: corpora", table(*corpus_table(figures)))]
        parts += clips_of(protocol, methods.get(shown, {}), exhibits.get(protocol, {}))
    meaning = [[metric.label, {"one": "near 1", "zero": "near 0"}.get(metric.good, metric.good), metric.says]
               for metric in METRICS.values()]  # fmt: skip
    parts += ["<h2>What the figures say</h2>", table(["figure", "good", "what it is"], meaning)]
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>MyTalk evaluation</title>'
    return head + "\n".join(parts) + "</html>\n"


def about(report: dict[str, Any]) -> str:
    rows = [[str(name), str(value)] for name, value in report["about"].items()]
    rows += [[f"not scored: {name}", reason] for name, reason in report.get("failed", {}).items()]
    return table(["", ""], rows)


def clips_of(protocol: str, figures: dict[str, Any], exhibits: dict[str, Exhibit]) -> list[str]:
    """Every clip of a protocol, worst first."""
    metric = WORST_BY.get(protocol, "opening_correlation")
    values = figures.get(metric, {}).get("per_clip", {})
    parts = [f"<h3>Clips, worst {escape(METRICS[metric].label)} first</h3>"] if exhibits else []
    for clip in sorted(exhibits, key=lambda name: (values.get(name, 0), name)):
        row = {METRICS[m].label: f["per_clip"].get(clip) for m, f in figures.items()}
        text = ", ".join(f"{label} {number(value)}" for label, value in row.items() if value is not None)
        images = [picture(data, clip) for data in (exhibits[clip].plot, exhibits[clip].sheet) if data]
        line = f'<p class="small">{escape(text)}</p>'
        parts.append(f'<div class="clip"><b>{escape(clip)}</b>{line}{"".join(images)}</div>')
    return parts


def picture(data: bytes, name: str) -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f'<img alt="{escape(name)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def fold(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def table(head: list[str], rows: list[list[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
