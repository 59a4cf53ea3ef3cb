"""`sync`: a video file and a speech file in, a video file out. Streams; memory does not grow with the length.

m source frames   f output frames
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from .appearance.bank import ReferenceBank
from .appearance.model import AppearanceModel, load_appearance
from .appearance.occlusion import Occlusion, OcclusionNet, load_occlusion
from .appearance.references import BANK
from .appearance.tuning import load_tuning, tuned_copy
from .checkpoints import find_weights
from .devices import pick_device, pick_dtype
from .frames import FrameSource
from .geometry import geometry
from .keep import MaskFile, either, find_occlusion, told_occlusion
from .landmarks.track import FaceTrack, load_face_landmarker, parse_choice, track_faces
from .landmarks.tracker import FaceLandmarker
from .motion.edit import MotionEdit, edit_motion
from .motion.generate import MotionOptions, speak
from .motion.identity import IdentityExtractor, identity_tokens, load_identity
from .motion.model import MotionModel, check_needs, load_motion
from .output import check_output
from .pipeline import render_clip, select_references
from .speech.audio import Audio, fit_audio, read_audio, speech_16k
from .speech.features import SpeechFeatures, load_speech_encoder
from .training.tune import TuneOptions, tune_on_clip
from .video.reader import VideoReader
from .video.timing import FittedReader, fit_frames
from .video.writer import SUFFIXES, VideoWriter

logger = logging.getLogger(__name__)
StageProgress = Callable[[str, int, int], None]
STAGES = ("face", "occlusions", "motion", "references", "tune", "picture")
CHUNK = 8  # frames in flight


@dataclass(frozen=True)
class SyncOptions:
    """Everything a user may choose. `face`, `length_mode`: see `parse_choice` and `fit_frames`.

    `silence_gate`: how far the mouth rests where the speech is silent, 0..1.
    `references`: "retrieved" for each frame from the whole clip, or the paper's three "fixed" ones; they are taken
    from `reference_video` when given, whose lips and teeth then show. `style_video`: another clip of the same person,
    in another mood perhaps, whose way of holding and opening the mouth is taken (section 4.3). `keep_mask`: a picture
    or video, light where the film stays as it is, a hand before the mouth for one. `keep_occlusions`: what a network
    finds before the mouth stays too, or is painted over. `tune`: steps of actor tuning before the pictures are made;
    `tuned`: an earlier tuning. Names of weights are shipped names or paths.
    """

    seed: int = 0
    steps: int = 10
    face: str = "largest"
    start: float = 0.0
    duration: float | None = None
    length_mode: str = "auto"
    references: str = "retrieved"
    reference_video: str | Path | None = None
    style_video: str | Path | None = None
    keep_mask: str | Path | None = None
    keep_occlusions: bool = True
    tune: int = 0
    tuned: str | Path | None = None
    strength: float = 1.0
    silence_gate: float = 1.0
    speech_encoder: str = "speech_small"
    identity: str = "identity_small"
    motion: str = "motion_small"
    appearance: str = "appearance_small"
    occlusion: str = "occlusion_small"
    device: str = "auto"
    dtype: str = "auto"
    crf: int = 14


@dataclass
class Models:
    """The networks of the pipeline, on their device."""

    landmarker: FaceLandmarker
    speech: SpeechFeatures
    identity: IdentityExtractor
    motion: MotionModel
    appearance: AppearanceModel
    occlusion: OcclusionNet | None


@dataclass
class Stopwatch:
    """Seconds spent in each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[name] = round(perf_counter() - start, 3)


def load_models(options: SyncOptions) -> Models:
    """Load and check all weights; raises InputError, before any long work, when one is missing or does not fit."""
    device = pick_device(options.device)
    dtype = pick_dtype(options.dtype, device)
    for name, kind in ((options.identity, "identity"), (options.motion, "motion"), (options.appearance, "appearance")):
        find_weights(name, kind)
    occlusion = load_occlusion(options.occlusion, device) if options.keep_occlusions else None
    speech, identity = load_speech_encoder(options.speech_encoder, device), load_identity(options.identity, device)
    motion = load_motion(options.motion, device)
    check_needs(motion, speech, identity)
    appearance = load_appearance(options.appearance, device)
    if options.tuned is not None:
        appearance = tuned_copy(appearance, load_tuning(options.tuned))
    if not options.tune:  # tuning starts from the weights as published, and is rounded afterwards
        appearance = appearance.to(dtype)
    return Models(load_face_landmarker(device), speech, identity, motion, appearance, occlusion)


