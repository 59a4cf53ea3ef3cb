"""`tune`: a video file in, a small safetensors file with what is special about its actor out."""

from __future__ import annotations

from pathlib import Path

from .appearance.model import load_appearance
from .appearance.tuning import Tuning, save_tuning
from .checkpoints import find_weights
from .devices import pick_device
from .frames import CHUNK
from .landmarks.track import check_place, load_face_landmarker, parse_choice, track_faces
from .output import check_apart, check_output
from .stages import StageProgress, stage_progress
from .training.tune import TuneOptions, tune_on_clip
from .video.reader import VideoReader


def tune_video(
    video: str | Path,
    out: str | Path,
    options: TuneOptions | None = None,
    *,
    face: str = "largest",
    start: float = 0.0,
    duration: float | None = None,
    appearance: str = "appearance_small",
    device: str = "auto",
    progress: StageProgress | None = None,
) -> Tuning:
    """Tune the picture network on the face in `video` and write `out`, for `sync --tuned`.

    Raises InputError for bad input, before any long work where possible; nothing half-written is left.
    """
    choice, out, where = parse_choice(face), check_output(out, (".safetensors",)), pick_device(device)
    check_apart({"output": out}, (video, find_weights(appearance, "appearance")))
    reader = VideoReader(video, start, duration)
    check_place(choice, reader.info.width, reader.info.height)
    model = load_appearance(appearance, where)
    landmarker = load_face_landmarker(where)
    faces = stage_progress(progress, "face")
    track = track_faces(reader.chunks(CHUNK), landmarker, choice, faces, reader.info.frames)
    tuning = tune_on_clip(model, reader, track, options, stage_progress(progress, "tune"))
    save_tuning(out, tuning)
    return tuning
