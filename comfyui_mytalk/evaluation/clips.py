"""Which clips are evaluated: a folder of videos, described by an optional index."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..video.media import VIDEO_SUFFIXES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Clip:
    """A talking clip on disk; `corpus` and `identity` group it in the report."""

    path: Path
    name: str
    corpus: str = "all"
    identity: str = ""


def find_clips(
    folder: Path,
    index: Path | None = None,
    split: str | None = None,
    corpus: str | None = None,
    limit: int | None = None,
) -> list[Clip]:
    """The clips of `folder`, or of its rows in `index`, in a fixed order; `limit` takes from each corpus in turn.

    `index` is a JSON list of rows with `file` (relative to `folder`) and optionally `split`, `corpus`, `identity`;
    `folder/index.json` is used when there is one. Rows of videos that are not in `folder` are left out with a word: the
    index of prepared clips may be of several folders. Raises InputError when the folder or the choice is empty, or when
    `split` or `corpus` is asked for and there is no index that knows them.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the talking clips")
    index = index or (folder / "index.json" if (folder / "index.json").is_file() else None)
    if index is None and (split or corpus):
        raise InputError(
            f"got {'the split ' + split if split else 'the corpus ' + corpus}, which only an index tells, and there is "
            f"none in {folder}: name it with --index (`prepare` writes index.json beside its clips)"
        )
    clips = only_there(read_index(folder, index, split, corpus), folder) if index else list_folder(folder)
    if not clips:
        wanted = " ".join(filter(None, ["no", split, corpus, "clips"]))
        raise InputError(f"{wanted} found in {folder}; expected videos ({' '.join(VIDEO_SUFFIXES)}) there")
    return in_turn(clips)[:limit]


def only_there(clips: list[Clip], folder: Path) -> list[Clip]:
    """Clips whose videos are in the folder; one line says how many are not."""
    there = [clip for clip in clips if clip.path.is_file()]
    if len(there) < len(clips):
        first = next(clip.name for clip in clips if not clip.path.is_file())
        logger.warning(
            "%d of the %d clips of the index, such as %s, are not in %s",
            len(clips) - len(there),
            len(clips),
            first,
            folder,
        )
    return there


def list_folder(folder: Path) -> list[Clip]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    return [Clip(path, path.relative_to(folder).as_posix()) for path in paths]


def read_index(folder: Path, index: Path, split: str | None, corpus: str | None) -> list[Clip]:
    try:
        rows = json.loads(index.read_text(encoding="utf-8"))
        splits = [text(row, "split", "") for row in rows]
        clips = [Clip(folder / r["file"], r["file"], text(r, "corpus", "all"), text(r, "identity", "")) for r in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read the index {index}: expected a JSON list of rows with a `file` ({error!r})"
        ) from error
    check_there("split", split, splits, index)
    check_there("corpus", corpus, [clip.corpus for clip in clips], index)
    chosen = [
        clip for clip, own in zip(clips, splits, strict=True) if split in (None, own) and corpus in (None, clip.corpus)
    ]
    return sorted(chosen, key=lambda clip: clip.name)


def check_there(field: str, wanted: str | None, known: list[str], index: Path) -> None:
    """Raise InputError when a split or corpus is asked for that no row of the index has."""
    there = sorted(set(known) - {""})
    if wanted is not None and wanted not in there:
        raise InputError(f"got the {field} {wanted!r}, the clips of {index} have {' and '.join(there) or 'none'}")


def text(row: dict[str, Any], field: str, unknown: str) -> str:
    """A field of a row, which `prepare` takes as a number too; what is missing or null is `unknown`."""
    return unknown if row.get(field) is None else str(row[field])


def in_turn(clips: list[Clip]) -> list[Clip]:
    """One clip of each corpus, then the next of each, so that every beginning of the list is balanced."""
    corpora = sorted({clip.corpus for clip in clips})
    queues = [[clip for clip in clips if clip.corpus == name] for name in corpora]
    return [clip for clip in chain.from_iterable(zip_longest(*queues)) if clip]
