"""What `sync` is given, opened and checked before any network runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from .keep import MaskFile
from .landmarks.track import Choice, check_place, parse_choice
from .options import SyncOptions
from .output import check_apart, check_output
from .speaking import motion_choices
from .speech.audio import Audio, fit_audio, read_audio
from .training.tune import TuneOptions
from .video.reader import VideoReader
from .video.timing import Timeline, fit_timeline
from .video.writer import SUFFIXES

logger = logging.getLogger(__name__)
SILENT = 1e-3  # of full scale: -60 dB


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
    """Open and check all that needs no network; raises InputError, also when `out` is one of the files to read."""
    face, out = parse_choice(options.face), check_output(out, SUFFIXES)
    check_apart({"output": out}, (video, speech, *options.files))
    motion_choices(options)
    tune = TuneOptions(options.tune, seed=options.seed) if options.tune else None
    film = VideoReader(video, options.start, options.duration)
    check_place(face, film.info.width, film.info.height)
    shown = film if options.reference_video is None else VideoReader(options.reference_video)
    style = None if options.style_video is None else VideoReader(options.style_video)
    keep = MaskFile(options.keep_mask, film, options.start, options.duration) if options.keep_mask else None
    audio = read_audio(speech, options.speech_start, options.speech_duration)
    if audio.waveform.mean(0).abs().max() < SILENT:  # as it is heard: two channels may cancel each other
        logger.warning("%s is silent, so the mouth will rest; is the speech on another track or channel?", speech)
    line = fit_timeline(len(film), float(film.info.fps), audio.duration, options.length_mode, film.times)
    if film.info.colour.hdr:
        logger.warning(
            "%s is HDR (%s): the output keeps its colours, but with 8 bits, and smooth areas may show steps",
            video,
            film.info.colour.hdr,
        )
    if film.info.width % 2 or film.info.height % 2:
        logger.warning(
            "%s has an odd size, %dx%d, which H.264 keeps at full colour resolution only: QuickTime, phones and some "
            "browsers do not show that; cut off a row or column of pixels first, if it is for them",
            video,
            film.info.width,
            film.info.height,
        )
    if film.info.interlaced:
        logger.warning("%s is interlaced, and the output is not: what moves shows combs; deinterlace it first", video)
    return Inputs(film, shown, style, keep, face, line, fit_audio(audio, line.end), tune, out)
