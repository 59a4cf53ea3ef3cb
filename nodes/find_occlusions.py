"""Beside the steps: what lies in front of the face, as a mask of what should stay as filmed."""

from __future__ import annotations

import torch
from torch import Tensor

from ..comfyui_mytalk.appearance.blend import frame_mask
from ..comfyui_mytalk.appearance.occlusion import Occlusion, load_occlusion
from ..comfyui_mytalk.frames import TensorSource
from ..comfyui_mytalk.keep import find_occlusion
from ..comfyui_mytalk.landmarks.track import FaceTrack
from .checks import checked_inputs, counted, named
from .host import field, io, schema, to_host
from .inputs import CATEGORY, model_input, track_input
from .models import missing_models, network
from .progress import Progress, retrying
from .tracks import track_in

BATCH = 16
WEIGHTS = "occlusion_small"


class FindOcclusions(io.ComfyNode):
    """Frames + track -> masks."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkFindOcclusions",
            display_name="Find Occlusions (MyTalk)",
            category=CATEGORY,
            description="Finds what passes in front of the lower face: hands, microphones, cups, writing. Connect the "
            "mask to keep_mask, and it stays as filmed. Lip Sync does the same by itself.",
            search_aliases=["occlusion", "hand mask", "microphone mask", "obstruction"],
            inputs=[
                field(io.Image, "images", tooltip="The frames of the clip, in their full size."),
                track_input(),
                model_input("occlusion"),
            ],
            outputs=[
                io.Mask.Output(display_name="mask", tooltip="White where something is in front of the lower face."),
                io.String.Output(display_name="report", tooltip="In how many frames something was found."),
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        return missing_models(model=("occlusion", model))

    @classmethod
    @checked_inputs
    def execute(cls, images: Tensor, track: FaceTrack, model: str) -> io.NodeOutput:
        track = track_in(images, track)
        occlusion = see_occlusions(images, track, model, Progress())
        return io.NodeOutput(to_host(in_frames(occlusion, track, images.shape[1:3])), describe_occlusion(occlusion))


def see_occlusions(images: Tensor, track: FaceTrack, model: str, progress: Progress) -> Occlusion:
    """What lies in front of the face in `images (f, h, w, c)`."""
    source = TensorSource(images, 1.0)

    def run(batch: int) -> Occlusion:
        with named("model"):
            finder = network("occlusion", model, load_occlusion)
        return find_occlusion(finder, source, track, batch, progress)

    return retrying(run, BATCH)


def in_frames(occlusion: Occlusion, track: FaceTrack, size: tuple[int, int]) -> Tensor:
    """The masks `(f, h, w)` in frames of `size (h, w)`."""
    masks = torch.zeros(len(track), *size)
    for frame in (occlusion.rows >= 0).nonzero()[:, 0]:
        crop = occlusion[frame[None]].shares(256)
        masks[frame] = frame_mask(crop, track.transform[frame[None]], size)[0, 0]
    return masks


def describe_occlusion(occlusion: Occlusion) -> str:
    """One line for people."""
    found = int((occlusion.rows >= 0).sum())
    if not found:
        return "nothing is in front of the face"
    return f"something is in front of the face in {found} of {counted(len(occlusion), 'frame')}"
