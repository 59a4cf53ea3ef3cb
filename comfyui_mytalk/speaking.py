"""From a face and a sound to the face that says it: speech features, identity, style reference, motion, pauses."""

from __future__ import annotations

from typing import NamedTuple

import torch

from .errors import InputError
from .landmarks.track import FaceTrack
from .models import Models
from .motion.edit import MotionEdit, edit_motion
from .motion.generate import MotionOptions, speak
from .motion.identity import identity_tokens
from .motion.params import FPS
from .motion.reference import LONGEST, UNHEARD, StyleReference, remember, unheard_reference
from .options import SyncOptions
from .speech.audio import Audio, read_audio, speech_16k
from .stages import Progress
from .video.reader import VideoReader


class Heard(NamedTuple):
    """A clip whose person is seen and heard: its track, and its sound from the track's first frame on."""

    track: FaceTrack
    audio: Audio


class Spoken(NamedTuple):
    """A track that speaks, and what it took of how its person speaks."""

    track: FaceTrack
    style: StyleReference


def heard_in(film: VideoReader, track: FaceTrack) -> Heard | None:
    """A film's own sound beside its track, a minute at most; None where it has none."""
    if not film.info.has_audio:
        return None
    try:
        return Heard(track, read_audio(film.path, film.offset, LONGEST / FPS))
    except InputError:  # it ends before this part of the film: nothing is heard
        return None


def speak_in_style(
    models: Models,
    track: FaceTrack,
    audio: Audio,
    options: SyncOptions,
    progress: Progress = None,
    style: FaceTrack | None = None,
    reference: Heard | None = None,
) -> Spoken:
    """The track with a lower face that speaks `audio` and rests in pauses.

    `style` is another clip of the same person, whose manner is taken; `reference`, that clip or the very film, shows
    which of the person's mouths go with which sounds.
    """
    speech = speech_16k(audio)
    with torch.inference_mode():
        features = models.speech(speech)
    tokens = identity_tokens(models.identity, track if style is None else style)
    shown = unheard_reference(models.motion, track, options.style_strength)
    if shown is UNHEARD and reference is not None:
        with torch.inference_mode():
            heard = models.speech(speech_16k(reference.audio))
        shown = remember(models.motion, reference.track, heard, tokens)
    motion, edit = motion_choices(options)
    spoken = speak(models.motion, track, features, tokens, motion, progress, style, shown.memory)
    return Spoken(edit_motion(track, spoken, edit, speech, style), shown)


def motion_choices(options: SyncOptions) -> tuple[MotionOptions, MotionEdit]:
    """How to sample, and what to change of that; raises InputError when it cannot be."""
    motion = MotionOptions(
        steps=options.steps, seed=options.seed, strength=options.strength, style_strength=options.style_strength
    )
    return motion, MotionEdit(gate=options.silence_gate)
