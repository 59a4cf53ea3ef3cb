"""Step 6: a picture of the landmarks of every frame."""

from __future__ import annotations

import torch
from torch import Tensor

from ..comfyui_mytalk.geometry import geometry
from ..comfyui_mytalk.landmarks.align import CROP_SIZE
from ..comfyui_mytalk.landmarks.drawing import render_landmarks
from ..comfyui_mytalk.landmarks.track import FaceTrack
from .checks import checked_inputs
from .host import field, io, schema, to_host
from .inputs import CATEGORY
from .progress import Progress, halving
from .types import Track

BATCH = 4  # half the time of 32: what a few frames need stays in the cache


class RenderLandmarkImage(io.ComfyNode):
    """Track -> landmark pictures, ordinary IMAGEs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkRenderLandmarkImage",
            display_name="Render Landmark Image (MyTalk)",
            category=CATEGORY,
            description="Draws the landmarks as the appearance model reads them: red lips, green jaw, blue the rest. "
            "They are ordinary images, so they can be looked at, edited or replaced.",
            search_aliases=["landmark image", "face drawing"],
            inputs=[
                field(Track, "track", tooltip="The face to draw: the sampler's motion, or the clip's own track."),
                field(
                    io.Int,
                    "size",
                    default=CROP_SIZE,
                    min=64,
                    max=2048,
                    step=64,
                    tooltip=f"Side of the square pictures. The shipped appearance model reads {CROP_SIZE}; others are "
                    f"scaled to it. Default: {CROP_SIZE}.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="landmark_images", tooltip="One per frame; black where there is no face.")
            ],
        )

    @classmethod
    @checked_inputs
    def execute(cls, track: FaceTrack, size: int) -> io.NodeOutput:
        return io.NodeOutput(to_host(draw(track, size, Progress())))


def draw(track: FaceTrack, size: int, progress: Progress) -> Tensor:
    """Landmark pictures `(f, size, size, 3)`."""
    place = geometry(track)
    pictures = torch.empty(len(track), size, size, 3)

    def run(part: slice) -> None:
        points = place[part].crop_points(track.points[part]) * (size / CROP_SIZE)
        drawn = render_landmarks(points, size).permute(0, 2, 3, 1)
        pictures[part] = drawn * track.usable[part, None, None, None]

    halving(run, len(track), BATCH, progress.showing(pictures.__getitem__))
    return pictures
