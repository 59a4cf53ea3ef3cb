"""Beside the steps: the landmarks drawn over the frames, to look at."""

from __future__ import annotations

from torch import Tensor

from ..comfyui_mytalk.frames import pictures
from ..comfyui_mytalk.landmarks.drawing import draw_over
from ..comfyui_mytalk.landmarks.track import FaceTrack
from .checks import checked_inputs
from .host import field, io, schema, to_host
from .inputs import CATEGORY
from .progress import Progress, halving
from .tracks import track_in
from .types import Track

BATCH = 8


class LandmarkOverlay(io.ComfyNode):
    """Frames + track -> frames with contours."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkLandmarkOverlay",
            display_name="Landmark Overlay (MyTalk)",
            category=CATEGORY,
            description="Draws the face's contours over the frames: which face is followed, how well, and where the "
            "new mouth will be. Frames without a face stay as they are.",
            search_aliases=["face mesh preview", "draw landmarks", "debug face"],
            inputs=[
                field(io.Image, "images", tooltip="The frames of the clip, in their full size."),
                field(Track, "track", tooltip="The clip's own track, or the sampler's motion."),
                field(
                    io.Float,
                    "opacity",
                    default=0.8,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much the lines cover: 0 not at all, 1 completely. Default: 0.8.",
                ),
                field(
                    io.Float,
                    "line_width",
                    default=2.0,
                    min=1.0,
                    max=16.0,
                    step=0.5,
                    tooltip="Width of the lines in pixels. Default: 2.",
                ),
            ],
            outputs=[io.Image.Output(display_name="frames", tooltip="The frames with lines: red lips, green jaw.")],
        )

    @classmethod
    @checked_inputs
    def execute(cls, images: Tensor, track: FaceTrack, opacity: float, line_width: float) -> io.NodeOutput:
        track = track_in(images, track)
        return io.NodeOutput(to_host(overlay(images, track, opacity, line_width, Progress())))


def overlay(images: Tensor, track: FaceTrack, opacity: float, width: float, progress: Progress) -> Tensor:
    """Frames like `images (f, h, w, c)` with the lines of every usable face."""
    frames, usable = images.clone(), track.usable.nonzero()[:, 0]

    def run(part: slice) -> None:
        index = usable[part]
        drawn = draw_over(pictures(images[index]), track.points[index, :, :2], opacity, width)
        frames[index, :, :, :3] = drawn.permute(0, 2, 3, 1).to(frames)

    halving(run, len(usable), BATCH, progress.showing(lambda done: frames[usable[done]]))
    return frames
