"""`sync`: a video file and a speech file in, a video file out. Streams; memory does not grow with the length.

m source frames   f output frames
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from .appearance.bank import ReferenceBank
from .appearance.occlusion import Occlusion
from .appearance.references import BANK, FIXED
from .appearance.tuning import tuned_copy
from .devices import pick_device, pick_dtype
from .frames import CHUNK, PickableSource
from .geometry import geometry
from .inputs import Inputs, read_inputs
from .keep import either, find_occlusion, told_occlusion
from .landmarks.track import FaceTrack, track_faces
from .models import Models, load_models
from .options import SyncOptions
from .pipeline import render_clip, select_references
from .report import report
from .speaking import Spoken, heard_in, speak_in_style
from .speech.audio import fit_audio
from .stages import Progress, StageProgress, Stopwatch, stage_progress
from .training.tune import tune_on_clip
from .video.timing import FittedReader, last_shown
from .video.writer import VideoWriter


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
    models, watch, progress_in = load_models(options), Stopwatch(), partial(stage_progress, progress)
    with watch.stage("face"):
        film = given.film
        filmed = track_faces(film.chunks(CHUNK), models.landmarker, given.face, progress_in("face"), len(film))
    with watch.stage("occlusions"):
        occlusion = see_occlusions(models, film, filmed, progress_in("occlusions"))
    source = FittedReader(film, given.line.index)
    track = fit_track(filmed, source.index, source.times)
    with watch.stage("motion"):
        spoken, style = speak_inputs(models, given, filmed, track, options, progress_in("motion"))
    with watch.stage("references"):
        bank = show_inputs(models, given, filmed, occlusion, options, progress_in("references"))
    if given.tune is not None:
        with watch.stage("tune"):
            tuning = tune_on_clip(models.appearance, film, filmed, given.tune, progress_in("tune"))
            dtype = pick_dtype(options.dtype, pick_device(options.device))
            models.appearance = tuned_copy(models.appearance, tuning).to(dtype)
    occlusion = None if occlusion is None else occlusion[source.index]
    with watch.stage("picture"), open_output(given, options.crf) as writer:
        stays = None if given.keep is None else given.keep.chunks(CHUNK, source.index)
        place = geometry(track, spoken)
        painted = render_clip(
            models.appearance,
            source,
            spoken,
            place,
            bank,
            CHUNK,
            progress_in("picture"),
            keep=stays,
            occlusion=occlusion,
        )
        for frames, times, _ in painted:
            writer.write(frames, times)
    covered = None if occlusion is None else occlusion.rows >= 0
    return report(video, speech, given, options, spoken, style, bank.frames, watch.seconds, covered)


def open_output(given: Inputs, crf: int) -> VideoWriter:
    """The file to write, in the form of the film, with the speech."""
    info = given.film.info
    return VideoWriter(
        given.out,
        info.width,
        info.height,
        info.fps,
        audio=given.audio,
        crf=crf,
        pixel_aspect=info.pixel_aspect,
        end=given.line.end,
        colour=info.colour,
        tags=info.tags,
    )


def speak_inputs(
    models: Models, given: Inputs, filmed: FaceTrack, track: FaceTrack, options: SyncOptions, progress: Progress
) -> Spoken:
    """The output's `track` with a lower face that speaks the words that were given, in the manner that was.

    `filmed` is the film's own track, whose sound is the style reference unless a style clip is.
    """
    style, shown = None, (given.film, filmed)
    if given.style is not None:
        style = track_faces(given.style.chunks(CHUNK), models.landmarker)
        shown = (given.style, style)
    reference = heard_in(*shown) if options.style_strength else None
    # A last picture that stands on while the speech ends has no later mouth.
    heard = fit_audio(given.audio, float(track.times[-1]) + last_shown(track.times, given.film.info.fps))
    return speak_in_style(models, track, heard, options, progress, style, reference)


def show_inputs(
    models: Models,
    given: Inputs,
    filmed: FaceTrack,
    occlusion: Occlusion | None,
    options: SyncOptions,
    progress: Progress,
) -> ReferenceBank:
    """References from the clip that was given for them; of the film itself, track and occlusion are known."""
    if given.shown is not given.film:
        filmed = track_faces(given.shown.chunks(CHUNK), models.landmarker)
        occlusion = see_occlusions(models, given.shown, filmed)
    elif given.keep is not None:
        occlusion = either(occlusion, told_occlusion(given.keep.chunks(CHUNK), filmed, CHUNK))
    return show_references(given.shown, filmed, options, progress, occlusion)


def see_occlusions(
    models: Models, source: PickableSource, track: FaceTrack, progress: Progress = None
) -> Occlusion | None:
    """What lies in front of the face in a clip; None when it is to be painted over."""
    if models.occlusion is None:
        return None
    return find_occlusion(models.occlusion, source, track, CHUNK, progress)


def show_references(
    source: PickableSource,
    track: FaceTrack,
    options: SyncOptions,
    progress: Progress = None,
    occlusion: Occlusion | None = None,
) -> ReferenceBank:
    """References as `options` want them, from the clip with this track, without what lies in front of the face."""
    fixed = options.references == "fixed"
    return select_references(source, track, geometry(track), FIXED if fixed else BANK, fixed, progress, occlusion)


def fit_track(track: FaceTrack, index: Tensor, times: Tensor) -> FaceTrack:
    """The track of the output's timeline: rows `index (f,)` of the source's, shown at `times (f,)`."""
    return track[index].replace(times=times)
