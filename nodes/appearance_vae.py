"""Step 8: masked frames + landmark pictures + references -> generated crops."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..comfyui_mytalk.appearance.model import AppearanceModel, load_appearance
from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.pipeline import Geometry, ReferenceBank, geometry, paint_crops, pictures, reference_schedule
from .host import Progress, device, field, halving, io, missing_models, network, picture_dtype, schema, to_host
from .inputs import CATEGORY, model_input
from .masked_reference_select import check_frames
from .types import References, Track

BATCH = {"cpu": 4, "cuda": 16, "mps": 8}
PICTURE_MEMORY = 512 * 2**20  # bytes that one picture takes on its way through the small model, generously


class AppearanceVAE(io.ComfyNode):
    """Paint the mouth that the landmarks say."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkAppearanceVAE",
            display_name="Appearance VAE (MyTalk)",
            category=CATEGORY,
            description="Paints the lower face of the landmark images, with the lips and teeth of the references.",
            search_aliases=["lip sync", "mouth renderer", "inpaint mouth"],
            inputs=[
                field(io.Image, "images", tooltip="The frames of the clip. The model does not see their mouth."),
                field(Track, "track", tooltip="The face in these images, from Extract Dense Landmarks."),
                field(Track, "motion", tooltip="The face with the new mouth, from the Landmark Diffusion Sampler."),
                field(
                    io.Image,
                    "landmark_images",
                    tooltip="What to paint: from Render Landmark Image, edited or not. One for each frame.",
                ),
                field(References, "references", tooltip="From Masked Reference Select."),
                model_input("appearance"),
            ],
            outputs=[
                io.Image.Output(display_name="crops", tooltip="The generated lower faces, upright and centred."),
                io.Mask.Output(display_name="crop_mask", tooltip="Which part of the crops is new; soft at its edge."),
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        return missing_models(appearance=model)

    @classmethod
    def execute(
        cls,
        images: Tensor,
        track: FaceTrack,
        motion: FaceTrack,
        landmark_images: Tensor,
        references: ReferenceBank,
        model: str,
    ) -> io.NodeOutput:
        check_frames(images, track)
        check_frames(landmark_images, track, "landmark_images")
        place = geometry(track, motion)
        crops, mask = paint(images, track, motion, place, references, model, Progress(), landmark_images)
        return io.NodeOutput(to_host(crops), to_host(mask))


def load_model(name: str) -> tuple[AppearanceModel, int]:
    """The appearance model of that name, and how many pictures it takes at a time."""
    batch = BATCH.get(device().type, BATCH["cpu"])
    return network("appearance", name, load_appearance, picture_dtype(), batch * PICTURE_MEMORY), batch


def paint(
    images: Tensor,
    track: FaceTrack,
    motion: FaceTrack,
    place: Geometry,
    bank: ReferenceBank,
    name: str,
    progress: Progress,
    drawings: Tensor,
) -> tuple[Tensor, Tensor]:
    """Generated crops `(f, s, s, 3)` and their masks `(f, s, s)`; 0 where there is no usable face."""
    model, batch = load_model(name)
    size = model.params.size
    crops, mask = torch.zeros(len(images), size, size, 3), torch.zeros(len(images), size, size)
    schedule = reference_schedule(bank, motion, place, model.params.references)
    frames = track.usable.nonzero()[:, 0]

    def run(part: slice) -> None:
        index = frames[part]
        here, references, drawn = place[index], bank.gather(schedule[index]), scaled(drawings[index], size)
        painted = paint_crops(model, images[index], here, motion.points[index], references, drawn)
        crops[index], mask[index] = painted.crops.permute(0, 2, 3, 1), painted.mask[:, 0]

    halving(run, len(frames), batch, progress.showing(lambda done: crops[frames[done]]))
    return crops, mask


def scaled(images: Tensor, size: int) -> Tensor:
    """The host's `(f, h, w, c)` -> `(f, 3, size, size)` float32."""
    picture = pictures(images)
    if picture.shape[2:] == (size, size):
        return picture
    return F.interpolate(picture, size=(size, size), mode="bilinear", antialias=True)
