"""`evaluate`: the shipped pipeline, baselines, or anybody's videos on clips whose answer is known.

Three protocols (`talks.PROTOCOLS`), all methods in one run. Frames of ours are judged before they are encoded, so that
no codec is measured.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..checkpoints import find_weights, load_checkpoint
from ..commands.arguments import positive, shard, whole_number
from ..devices import pick_device
from ..errors import InputError
from ..info import installed
from ..landmarks.track import load_face_landmarker
from ..models import Models, load_models
from ..motion.identity import load_identity
from ..options import SyncOptions
from ..output import write_aside
from ..speaking import motion_choices
from .arcface import load_arcface
from .clips import Clip, find_clips
from .methods import METHODS, ORIGINAL, SAID, Studio
from .outputs import has_protocols
from .page import html_page
from .perceptual import available_fid, available_lpips, fid
from .pictures import require_torchmetrics
from .report import Table, write_report
from .run import ClipResult, Run
from .score import Judges
from .statistics import pooled
from .sync_judge import load_sync_judge
from .syncnet import load_syncnet
from .talks import PROTOCOLS, UNPAIRED, partners

OPTIONS = (
    "seed", "steps", "strength", "style_strength", "references", "keep_occlusions",
    "speech_encoder", "identity", "motion", "appearance", "occlusion", "device", "dtype",
)  # fmt: skip
WEIGHTS = ("motion", "appearance", "identity", "occlusion")
LONELY = "all clips are of one person, there are nobody else's words to speak"
logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("clips", type=Path, help="folder of talking clips, each with its own speech")
    add("-o", "--output", type=Path, default=Path("report"), help="folder for the report (default %(default)s)")
    add("--index", type=Path, help="JSON list of the clips, as `prepare` writes it (default CLIPS/index.json if any)")
    add("--split", help="only clips of this split of the index, for example val")
    add("--corpus", help="only clips of this corpus of the index")
    add("--limit", type=whole_number(1), help="at most so many clips, taken from each corpus in turn")
    add("--duration", type=positive, metavar="S", help="only the first S seconds of each clip")
    add("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS), help="(default: all three)")
    add("--methods", nargs="+", choices=METHODS, help="(default: all; with --outputs only the original beside them)")
    add("--outputs", type=Path, metavar="DIR", help="score another tool's videos of these clips: DIR/PROTOCOL/NAME.mp4")
    add(
        "--shard",
        type=shard,
        metavar="I/N",
        help="score only the I-th of N shares of the clips, into the same -o; then run without it to write the report",
    )
    add("--sync-judge", default="sync_judge_small", metavar="NAME", help="judge of lip sync (default %(default)s)")
    add("--syncnet", type=Path, metavar="FILE", help="judge by SyncNet in its original format instead")
    add("--arcface", type=Path, metavar="FILE", help="compare faces by this ArcFace network (ONNX) too")
    for name in OPTIONS:
        default = getattr(SyncOptions, name)
        flag = "--" + name.replace("_", "-")
        choices = ("retrieved", "fixed") if name == "references" else None
        how = {"type": type(default), "choices": choices}
        if isinstance(default, bool):
            how = {"action": argparse.BooleanOptionalAction}
        add(flag, **how, default=default, help="as in sync (default %(default)s)")


def main(args: argparse.Namespace) -> str:
    """Score every clip and write the report; returns what was written."""
    if args.output.exists() and not args.output.is_dir():
        raise InputError(f"got the file {args.output} as output, expected a folder for the report")
    if args.outputs is not None:
        check_outputs(args.outputs, args.protocols)
    require_torchmetrics()
    clips = find_clips(args.clips, args.index, args.split, args.corpus, args.limit)
    lonely = UNPAIRED in args.protocols and not partners(clips)
    if lonely:
        logger.warning("%s is left out: %s", UNPAIRED, LONELY)
    run = prepare_run(args, clips)
    results = run.score_clips(args.shard or (0, 1))
    if args.shard is not None:
        return f"kept the results of {len(results)} clips in {args.output / 'clips'}"
    failed = {what: why for result in results.values() for what, why in result.failed.items()}
    failed |= {UNPAIRED: LONELY} if lonely else {}
    if not any(result.figures for result in results.values()):
        first = next(iter(failed.values()))
        raise InputError(f"none of the {len(clips)} clips in {args.clips} could be used; the first: {first}")
    summary = tabulate(clips, results).summary()
    add_fid(summary, results)
    report = {"about": describe(args, run, results), "failed": failed, **summary}
    exhibits = {p: {c: r.exhibits[p] for c, r in results.items() if p in r.exhibits} for p in run.protocols}
    write_report(args.output, report, html_page(report, run.shown, exhibits))
    with write_aside(args.output / "pairs.json") as aside:
        aside.write_text(json.dumps(partners(clips), indent=1) + "\n", encoding="utf-8")
    return f"wrote {args.output / 'report.html'}"


def check_outputs(folder: Path, protocols: list[str]) -> None:
    """Raise InputError when a folder of another tool's videos cannot be one, or does not say what they speak."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the other tool's videos")
    if folder.name in ("", *METHODS):
        raise InputError(
            f"got --outputs {folder}, whose name {folder.name!r} is to stand in the tables: rename the folder, after "
            f"the tool for one, and not {', '.join(METHODS)}"
        )
    if len(protocols) > 1 and not has_protocols(folder):
        raise InputError(
            f"{folder} holds no folder {' or '.join(protocols)}: sort the videos into these, or say which one they "
            f"are of, such as --protocols {protocols[-1]}"
        )


