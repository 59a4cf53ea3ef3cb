"""Before the steps: frames and speech of one length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..comfyui_mytalk.speech.audio import fit_audio
from ..comfyui_mytalk.video.timing import MODES, fit_frames
from .checks import checked_inputs, counted, named, one_of
from .host import field, io, schema, to_host
from .inputs import CATEGORY, clip_input, fps_input
from .media import Video, read_audio, read_clip, write_audio
from .progress import Progress, halving

BATCH = 32


class FitVideoToSpeech(io.ComfyNode):
    """Frames + speech -> as many frames as the speech needs, or as much speech as the frames show."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkFitVideoToSpeech",
            display_name="Fit Video to Speech (MyTalk)",
            category=CATEGORY,
            description="Makes frames and speech equally long: repeats, holds or cuts frames, cuts or pads speech. "
            "Frames are never changed in speed. A single image becomes a clip.",
            search_aliases=["video length", "loop video", "ping-pong", "trim", "pad audio", "audio duration"],
            inputs=[
                clip_input("The frames of the clip in order, or a video. A portrait may be one frame."),
                field(io.Audio, "audio", tooltip="The speech. It keeps its own sample rate and channels."),
                fps_input(),
                field(
                    io.Combo,
                    "mode",
                    options=list(MODES),
                    default=MODES[0],
                    tooltip="auto: pingpong when the speech is longer, pad when it is shorter; nothing is lost. "
                    "trim: cut the longer one. loop: repeat the clip. pingpong: backwards, then forwards again: no "
                    "jumps. hold: the last frame stays. pad: as long as the clip, speech is cut or followed by "
                    "silence. Default: auto.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="frames", tooltip="The frames, in the size and rate of the input."),
                io.Audio.Output(display_name="speech", tooltip="The speech, exactly as long as the frames."),
                io.Float.Output(display_name="fps", tooltip="Frames per second: the video's own, or the input's."),
                io.String.Output(display_name="report", tooltip="How long both were, and what was done."),
            ],
        )

    @classmethod
    @checked_inputs
    def execute(cls, images: Tensor | Video, audio: Mapping[str, Any], fps: float, mode: str) -> io.NodeOutput:
        mode, given = one_of("mode", mode, MODES), read_audio(audio)
        clip = read_clip(images, fps)
        with named("audio"):
            index = fit_frames(len(clip.images), clip.fps, given.duration, mode)
        speech = fit_audio(given, len(index) / clip.fps)
        frames = repeat(clip.images, index, Progress())
        report = (
            f"{counted(len(clip.images), 'frame')} and {given.duration:.2f} s of speech became "
            f"{counted(len(index), 'frame')} at {clip.fps:g} fps and {speech.duration:.2f} s of speech"
        )
        return io.NodeOutput(to_host(frames), write_audio(speech), clip.fps, report)


def repeat(images: Tensor, index: Tensor, progress: Progress) -> Tensor:
    """Frames `index (f,)` of `images (m, h, w, c)`: a view where they are simply the first ones, else a copy."""
    if torch.equal(index, torch.arange(len(index))):
        return images[: len(index)]
    frames = images.new_empty(len(index), *images.shape[1:])

    def run(part: slice) -> None:
        frames[part] = images[index[part].to(images.device)]

    halving(run, len(index), BATCH, progress)
    return frames
