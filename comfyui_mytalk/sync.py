"""`sync`: a video file and a speech file in, a video file out. Streams; memory does not grow with the length.

m source frames   f output frames
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
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
from .landmarks.track import Choice, FaceTrack, load_face_landmarker, parse_choice, track_faces
from .landmarks.tracker import FaceLandmarker
from .motion.identity import IdentityExtractor, load_identity
from .motion.model import MotionModel, check_needs, load_motion
from .output import check_output
from .pipeline import render_clip, select_references
from .speaking import heard_in, motion_choices, speak_track
from .speech.audio import Audio, fit_audio, read_audio
from .speech.features import SpeechFeatures, load_speech_encoder
from .training.tune import TuneOptions, tune_on_clip
from .video.reader import VideoReader
from .video.timing import FittedReader, Timeline, fit_timeline, last_shown
from .video.writer import SUFFIXES, VideoWriter

logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None] | None
StageProgress = Callable[[str, int, int], None]
CHUNK = 8  # frames in flight


@dataclass(frozen=True)
class SyncOptions:
    """Everything a user may choose. `face`, `length_mode`: see `parse_choice` and `fit_timeline`.

    `start`, `duration`, `speech_start`, `speech_duration`: the part of video and speech that is used, seconds.
    `silence_gate`: how far the mouth rests where the speech is silent, 0..1.
    `references`: "retrieved" for each frame from the whole clip, or the paper's three "fixed" ones; they are taken
    from `reference_video` when given, whose lips and teeth then show. `style_video`: another clip of the same person,
    in another mood perhaps, whose way of holding and opening the mouth is taken (section 4.3). `style_strength`: how
    much of how the person shapes sounds is taken from that clip, or from the video, where it is heard too; 0 is
    nothing. `keep_mask`: a picture
    or video, light where the film stays as it is, a hand before the mouth for one. `keep_occlusions`: what a network
    finds before the mouth stays too, or is painted over. `tune`: steps of actor tuning before the pictures are made;
    `tuned`: an earlier tuning. Names of weights are shipped names or paths.
    """

    seed: int = 0
    steps: int = 10
    face: str = "largest"
    start: float = 0.0
    duration: float | None = None
    speech_start: float = 0.0
    speech_duration: float | None = None
    length_mode: str = "auto"
    references: str = "retrieved"
    reference_video: str | Path | None = None
    style_video: str | Path | None = None
    keep_mask: str | Path | None = None
    keep_occlusions: bool = True
    tune: int = 0
    tuned: str | Path | None = None
    strength: float = 1.0
    style_strength: float = 1.0
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


@dataclass(frozen=True)
class Inputs:
    """What a user gave, opened and checked: the actor's `film`, the `shown` clip that references are taken from, one
    whose `style` is taken, a mask of what to `keep`; `line` is what of the film is shown, and `audio` lasts as long.
    """

    film: VideoReader
    shown: VideoReader
    style: VideoReader | None
    keep: MaskFile | None
    face: Choice
    line: Timeline
    audio: Audio
    tune: TuneOptions | None
    out: Path


def read_inputs(video: str | Path, speech: str | Path, out: str | Path, options: SyncOptions) -> Inputs:
    """Open and check all that needs no network; raises InputError."""
    face, out = parse_choice(options.face), check_output(out, SUFFIXES)
    motion_choices(options)
    tune = TuneOptions(options.tune, seed=options.seed) if options.tune else None
    film = VideoReader(video, options.start, options.duration)
    shown = film if options.reference_video is None else VideoReader(options.reference_video)
    style = None if options.style_video is None else VideoReader(options.style_video)
    keep = MaskFile(options.keep_mask, film, options.start, options.duration) if options.keep_mask else None
    audio = read_audio(speech, options.speech_start, options.speech_duration)
    line = fit_timeline(len(film), float(film.info.fps), audio.duration, options.length_mode, film.times)
    if film.info.colour.hdr:
        logger.warning(
            "%s is HDR (%s): the output keeps its colours, but with 8 bits, and smooth areas may show steps",
            *(video, film.info.colour.hdr),
        )
    return Inputs(film, shown, style, keep, face, line, fit_audio(audio, line.end), tune, out)


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
    given = read_inputs(video, speech, out, options)
    models, watch, told = load_models(options), Stopwatch(), partial(stage_progress, progress)
    with watch.stage("face"):
        film = given.film
        filmed = track_faces(film.chunks(CHUNK), models.landmarker, given.face, told("face"), len(film))
    with watch.stage("occlusions"):
        before = see_occlusions(models, film, filmed, told("occlusions"))
    source = FittedReader(film, given.line.index)
    track = fit_track(filmed, source.index, source.times)
    with watch.stage("motion"):
        spoken = speak_inputs(models, given, filmed, track, options, told("motion"))
    with watch.stage("references"):
        bank = show_inputs(models, given, filmed, before, options, told("references"))
    if given.tune is not None:
        with watch.stage("tune"):
            tuning = tune_on_clip(models.appearance, film, filmed, given.tune, told("tune"))
            dtype = pick_dtype(options.dtype, pick_device(options.device))
            models.appearance = tuned_copy(models.appearance, tuning).to(dtype)
    before = None if before is None else before[source.index]
    with watch.stage("picture"), open_output(given, options.crf) as writer:
        place, stays = geometry(track, spoken), given.keep and given.keep.chunks(CHUNK, source.index)
        clip = (models.appearance, source, spoken, place, bank, CHUNK, told("picture"), stays, before)
        for frames, times, _ in render_clip(*clip):
            writer.write(frames, times)
    covered = None if before is None else before.rows >= 0
    return report(video, speech, given.out, options, film, spoken, bank.frames, watch.seconds, covered)


def open_output(given: Inputs, crf: int) -> VideoWriter:
    """The file to write, in the form of the film, with the speech."""
    info, end = given.film.info, given.line.end
    form = (info.width, info.height, info.fps, given.audio, crf, info.pixel_aspect)
    return VideoWriter(given.out, *form, end, info.colour)


def speak_inputs(
    models: Models, given: Inputs, filmed: FaceTrack, track: FaceTrack, options: SyncOptions, progress: Progress
) -> FaceTrack:
    """The output's `track` with a lower face that speaks the words that were given, in the manner that was.

    `filmed` is the film's own track, whose sound is the style reference unless a style clip is.
    """
    style, reference = None, None
    if given.style is not None:
        style = track_faces(given.style.chunks(CHUNK), models.landmarker)
        reference = heard_in(given.style, style)
    elif options.style_strength:
        reference = heard_in(given.film, filmed)
    # A last picture that stands on while the speech ends has no later mouth.
    heard = fit_audio(given.audio, float(track.times[-1]) + last_shown(track.times, given.film.info.fps))
    return speak_track(models, track, heard, options, progress, style, reference)


def show_inputs(
    models: Models,
    given: Inputs,
    filmed: FaceTrack,
    before: Occlusion | None,
    options: SyncOptions,
    progress: Progress,
) -> ReferenceBank:
    """References from the clip that was given for them; of the film itself, track and occlusion are known."""
    if given.shown is not given.film:
        filmed = track_faces(given.shown.chunks(CHUNK), models.landmarker)
        before = see_occlusions(models, given.shown, filmed)
    elif given.keep is not None:
        before = either(before, told_occlusion(given.keep.chunks(CHUNK), filmed, CHUNK))
    return show_references(models.appearance, given.shown, filmed, options, progress, before)


def see_occlusions(
    models: Models, source: FrameSource, track: FaceTrack, progress: Progress = None
) -> Occlusion | None:
    """What lies before the face in a clip; None when it is to be painted over."""
    return models.occlusion and find_occlusion(models.occlusion, source, track, CHUNK, progress)


def show_references(
    model: AppearanceModel,
    source: FrameSource,
    track: FaceTrack,
    options: SyncOptions,
    progress: Progress = None,
    occlusion: Occlusion | None = None,
) -> ReferenceBank:
    """References as `options` want them, from the clip with this track, without what lies before the face."""
    fixed = options.references == "fixed"
    count = model.params.references if fixed else BANK
    return select_references(source, track, geometry(track), count, fixed, progress, occlusion)


def fit_track(track: FaceTrack, index: Tensor, times: Tensor) -> FaceTrack:
    """The track of the output's timeline: rows `index (f,)` of the source's, shown at `times (f,)`."""
    return track[index].replace(times=times)


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


def stage_progress(progress: StageProgress | None, name: str) -> Progress:
    """The progress callback of one stage."""
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)