def sync_video(
    video: str | Path,
    speech: str | Path,
    out: str | Path,
    options: SyncOptions | None = None,
    progress: StageProgress | None = None,
) -> dict[str, Any]:
    """Re-speak the mouth in `video` with `speech` (a sound or video file) and write `out`; returns a report.

    The frame rate, size and every pixel outside the mask are the source's; frames without a usable face pass
    through. Raises InputError for bad input, before any long work where possible; nothing half-written is left.
    """
    options = options or SyncOptions()
    choice, out = parse_choice(options.face), check_output(out, SUFFIXES)
    reader = VideoReader(video, options.start, options.duration)
    shown = reader if options.reference_video is None else VideoReader(options.reference_video)
    mood = None if options.style_video is None else VideoReader(options.style_video)
    keep = options.keep_mask and MaskFile(options.keep_mask, reader, options.start, options.duration)
    audio = read_audio(speech)
    fit_frames(reader.info.frames, float(reader.info.fps), audio.duration, options.length_mode)
    models, watch = load_models(options), Stopwatch()
    with watch.stage("face"):
        face_progress = stage_progress(progress, "face")
        track = track_faces(reader.chunks(CHUNK), models.landmarker, choice, face_progress, reader.info.frames)
    with watch.stage("occlusions"):
        occlusion = see_occlusions(models, reader, track, stage_progress(progress, "occlusions"))
    index = fit_frames(len(track), float(reader.info.fps), audio.duration, options.length_mode)
    source = FittedReader(reader, index)
    track, original = fit_track(track, index, source.times), track
    fitted = None if occlusion is None else occlusion[index]
    audio = fit_audio(audio, float(source.times[-1]) + 1 / float(reader.info.fps))
    with watch.stage("motion"):
        style = None if mood is None else track_faces(mood.chunks(CHUNK), models.landmarker)
        spoken = speak_track(models, track, audio, options, stage_progress(progress, "motion"), style)
    with watch.stage("references"):
        face = original if shown is reader else track_faces(shown.chunks(CHUNK), models.landmarker)
        before = occlusion if shown is reader else see_occlusions(models, shown, face)
        if keep and shown is reader:
            before = either(before, told_occlusion(keep.chunks(CHUNK), face, CHUNK))
        bank = show_references(models.appearance, shown, face, options, stage_progress(progress, "references"), before)
    if options.tune:
        with watch.stage("tune"):
            tune = TuneOptions(options.tune, seed=options.seed)
            tuning = tune_on_clip(models.appearance, reader, original, tune, stage_progress(progress, "tune"))
            dtype = pick_dtype(options.dtype, pick_device(options.device))
            models.appearance = tuned_copy(models.appearance, tuning).to(dtype)
    with watch.stage("picture"):
        place = geometry(track, spoken)
        info = reader.info
        with VideoWriter(out, info.width, info.height, info.fps, audio, options.crf, info.pixel_aspect) as writer:
            stays = keep.chunks(CHUNK, index) if keep else None
            shows = stage_progress(progress, "picture")
            parts = render_clip(models.appearance, source, spoken, place, bank, CHUNK, shows, stays, fitted)
            for frames, times, _ in parts:
                writer.write(frames, times)
    covered = None if fitted is None else fitted.rows >= 0
    return report(video, speech, out, options, reader, spoken, bank.frames, watch.seconds, covered)


def see_occlusions(
    models: Models, source: FrameSource, track: FaceTrack, progress: Callable[[int, int], None] | None = None
) -> Occlusion | None:
    """What lies before the face in a clip; None when it is to be painted over."""
    return models.occlusion and find_occlusion(models.occlusion, source, track, CHUNK, progress)


def show_references(
    model: AppearanceModel,
    source: FrameSource,
    track: FaceTrack,
    options: SyncOptions,
    progress: Callable[[int, int], None] | None = None,
    occlusion: Occlusion | None = None,
) -> ReferenceBank:
    """References as `options` want them, from the clip with this track, without what lies before the face."""
    fixed = options.references == "fixed"
    count = model.params.references if fixed else BANK
    return select_references(source, track, geometry(track), count, fixed, progress, occlusion)


def fit_track(track: FaceTrack, index: Tensor, times: Tensor) -> FaceTrack:
    """The track of the output's timeline: rows `index (f,)` of the source's, shown at `times (f,)`."""
    return track[index].replace(times=times)


def speak_track(
    models: Models,
    track: FaceTrack,
    audio: Audio,
    options: SyncOptions,
    progress: Callable[[int, int], None] | None = None,
    style: FaceTrack | None = None,
) -> FaceTrack:
    """Speech features, identity and motion: the track with a lower face that speaks `audio` and rests in pauses.

    `style` is another clip of the same person, whose manner is taken.
    """
    speech = speech_16k(audio)
    with torch.inference_mode():
        features = models.speech(speech)
    tokens = identity_tokens(models.identity, track if style is None else style)
    motion = MotionOptions(steps=options.steps, seed=options.seed, strength=options.strength)
    spoken = speak(models.motion, track, features, tokens, motion, progress, style)
    edit = MotionEdit(gate=options.silence_gate)
    return edit_motion(track, spoken, edit, speech, style)


def report(
    video: str | Path,
    speech: str | Path,
    out: Path,
    options: SyncOptions,
    reader: VideoReader,
    track: FaceTrack,
    references: Tensor,
    seconds: dict[str, float],
    covered: Tensor | None = None,
) -> dict[str, Any]:
    """What was done, in plain JSON: frames spoken, interpolated, passed through, covered in part, and the time."""
    return {
        "video": str(video),
        "speech": str(speech),
        "out": str(out),
        "frames": len(track),
        "fps": float(reader.info.fps),
        "size": [reader.info.width, reader.info.height],
        "face": {
            "found": int(track.found.sum()),
            "interpolated": int((track.usable & ~track.found).sum()),
            "passed_through": spans(~track.usable),
            "people": track.count,
            "covered": spans(covered) if covered is not None else [],
        },
        "references": references.tolist(),
        "options": {name: str(v) if isinstance(v, Path) else v for name, v in asdict(options).items()},
        "seconds": seconds,
    }


def spans(flags: Tensor) -> list[list[int]]:
    """First and last index of every run of true values."""
    edges = torch.cat([flags.new_zeros(1), flags, flags.new_zeros(1)]).int().diff()
    starts, stops = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0] - 1
    return torch.stack([starts, stops], 1).tolist()


def stage_progress(progress: StageProgress | None, name: str) -> Callable[[int, int], None] | None:
    """The progress callback of one stage."""
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)
