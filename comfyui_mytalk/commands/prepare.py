"""`prepare`: its options, and how it is run."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..errors import InputError
from .arguments import shard, share
from .bars import StageBars


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `prepare`."""
    add = parser.add_argument
    add("videos", metavar="VIDEOS", nargs="+", type=Path, help="a folder of videos, or video files")
    add("-o", "--output", metavar="FOLDER", type=Path, required=True, help="folder of prepared clips")
    add("--index", type=Path, metavar="FILE", help="JSON list with file, split, identity, … (docs/training.md)")
    add("--val-share", type=share, default=0.05, help="of the identities, without index (default 0.05)")
    add("--shard", type=shard, default=(0, 1), metavar="I/N", help="only the I-th of N shares of the videos")
    add("--device", default="auto", help="auto, cpu, cuda, mps (default %(default)s)")
    add("--quiet", action="store_true", help="no progress bar")


def main(args: Namespace) -> str | None:
    """Prepare what is not yet prepared, and say how much that was; a bad video does not stop the rest."""
    missing = next((path for path in args.videos if not path.exists()), None)
    if missing is not None:
        raise InputError(f"there is no file or folder {missing}")
    if args.output.is_file():
        raise InputError(f"got the file {args.output} as output, expected a folder")
    from ..landmarks.track import load_face_landmarker  # late: what --help shows is there at once
    from ..training.prepare import prepare_folder

    videos = args.videos[0] if len(args.videos) == 1 and args.videos[0].is_dir() else args.videos
    with StageBars(args.quiet) as bars:
        landmarker = load_face_landmarker(args.device)
        progress = bars.stage("videos")
        done = prepare_folder(videos, args.output, landmarker, args.index, args.val_share, progress, args.shard)
    if done.failed and not (done.prepared or done.skipped):
        raise InputError(f"none of the {len(done.failed)} videos could be prepared")
    counts = f"{len(done.prepared)} prepared, {len(done.skipped)} were there, {len(done.failed)} failed"
    counts += f", {len(done.updated)} were there and are now as the index says" if done.updated else ""
    return None if args.quiet else "\n".join([f"{counts}: {args.output}", *done.contents])
