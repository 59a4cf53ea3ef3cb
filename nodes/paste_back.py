"""Step 9: crops back into the frames; every other pixel stays bit by bit what it was."""

from __future__ import annotations

import torch
from torch import Tensor

from ..comfyui_mytalk.appearance.blend import match_colour
from ..comfyui_mytalk.appearance.fine import enlarge
from ..comfyui_mytalk.errors import InputError
from ..comfyui_mytalk.frames import cut_source, pictures
from ..comfyui_mytalk.geometry import Geometry, geometry
from ..comfyui_mytalk.landmarks.align import CROP_SIZE
from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.pipeline import bare_face, lay_back
from .checks import checked_inputs, counted
from .host import field, io, schema, to_host
from .inputs import CATEGORY, keep_input, track_input
from .media import read_keep, read_mask
from .progress import Progress, halving
from .tracks import check_frames, check_motion, scaled_to, track_in
from .types import Track

BATCH = 8
CROPS = "connect the crops that the Appearance VAE painted for these frames, all of them"


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
                    io.Image,
                    "crops",
                    tooltip="From the Appearance VAE. Sharpeners, restorers and upscalers may come between.",
                ),
                field(io.Mask, "crop_mask", tooltip="From the Appearance VAE. 0 keeps the frame, 1 takes the crop."),
                track_input(),
                field(
                    io.Boolean,
                    "match_colour",
                    default=True,
                    tooltip="Adjust the crops' colour to the skin around the mask. Default: on.",
                ),
                keep_input(),
                field(
                    Track,
                    "motion",
                    optional=True,
                    tooltip="The face with the new mouth, from the Landmark Diffusion Sampler or Edit Motion: colours "
                    "are then matched on cheeks and chin too. Default: around the mask alone.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="frames", tooltip="The finished frames."),
                io.Mask.Output(display_name="mask", tooltip="Which pixels of the frames are new."),
            ],
        )

    @classmethod
    @checked_inputs
    def execute(
        cls,
        images: Tensor,
        crops: Tensor,
        crop_mask: Tensor,
        track: FaceTrack,
        match_colour: bool,
        keep_mask: Tensor | None = None,
        motion: FaceTrack | None = None,
    ) -> io.NodeOutput:
        track = track_in(images, track)
        check_frames(crops, track, "crops", CROPS)
        read_mask(crop_mask, "crop_mask")
        crop_mask = crop_mask[None] if crop_mask.ndim == 2 else crop_mask
        if motion is not None:
            check_motion(motion, track)
            motion = scaled_to(motion, track.size, "motion")
        for name, value in (("crops", crops), ("crop_mask", crop_mask)):
            if value.shape[1] != value.shape[2]:
                raise InputError(
                    f"{name}: got {value.shape[2]}x{value.shape[1]} pixels, expected a square as the Appearance VAE "
                    "makes it, of any size; scale it, do not cut it"
                )
        if len(crop_mask) != len(track):
            raise InputError(
                f"crop_mask: got {counted(len(crop_mask), 'mask')}, but the track has {counted(len(track), 'frame')}; "
                "connect its crops' own"
            )
        keep = read_keep(keep_mask, images)
        frames, mask = lay_over(images, crops, crop_mask, geometry(track), match_colour, Progress(), keep, motion)
        return io.NodeOutput(to_host(frames), to_host(mask))


def lay_over(
    images: Tensor,
    crops: Tensor,
    crop_mask: Tensor,
    place: Geometry,
    match: bool,
    progress: Progress,
    keep: Tensor | None = None,
    motion: FaceTrack | None = None,
) -> tuple[Tensor, Tensor]:
    """Frames like `images (f, h, w, c)` with the crops in place, where `keep (f, h, w)` lets them, and their masks.

    `motion`: the faces that the crops show, where known, so that colours are matched on their skin too.
    """
    frames, masks = torch.empty_like(images), torch.empty(images.shape[:3])  # filled batch by batch: Cancel is heard
    changed = crop_mask.flatten(1).any(1).cpu()

    def run(part: slice) -> None:
        frames[part], masks[part] = images[part], 0
        index = changed[part].nonzero()[:, 0] + part.start
        if len(index):
            here, crop, mask = place[index], pictures(crops[index]), crop_mask[index, None].float().cpu()
            mask = enlarge(mask, crop.shape[-1])
            if match:
                source = cut_source(images, here, min(crop.shape[-1], CROP_SIZE), index)
                faces = [here.face(CROP_SIZE)]
                if motion is not None:
                    faces.append(here.skin(motion.points[index], CROP_SIZE))
                if keep is not None:
                    faces = [bare_face(face, keep[index], here) for face in faces]
                crop = match_colour(crop, source, mask, *faces)
            lay_back(frames, index, crop, mask, here, masks, keep)

    halving(run, len(images), BATCH, progress.showing(frames.__getitem__))
    return frames, masks
