"""Step 9: crops back into the frames; every other pixel stays bit by bit what it was."""

from __future__ import annotations

import torch
from torch import Tensor

from ..comfyui_mytalk.appearance.blend import frame_mask, match_colour, paste_back
from ..comfyui_mytalk.errors import InputError
from ..comfyui_mytalk.landmarks.align import cut_crops
from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.pipeline import Geometry, geometry
from .appearance_vae import pictures
from .host import Progress, field, halving, io, schema, to_host
from .inputs import CATEGORY
from .masked_reference_select import check_frames
from .types import Track

BATCH = 8


class PasteBack(io.ComfyNode):
    """Crops + mask -> full frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkPasteBack",
            display_name="Paste Back (MyTalk)",
            category=CATEGORY,
            description="Lays the generated crops over the frames, soft at the edge and matched in colour. Pixels "
            "outside the mask are exactly those of the input.",
            search_aliases=["paste", "blend", "composite face"],
            inputs=[
                field(io.Image, "images", tooltip="The frames of the clip, in their full size."),
                field(
                    io.Image, "crops", tooltip="From the Appearance VAE. Nodes that keep their size may come between."
                ),
                field(io.Mask, "crop_mask", tooltip="From the Appearance VAE. 0 keeps the frame, 1 takes the crop."),
                field(Track, "track", tooltip="The face in these images, from Extract Dense Landmarks."),
                field(
                    io.Boolean,
                    "match_colour",
                    default=True,
                    tooltip="Adjust the crops' colour to the skin around the mask. Default: on.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="frames", tooltip="The finished frames."),
                io.Mask.Output(display_name="mask", tooltip="Which pixels of the frames are new."),
            ],
        )

    @classmethod
    def execute(
        cls, images: Tensor, crops: Tensor, crop_mask: Tensor, track: FaceTrack, match_colour: bool
    ) -> io.NodeOutput:
        for name, value in (("images", images), ("crops", crops)):
            check_frames(value, track, name)
        if crop_mask.shape != crops.shape[:3]:
            raise InputError(
                f"crop_mask: got shape {tuple(crop_mask.shape)}, expected {tuple(crops.shape[:3])}, that of the crops"
            )
        frames, mask = lay_over(images, crops, crop_mask, geometry(track), match_colour, Progress())
        return io.NodeOutput(to_host(frames), to_host(mask))


def lay_over(
    images: Tensor, crops: Tensor, crop_mask: Tensor, place: Geometry, match: bool, progress: Progress
) -> tuple[Tensor, Tensor]:
    """Frames like `images (f, h, w, c)` with the crops in place, and masks `(f, h, w)`."""
    frames, masks = images.clone(), torch.zeros(images.shape[:3])
    changed = crop_mask.flatten(1).any(1).cpu().nonzero()[:, 0]

    def run(part: slice) -> None:
        index = changed[part]
        picture, transform = pictures(images[index]), place.transform[index]
        crop, mask = pictures(crops[index]), crop_mask[index, None].float().cpu()
        if match:
            crop = match_colour(crop, cut_crops(picture, transform, crop.shape[-1]), mask)
        masks[index] = frame_mask(mask, transform, images.shape[1:3])[:, 0]
        new = paste_back(picture, crop, mask, transform).permute(0, 2, 3, 1).to(frames)
        inside = masks[index, :, :, None].to(frames.device) > 0
        frames[index, :, :, :3] = torch.where(inside, new, frames[index, :, :, :3])

    halving(run, len(changed), BATCH, progress.showing(lambda done: frames[changed[done]]))
    return frames, masks
