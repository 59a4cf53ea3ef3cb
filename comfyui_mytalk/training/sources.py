"""Which videos are prepared, under which name, of whom and in which split: a folder, a list, or an index of rows."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..video.media import VIDEO_SUFFIXES

SPLITS = ("train", "val")
NO_PERSON = {"train", "val", "valid", "validation", "dev", "test"}  # folders of data sets that hold people's folders
NUMBERS = ("av_offset_ms", "face_px")  # of a row
Metadata = dict[str, str]  # of a prepared clip


@dataclass(frozen=True)
class Source:
    """One video to prepare: its name in the prepared folder, and what is known about it."""

    path: Path
    clip: str
    row: dict[str, Any]

    @property
    def file(self) -> str:
        return Path(self.clip).with_suffix("").as_posix().replace("/", "__") + ".safetensors"

    @property
    def indexed(self) -> bool:
        """Whether an index says what is known."""
        return "file" in self.row


def find_sources(videos: str | Path | Iterable[str | Path], index: str | Path | None) -> list[Source]:
    """The videos to prepare in name order; those of a folder with an index are the ones it lists."""
    if not isinstance(videos, str | Path):
        return list_sources([Path(path) for path in videos], index)
    folder = Path(videos)
    own = folder / "index.json"
    if index is not None or own.is_file():
        sources = read_index(folder, Path(index or own))
    else:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        sources = [Source(path, path.relative_to(folder).as_posix(), {}) for path in paths]
    if not sources:
        raise InputError(f"no video in {folder}: expected files such as person/clip.mp4 ({', '.join(VIDEO_SUFFIXES)})")
    return [s if "identity" in s.row else replace(s, row={"identity": identity_of(s), **s.row}) for s in sources]


def list_sources(videos: list[Path], index: str | Path | None) -> list[Source]:
    """Videos given one by one, each of somebody else."""
    if index is not None:
        raise InputError(f"got the index {index} and a list of videos, expected one folder: its files are in there")
    folder = next((path for path in videos if path.is_dir()), None)
    if folder is not None:
        raise InputError(
            f"got the folder {folder} beside others, expected one folder, or video files: prepare folder after folder "
            "into the same output"
        )
    return [Source(path, path.name, {"identity": path.stem}) for path in videos]


def read_index(folder: Path, index: Path) -> list[Source]:
    """The videos of `folder` that an index lists; raises InputError when there is no such file, or it is no index."""
    try:
        rows = json.loads(index.read_text(encoding="utf-8"))
        rows = [{key: value for key, value in row.items() if value is not None} for row in rows]
        sources = [Source(folder / row["file"], row["file"], row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read the index {index}: expected a JSON list of rows with a `file` ({error!r})"
        ) from error
    return [replace(source, row=checked(source.row, index)) for source in sources]


def checked(row: dict[str, Any], index: Path) -> dict[str, Any]:
    """A row of the index that can be used, its identity as text; raises InputError that names the field."""
    where = f"the index {index}, row of {row['file']}"
    if row.get("split", SPLITS[0]) not in SPLITS:
        raise InputError(f"{where}: got the split {row['split']!r}, expected {' or '.join(SPLITS)}")
    for name in NUMBERS:
        try:
            number = float(row.get(name, 0))
        except (ValueError, TypeError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{where}: got {row[name]!r} as {name}, expected a number")
    if "identity" not in row:
        return row
    identity = row["identity"]
    if isinstance(identity, bool) or not isinstance(identity, str | int) or not str(identity).strip():
        raise InputError(f"{where}: got the identity {identity!r}, expected a name or a number")
    return row | {"identity": str(identity)}


def check_names(sources: list[Source]) -> None:
    """Raise InputError when two videos would become one prepared file: the second would pass for done."""
    taken: dict[str, Source] = {}
    for source in sources:
        other = taken.setdefault(source.file, source)
        if other is not source:
            raise InputError(
                f"{other.path} and {source.path} would both become {source.file}; rename one, or leave it out"
            )


def identity_of(source: Source) -> str:
    """Name of the first folder on the way to the video, or of the file when there is none.

    Raises InputError when that is the folder of a split, in which all would be one person.
    """
    first, *rest = Path(source.clip).parts
    if not rest:
        return Path(source.clip).stem
    if first.lower() in NO_PERSON:
        raise InputError(
            f"the first folder is taken for the person, and {source.clip} is in {first}: give the folder that holds "
            "people's folders as VIDEOS, or an index with the `identity` of each video"
        )
    return first


def as_known(source: Source, known: Metadata | None) -> Source:
    """A source with what a clip that was prepared earlier says, where no index says otherwise now.

    What was in an index then stays; a person who is told by the folder keeps the split.
    """
    if known is None or source.indexed:
        return source
    if "file" in known or known["identity"] == source.row["identity"]:
        return replace(source, row=source.row | {"identity": known["identity"], "split": known["split"]})
    return source


def with_splits(sources: list[Source], val_share: float, there: Iterable[Metadata] = ()) -> list[Source]:
    """Give each video that has no split one: that of its person in other rows or in the clips that are `there`, and of
    people who have none yet so many go to `val`, chosen by a hash of their names, that `val_share` of all are in it."""
    known = {metadata["identity"]: metadata["split"] for metadata in there}
    known |= {source.row["identity"]: source.row["split"] for source in sources if "split" in source.row}
    new = {source.row["identity"] for source in sources} - known.keys()
    count = len(known) + len(new)
    wanted = max(1, round(val_share * count)) if count > 1 and val_share > 0 else 0
    wanted = max(0, wanted - list(known.values()).count("val"))
    ordered = sorted(new, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    known |= {name: "val" if place < wanted else "train" for place, name in enumerate(ordered)}
    return [replace(source, row={"split": known[source.row["identity"]], **source.row}) for source in sources]
