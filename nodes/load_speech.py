"""Step 1: speech from a file or an AUDIO, cut to the part that is wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..comfyui_mytalk.errors import InputError
from ..comfyui_mytalk.speech.audio import Audio
from ..comfyui_mytalk.speech.audio import read_audio as read_audio_file
from .checks import checked_inputs
from .files import input_files, input_path
from .host import field, io, schema
from .inputs import CATEGORY, fps_input
from .media import check_fps, read_audio, write_audio

NO_FILE = "none: use audio"
NO_SPEECH = "choose a file, or connect another sound: the video that this one comes from may be silent"
LONGEST = 86_400.0  # seconds


class LoadSpeech(io.ComfyNode):
    """Choose, cut and amplify the speech."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkLoadSpeech",
            display_name="Load Speech (MyTalk)",
            category=CATEGORY,
            description="Speech from the input folder or any AUDIO, cut and amplified, and how many frames it fills.",
            search_aliases=["voice", "speech", "audio", "lip sync"],
            inputs=[
                field(
                    io.Combo,
                    "file",
                    options=[NO_FILE, *input_files("audio", "video")],
                    default=NO_FILE,
                    tooltip=f"Sound or video file in the input folder. Default: {NO_FILE}, which takes what is "
                    "connected to audio; to upload a file, connect Load Audio there.",
                ),
                field(
                    io.Float,
                    "start",
                    default=0.0,
                    min=0.0,
                    max=LONGEST,
                    step=0.01,
                    tooltip="Seconds to leave out at the beginning. Default: 0.",
                ),
                field(
                    io.Float,
                    "duration",
                    default=0.0,
                    min=0.0,
                    max=LONGEST,
                    step=0.01,
                    tooltip="Seconds to keep, 0 for all up to the end. Default: 0.",
                ),
                field(
                    io.Float,
                    "gain",
                    default=0.0,
                    min=-40.0,
                    max=40.0,
                    step=0.5,
                    tooltip="Decibels to amplify by. It changes how loud the video is, not how the mouth moves. "
                    "Default: 0.",
                ),
                fps_input(),
                field(
                    io.Audio,
                    "audio",
                    optional=True,
                    tooltip="Speech from another node: Load Audio, a recorder, text to speech. Used when file is "
                    f"{NO_FILE}.",
                ),
            ],
            outputs=[
                io.Audio.Output(display_name="speech", tooltip="The speech, at its own sample rate."),
                io.Int.Output(display_name="frames", tooltip="How many frames the speech fills at this fps."),
                io.Float.Output(display_name="seconds", tooltip="How long the speech is."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        try:
            if file is not None and file != NO_FILE:
                input_path(file)
        except InputError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None, **others: Any) -> str:
        if file is None or file == NO_FILE:
            return ""
        stat = input_path(file).stat()
        return f"{stat.st_mtime_ns} {stat.st_size}"

    @classmethod
    @checked_inputs
    def execute(
        cls,
        file: str,
        start: float,
        duration: float,
        gain: float,
        fps: float,
        audio: Mapping[str, Any] | None = None,
    ) -> io.NodeOutput:
        fps = check_fps(fps)
        speech = read_audio(audio, remedy=NO_SPEECH) if file == NO_FILE else read_file(file)
        speech = amplify(cut(speech, start, duration), gain)
        return io.NodeOutput(write_audio(speech), math.ceil(speech.duration * fps - 1e-6), speech.duration)


def read_file(name: str) -> Audio:
    """The sound of a file in the input folder; raises InputError, which names the input, when it has none."""
    path = input_path(name)
    try:
        return read_audio_file(path)
    except InputError as error:
        again = ", or" if "; convert" in str(error) else ";"
        raise InputError(f"file: {error}{again} choose another file") from error


def cut(speech: Audio, start: float, duration: float) -> Audio:
    """The part from `start` for `duration` seconds, 0 for all of the rest; raises InputError when nothing is left."""
    first = round(start * speech.sample_rate)
    last = first + round(duration * speech.sample_rate) if duration > 0 else speech.waveform.shape[1]
    if first >= speech.waveform.shape[1]:
        raise InputError(f"start: got {start:g} s, but the speech ends at {speech.duration:.2f} s; start earlier")
    if last <= first:
        raise InputError(f"duration: got {duration:g} s, which is no sample; keep more, or set 0 for all up to the end")
    return Audio(speech.waveform[:, first:last], speech.sample_rate)


def amplify(speech: Audio, decibels: float) -> Audio:
    """Louder by `decibels`, without clipping: what would exceed full scale is brought back to it."""
    waveform = speech.waveform * 10 ** (decibels / 20)
    return Audio(waveform / waveform.abs().max().clamp_min(1.0) if decibels > 0 else waveform, speech.sample_rate)
