"""From a folder of videos to prepared clips: track, crop, hear; one file per video (format: `clips.py`).

f frames   n speech samples at 16 kHz
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from av.error import FFmpegError
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError
from ..landmarks.align import CROP_CENTRE, CROP_HALF, CROP_SIZE, cut_crops
from ..landmarks.track import FaceLandmarker, FaceTrack, track_faces
from ..output import write_aside
from ..speech.audio import read_audio, speech_16k
from ..stages import Progress
from ..video.reader import VideoReader
from .clips import FORMAT, PreparedClip, clip_paths, read_clip
from .sources import SPLITS, Source, as_known, check_names, find_sources, with_splits

CHUNK = 16  # frames
JPEG_QUALITY = 95
INDEX = "index.json"
OWN = ("format", "version", "clip", "fps", "size", "crop_size", "crop_centre", "crop_half", "prepared")  # not a row's
MIN_FRAMES = 10  # usable ones: less teaches nothing
REMEDIES = (  # of a split without clips: where there is one person, and where there are more
    "training takes at least two people, one of them for validation",
    "people keep their split; an index says who goes where (docs/training.md), and `prepare` with it takes seconds",
)
logger = logging.getLogger(__name__)


@dataclass
class PrepareReport:
    """Names of the clips prepared now, of those already there, of those there of which the index says something new,
    and the failed ones with the reason; and what is in the folder then, line by line."""

    prepared: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    contents: list[str] = field(default_factory=list)


def prepare_folder(
    videos: str | Path | Iterable[str | Path],
    out: str | Path,
    landmarker: FaceLandmarker,
    index: str | Path | None = None,
    val_share: float = 0.05,
    progress: Progress = None,
    shard: tuple[int, int] = (0, 1),
) -> PrepareReport:
    """Prepare all videos of a folder (with its subfolders), or a list of them, into the folder `out`.

    `index` is a JSON list of rows with `file` (relative to the folder) and any of `split`, `identity`, `corpus`,
    `av_offset_ms`, …; a folder's own `index.json` is used by itself. Without one the identity is the name of the first
    folder on the way to the video, else of the file, and `val_share` of the identities become the validation split.
    `shard` (i, n) prepares the videos number i, every n-th, so that n processes or machines share the work; splits
    and names are those of all videos. Clips that are in `out` already are not prepared again, so an interrupted run is
    simply started again, and people keep their split; what an index says of them is written into them. A bad video is
    logged and reported and does not stop the rest. `out/index.json` lists what is there, for `evaluate`. Raises
    InputError, before any work, when there is no video at all, when two videos would become one file, when `index`
    cannot be read or used or does not go with a list of videos, or when a file in `out` is damaged.
    """
    out, report = Path(out), PrepareReport()
    sources = find_sources(videos, index)
    check_names(sources)
    if isinstance(videos, str | Path) and Path(videos).resolve() == out.resolve():
        raise InputError(f"got the folder of the videos {videos} as output, expected another one")
    there = {clip.path.name: clip for clip in clips_of(out)}
    known = {file: clip.metadata for file, clip in there.items()}
    sources = with_splits([as_known(s, known.get(s.file)) for s in sources], val_share, known.values())
    sources = sources[shard[0] :: shard[1]]
    out.mkdir(parents=True, exist_ok=True)
    for done, source in enumerate(sources):
        if progress is not None:
            progress(done, len(sources))
        if (out / source.file).exists():
            clip = there.get(source.file) or read_clip(out / source.file)  # another shard's, made since
            if update_clip(source, clip):
                there.pop(source.file, None)
                report.updated.append(source.clip)
            else:
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
    clips = clips_of(out, there)
    write_index(clips, out / INDEX, index)
    report.contents = contents(clips, shard[1] > 1)
    return report


def clips_of(folder: Path, read: dict[str, PreparedClip] | None = None) -> list[PreparedClip]:
    """The prepared clips of a folder that may be empty, or not there yet; `read` ones, by file name, as they are."""
    return [(read or {}).get(path.name) or read_clip(path) for path in clip_paths(folder)]


def update_clip(source: Source, clip: PreparedClip) -> bool:
    """Write into a prepared clip what is now known about it; returns whether anything is new."""
    known, path = clip.metadata, clip.path
    row = {key: str(value) for key, value in source.row.items() if value is not None and key not in OWN}
    if known | row == known:
        return False
    with safe_open(path, framework="pt") as file:  # copies: the file is about to be replaced
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
    with write_aside(path) as part:
        save_file(tensors, part, known | row)
    return True


def write_index(clips: list[PreparedClip], path: Path, given: str | Path | None) -> None:
    """List the clips for `evaluate --index`, which then knows the splits; an index of somebody else's stays."""
    if not clips or (given is not None and path.exists() and path.samefile(given)):
        return
    if path.exists() and not is_ours(path):
        logger.warning("%s was not made by `prepare`, and is left as it is", path)
        return
    rows = [
        {
            "file": clip.metadata["clip"],
            "split": clip.metadata["split"],
            "identity": clip.identity,
            "corpus": clip.corpus,
            "av_offset_ms": round(float(clip.metadata.get("av_offset_ms") or 0)),
            "prepared": clip.path.name,
        }
        for clip in clips
    ]
    with write_aside(path) as part:
        part.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def is_ours(index: Path) -> bool:
    """Whether `write_index` made it: every row names a prepared file."""
    try:
        return all("prepared" in row for row in json.loads(index.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return False


def contents(clips: list[PreparedClip], shared: bool) -> list[str]:
    """Clips, people and hours of each split, line by line; warns of what trainers will miss.

    Where the work is `shared`, a split may still come from another shard.
    """
    people, lines = {}, []
    for split in SPLITS:
        of = [clip for clip in clips if clip.metadata.get("split") == split]
        people[split] = {clip.identity for clip in of}
        hours = sum((clip.times[-1] - clip.times[0]).item() for clip in of) / 3600
        lines.append(
            f"{split}: {counted(len(of), 'clip')} of {counted(len(people[split]), 'person')}, {hours:.2f} hours"
        )
        if clips and not of and not shared:
            logger.warning("no %s clip: %s", split, REMEDIES[len({clip.identity for clip in clips}) > 1])
    if both := people["train"] & people["val"]:
        logger.warning("%s in both splits, such as %s", counted(len(both), "person"), min(both))
    if silent := sum(not clip.samples for clip in clips):
        logger.warning(
            "%s without sound: only train identity, appearance and occlusion use them", counted(silent, "clip")
        )
    return lines


def counted(number: int, what: str) -> str:
    plural = "people" if what == "person" else f"{what}s"
    return f"{number} {what if number == 1 else plural}"


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
        **{key: value for key, value in source.row.items() if value is not None and key not in OWN},
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
