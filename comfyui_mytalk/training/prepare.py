"""From a folder of videos to prepared clips: track, crop, hear; one file per video (format: `clips.py`).

f frames   n speech samples at 16 kHz
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from av.error import FFmpegError
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError
from ..landmarks.align import CROP_CENTRE, CROP_HALF, CROP_SIZE, cut_crops
from ..landmarks.track import FaceLandmarker, FaceTrack, track_faces
from ..output import write_aside
from ..speech.audio import read_audio, speech_16k
from ..video.reader import VideoReader
from .clips import FORMAT

VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg")
CHUNK = 16  # frames
JPEG_QUALITY = 95
MIN_FRAMES = 10  # usable ones: less teaches nothing
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """One video to prepare: its name in the prepared folder, and what is known about it."""

    path: Path
    clip: str
    row: dict[str, Any]

    @property
    def file(self) -> str:
        return Path(self.clip).with_suffix("").as_posix().replace("/", "__") + ".safetensors"


@dataclass
class PrepareReport:
    """Names of the clips prepared now, of those already there, and the failed ones with the reason."""

    prepared: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def prepare_folder(
    videos: str | Path | Iterable[str | Path],
    out: str | Path,
    landmarker: FaceLandmarker,
    index: str | Path | None = None,
    val_share: float = 0.05,
    progress: Callable[[int, int], None] | None = None,
    shard: tuple[int, int] = (0, 1),
) -> PrepareReport:
    """Prepare all videos of a folder (with its subfolders), or a list of them, into the folder `out`.

    `index` is a JSON list of rows with `file` (relative to the folder) and any of `split`, `identity`, `corpus`,
    `av_offset_ms`, …; a folder's own `index.json` is used by itself. Without one the identity is the name of the
    video's subfolder, else of the file, and `val_share` of the identities become the validation split.
    `shard` (i, n) prepares the videos number i, every n-th, so that n processes or machines share the work; splits
    and names are those of all videos. Clips that are in `out` already are skipped, so an interrupted run is simply
    started again; a bad video is logged and reported and does not stop the rest. Raises InputError, before any work,
    when there is no video at all, when two videos would become one file, or when `index` cannot be read or does not
    go with a list of videos.
    """
    sources = with_splits(find_sources(videos, index), val_share)
    check_names(sources)
    sources = sources[shard[0] :: shard[1]]
    out, report = Path(out), PrepareReport()
    out.mkdir(parents=True, exist_ok=True)
    for done, source in enumerate(sources):
        if progress is not None:
            progress(done, len(sources))
        if (out / source.file).exists():
            report.skipped.append(source.clip)
            continue
        try:
            prepare_video(source, out / source.file, landmarker)
            report.prepared.append(source.clip)
        except (InputError, FFmpegError, OSError) as error:
            logger.warning("skipped %s: %s", source.path, error)
            report.failed[source.clip] = str(error)
    if progress is not None:
        progress(len(sources), len(sources))
    return report


def find_sources(videos: str | Path | Iterable[str | Path], index: str | Path | None) -> list[Source]:
    """The videos to prepare in name order; those of a folder with an index are the ones it lists."""
    if not isinstance(videos, str | Path):
        if index is not None:
            raise InputError(f"got the index {index} and a list of videos, expected one folder: its files are in there")
        return [Source(Path(path), Path(path).name, {"identity": Path(path).stem}) for path in videos]
    folder = Path(videos)
    own = folder / "index.json"
    if index is not None or own.is_file():
        sources = read_index(folder, Path(index or own))
    else:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEOS)
        sources = [Source(path, path.relative_to(folder).as_posix(), {}) for path in paths]
    if not sources:
        raise InputError(f"no video in {folder}: expected files such as person/clip.mp4 ({', '.join(VIDEOS)})")
    return [Source(source.path, source.clip, {"identity": identity_of(source), **source.row}) for source in sources]


def read_index(folder: Path, index: Path) -> list[Source]:
    """The videos of `folder` that an index lists; raises InputError when there is no such file, or it is no index."""
    try:
        rows = json.loads(index.read_text(encoding="utf-8"))
        return [Source(folder / row["file"], row["file"], row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"cannot read the index {index}: expected a JSON list of rows with a `file` ({error!r})"
        ) from error


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
    """Name of the video's subfolder, or of the file when it has none."""
    clip = Path(source.clip)
    return clip.parent.name or clip.stem


def with_splits(sources: list[Source], val_share: float) -> list[Source]:
    """Give each video that has no split one: whole identities go to `val`, chosen by a hash of their names."""
    names = sorted({s.row["identity"] for s in sources}, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    val = set(names[: max(1, round(val_share * len(names)))]) if len(names) > 1 and val_share > 0 else set()
    splits = ({"split": "val" if s.row["identity"] in val else "train"} for s in sources)
    return [Source(s.path, s.clip, split | s.row) for s, split in zip(sources, splits, strict=True)]


def prepare_video(source: Source, path: Path, landmarker: FaceLandmarker) -> None:
    """Prepare one video into `path`, whole or not at all; raises InputError when it is of no use."""
    reader = VideoReader(source.path)
    track = track_faces(reader.chunks(CHUNK), landmarker)
    if int(track.found.sum()) < MIN_FRAMES:
        raise InputError(f"only {int(track.found.sum())} frames show a face, expected at least {MIN_FRAMES}")
    crops = [blob for chunk in encoded_crops(reader, track) for blob in chunk]
    offsets = np.cumsum([0] + [len(blob) for blob in crops])
    tensors = {
        "points": track.points,
        "found": track.found,
        "times": track.times,
        "speech": speech_of(source.path, reader.info.has_audio),
        "crops": torch.frombuffer(bytearray(b"".join(crops)), dtype=torch.uint8),
        "crop_offsets": torch.from_numpy(offsets),
        "crop_transform": track.transform,
    }
    with write_aside(path) as part:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, part, describe(source, reader, track)
        )


def encoded_crops(reader: VideoReader, track: FaceTrack) -> Iterable[list[bytes]]:
    """Aligned crops of all frames as JPEG, chunk by chunk."""
    first = 0
    for frames, _ in reader.chunks(CHUNK):
        pictures = frames.permute(0, 3, 1, 2).float() / 255
        crops = cut_crops(pictures, track.transform[first : first + len(frames)]) * 255
        first += len(frames)
        yield [encode_jpeg(crop) for crop in crops.round().byte().permute(0, 2, 3, 1).numpy()]


def encode_jpeg(picture: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return data.getvalue()


def speech_of(path: Path, has_audio: bool) -> Tensor:
    """Speech `(n,)` int16 that starts with the first frame; empty for a silent film."""
    speech = speech_16k(read_audio(path)) if has_audio else torch.zeros(0)
    return (speech * 32768).round().clamp(-32768, 32767).to(torch.int16)


def describe(source: Source, reader: VideoReader, track: FaceTrack) -> dict[str, str]:
    """Metadata of a prepared clip; all values are text."""
    x = track.points[track.found][..., 0]
    height, width = track.size
    known = {
        "corpus": "own",
        "av_offset_ms": 0,
        "face_px": round((x.amax(1) - x.amin(1)).median().item(), 1),
        **{key: value for key, value in source.row.items() if value is not None},
        "format": FORMAT,
        "version": 1,
        "clip": source.clip,
        "fps": float(reader.info.fps),
        "size": f"{width}x{height}",
        "crop_size": CROP_SIZE,
        "crop_centre": json.dumps(CROP_CENTRE),
        "crop_half": CROP_HALF,
    }
    return {key: str(value) for key, value in known.items()}