def prepare_run(args: argparse.Namespace, clips: list[Clip]) -> Run:
    """Load what is needed; another tool's videos need none of our generators."""
    methods = args.methods or ([ORIGINAL] if args.outputs else list(METHODS))
    options = SyncOptions(**{name: value for name, value in vars(args).items() if name in OPTIONS})
    motion_choices(options)
    models = load_models(options) if set(methods) != {ORIGINAL} else None
    studio = Studio(models, options) if models else None
    judges = load_judges(args, options, models)
    settings = describe_settings(args, methods, models)
    return Run(clips, args.protocols, methods, judges, studio, args.outputs, args.duration, args.output, settings)


def load_judges(args: argparse.Namespace, options: SyncOptions, models: Models | None) -> Judges:
    """The networks that judge; landmarks and identity of the pipeline are used again."""
    device = pick_device(options.device)
    sync = load_syncnet(args.syncnet, device) if args.syncnet else load_sync_judge(args.sync_judge, device)
    return Judges(
        models.landmarker if models else load_face_landmarker(device),
        models.identity if models else load_identity(options.identity, device),
        sync,
        load_arcface(args.arcface) if args.arcface else None,
        available_lpips() is None,
        available_fid() is None,
    )


def tabulate(clips: list[Clip], results: dict[str, ClipResult]) -> Table:
    table = Table(clips)
    for clip, result in results.items():
        for protocol, methods in result.figures.items():
            for method, figures in methods.items():
                table.add(protocol, method, clip, figures)
    return table


def add_fid(summary: dict[str, Any], results: dict[str, ClipResult]) -> None:
    """FID of each method's crops of all clips together against the originals', where crops were kept."""
    for protocol, methods in summary.items():
        of = [result.samples.get(protocol, {}) for result in results.values()]
        for method in methods:
            made, true = ([png for clip in of for png in clip.get(m, [])] for m in (method, ORIGINAL))
            if made and true and method != ORIGINAL:
                methods[method]["fid"] = pooled(fid([decode(made)], [decode(true)]))


def decode(pngs: list[bytes]) -> Tensor:
    """PNG crops -> `(n, 3, s, s)` float 0..1."""
    pictures = [np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for png in pngs]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def describe(args: argparse.Namespace, run: Run, results: dict[str, ClipResult]) -> dict[str, Any]:
    """How the figures were made: enough to make them again."""
    used = sum(bool(result.figures) for result in results.values())
    return {
        "version": installed("mytalk"),
        "clips": f"{used} of {len(run.clips)}" + (f", split {args.split}" if args.split else ""),
        **{f"protocol {name}": PROTOCOLS[name] for name in run.protocols},
        **{f"method {name}": SAID[name] for name in run.methods},
        "held out": "where the source is the answer, each half of a clip is painted from the other half",
        **run.settings,
        **{name: why for name, why in missing().items() if why},
    }


def describe_settings(args: argparse.Namespace, methods: list[str], models: Models | None) -> dict[str, Any]:
    """All that a clip's figures depend on beside the clip: results are kept by it. `models` make ours, if any."""
    chosen = {name.replace("_", " "): getattr(args, name) for name in OPTIONS if name not in WEIGHTS}
    used = [kind for kind in WEIGHTS if kind != "occlusion" or args.keep_occlusions] if models else ["identity"]
    encoder = {"speech encoder": f"{args.speech_encoder}, sha256 {models.speech.sha256[:12]}"} if models else {}
    return {
        "methods": ", ".join([*([args.outputs.name] if args.outputs else []), *methods]),
        "protocols": ", ".join(args.protocols),
        "seconds of each clip": args.duration or "all",
        **({"videos of": str(args.outputs)} if args.outputs else {}),
        **(chosen if models else {}),
        **encoder,
        **{f"weights {kind}": weights(kind, getattr(args, kind)) for kind in used},
        "weights face": weights("face", "face_landmarks"),
        "judge of lip sync": f"SyncNet {hashed(args.syncnet)}"
        if args.syncnet
        else weights("sync_judge", args.sync_judge),
        **({"ArcFace": hashed(args.arcface)} if args.arcface else {}),
        "perceptual figures": ", ".join(name for name, why in missing().items() if not why) or "none",
    }


def missing() -> dict[str, str | None]:
    """Why a figure cannot be had, None where it can."""
    return {"LPIPS": available_lpips(), "FID": available_fid()}


def hashed(path: Path) -> str:
    """Another program's file by path and hash."""
    return f"{path}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def weights(kind: str, name: str) -> str:
    """A checkpoint by name, hash and what its training recorded, such as the settings of an ablation."""
    checkpoint = load_checkpoint(find_weights(name, kind), kind)
    notes = "".join(f", {key} {value}" for key, value in checkpoint.info.items())
    return f"{Path(name).stem}, sha256 {checkpoint.sha256[:12]}{notes}"
