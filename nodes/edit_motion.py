"""Between steps 5 and 6: change the generated mouth without generating it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.motion.edit import MotionEdit, edit_motion
from ..comfyui_mytalk.speech.audio import speech_16k
from .checks import checked_inputs
from .host import field, io, schema
from .inputs import CATEGORY, motion_input
from .media import read_audio
from .tracks import check_motion
from .types import Track

DEFAULTS = MotionEdit()
NO_SPEECH = "connect the speech that the sampler was given, or set silence_gate to 0"


class EditMotion(io.ComfyNode):
    """Spoken track -> spoken track."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkEditMotion",
            display_name="Edit Motion (MyTalk)",
            category=CATEGORY,
            description="Makes the generated mouth move more or less, calmer, nearer to the actor's own, or rest where "
            "the speech is silent. Takes no time; the sampler does not run again.",
            search_aliases=["smooth", "mouth strength", "blend motion", "silence gate", "jitter"],
            inputs=[
                motion_input(),  # first: a bypassed node hands on its first input of the output's type
                field(Track, "track", tooltip="The face as filmed, from Extract Dense Landmarks."),
                number("strength", 2.0, "How far the mouth moves away from its rest: 0 not at all, 1 as generated."),
                number(
                    "smoothing",
                    0.2,
                    "Seconds over which the motion is averaged (sigma of a Gaussian): 0.02 calms jitter, 0.05 already "
                    "halves quick syllables, 0 is off.",
                    step=0.005,
                ),
                number("blend", 1.0, "0 is the actor's own mouth as filmed, 1 the generated one."),
                number(
                    "silence_gate",
                    1.0,
                    "How far the mouth goes to rest where the audio is silent: 0 is off, 1 completely. Needs audio.",
                    default=DEFAULTS.gate,
                ),
                number(
                    "silence_threshold",
                    60.0,
                    "How many decibels below the voice count as silent. Smaller rests more often.",
                    default=DEFAULTS.threshold,
                    step=1.0,
                ),
                field(
                    io.Audio,
                    "audio",
                    optional=True,
                    tooltip="The speech that the sampler was given. Only the silence gate listens to it.",
                ),
            ],
            outputs=[Track.Output(display_name="motion", tooltip="The same face with the changed mouth.")],
        )

    @classmethod
    @checked_inputs
    def execute(
        cls,
        motion: FaceTrack,
        track: FaceTrack,
        strength: float,
        smoothing: float,
        blend: float,
        silence_gate: float,
        silence_threshold: float,
        audio: Mapping[str, Any] | None = None,
    ) -> io.NodeOutput:
        check_motion(motion, track)
        edit = MotionEdit(strength, smoothing, blend, silence_gate, silence_threshold)
        speech = speech_16k(read_audio(audio, remedy=NO_SPEECH)) if silence_gate > 0 else None
        return io.NodeOutput(edit_motion(track, motion, edit, speech))


def number(name: str, highest: float, tooltip: str, default: float | None = None, step: float = 0.05) -> io.Input:
    """A number from 0 up, with the library's default."""
    value = getattr(DEFAULTS, name) if default is None else default
    return field(
        io.Float, name, default=value, min=0.0, max=highest, step=step, tooltip=f"{tooltip} Default: {value:g}."
    )
