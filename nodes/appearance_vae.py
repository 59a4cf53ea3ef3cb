"""Step 8: masked frames + landmark pictures + references -> generated crops."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..comfyui_mytalk.appearance.bank import ReferenceBank
from ..comfyui_mytalk.appearance.model import AppearanceModel, load_appearance
from ..comfyui_mytalk.appearance.tuning import Tuning, tuned_copy
from ..comfyui_mytalk.frames import pictures
from ..comfyui_mytalk.geometry import Geometry, geometry
from ..comfyui_mytalk.landmarks.align import CROP_SIZE
from ..comfyui_mytalk.landmarks.canonical import to_canonical
from ..comfyui_mytalk.landmarks.drawing import render_landmarks
from ..comfyui_mytalk.landmarks.reading import DrawingReader
from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.pipeline import paint_crops, reference_schedule
from .checks import checked_inputs, named
from .host import ModelPatcher, device, field, io, picture_dtype, schema, to_host
from .inputs import CATEGORY, model_input, motion_input, track_input
from .listening import listening
from .models import held, missing_models, on_device
from .progress import Progress, halving
from .tracks import check_frames, check_motion, scaled_to, track_in
from .types import References, Tuned

BATCH = {"cpu": 8, "cuda": 16, "mps": 8}
READ_BATCH = 4  # drawings
DRAWINGS = "connect the pictures that Render Landmark Image draws of this motion, all of them"
READING = 0.1  # of the bar
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
                track_input(),
                motion_input(),
                field(
                    io.Image,
                    "landmark_images",
                    tooltip="What to paint: from Render Landmark Image, edited or not. One for each frame. Red lips "
                    "that are not where motion has them are followed; black ones leave the mouth to motion.",
                ),
                field(References, "references", tooltip="From Masked Reference Select."),
                model_input("appearance"),
                tuned_input(),
            ],
            outputs=[
                io.Image.Output(display_name="crops", tooltip="The generated lower faces, upright and centred."),
                io.Mask.Output(display_name="crop_mask", tooltip="Which part of the crops is new; soft at its edge."),
            ],
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        return missing_models(model=("appearance", model))

    @classmethod
    @checked_inputs
    def execute(
        cls,
        images: Tensor,
        track: FaceTrack,
        motion: FaceTrack,
        landmark_images: Tensor,
        references: ReferenceBank,
        model: str,
        tuned: Tuning | None = None,
    ) -> io.NodeOutput:
        track = track_in(images, track)
        check_motion(motion, track)
        motion = scaled_to(motion, track.size, "motion")
        check_frames(landmark_images, track, "landmark_images", DRAWINGS)
        painter, progress = load_model(model, tuned), Progress()
        with named("landmark_images"):
            motion, edited = follow(landmark_images, track, motion, progress.part(0, READING))
        place = geometry(track, motion)
        progress = progress.part(READING, 1)
        crops, mask = paint(images, track, motion, place, references, painter, progress, landmark_images, edited)
        return io.NodeOutput(to_host(crops), to_host(mask))


def tuned_input() -> io.Input:
    """What Tune Actor learnt, for the nodes that paint."""
    return field(
        Tuned,
        "tuned",
        optional=True,
        tooltip="How this actor looks, from Tune Actor with the same appearance model. Default: as for everybody.",
    )


def load_model(name: str, tuned: Tuning | None = None) -> tuple[AppearanceModel, int]:
    """The appearance model of that name, tuned or not, and how many pictures it takes at a time."""
    batch = BATCH.get(device().type, BATCH["cpu"])
    return on_device(held_model(name, tuned), batch * PICTURE_MEMORY), batch


def held_model(name: str, tuned: Tuning | None = None, role: str = "model") -> ModelPatcher:
    """The same, read and wherever the host has it; `role` is what the input is called.

    Raises InputError when the file is none of an appearance model, or the tuning is of other weights.
    """

    def load(path: str) -> AppearanceModel:
        model = load_appearance(path)
        if tuned is None:
            return model
        with named("tuned"):
            return tuned_copy(model, tuned)

    with named(role):
        return held("appearance", name, load, picture_dtype(), "" if tuned is None else tuned.digest)


def follow(drawings: Tensor, track: FaceTrack, motion: FaceTrack, progress: Progress) -> tuple[FaceTrack, Tensor]:
    """`motion` with the mouths of those `drawings (f, h, w, c)` that show others, and which these are `(f,)` bool."""
    reader = DrawingReader(to_canonical(track.points, track.pose)[track.usable])
    points, edited = motion.points.clone(), torch.zeros(len(track), dtype=torch.bool)
    frames = track.usable.nonzero()[:, 0]

    def run(part: slice) -> None:
        index = frames[part]
        drawn = scaled(drawings[index], CROP_SIZE)
        points[index], edited[index] = reader.read(
            drawn, motion.points[index], track.pose[index], track.transform[index]
        )

    halving(run, len(frames), READ_BATCH, progress)
    return (motion.replace(points=points) if edited.any() else motion), edited


def paint(
    images: Tensor,
    track: FaceTrack,
    motion: FaceTrack,
    place: Geometry,
    bank: ReferenceBank,
    painter: tuple[AppearanceModel, int],
    progress: Progress,
    drawings: Tensor,
    edited: Tensor,
) -> tuple[Tensor, Tensor]:
    """Generated crops `(f, s, s, 3)` and their masks `(f, s, s)`; 0 where there is no usable face.

    For frames that are `edited (f,)` the model is shown the landmarks that were read, in lines as it knows them.
    """
    model, batch = painter
    size, schedule = model.params.size, reference_schedule(bank, motion, place, model.params)
    side = size if schedule.share is None else bank.size
    crops, mask = torch.zeros(len(images), side, side, 3), torch.zeros(len(images), side, side)
    frames = track.usable.nonzero()[:, 0]

    def run(part: slice) -> None:
        index = frames[part]
        here, references, drawn = place[index], bank.gather(schedule[index]), scaled(drawings[index], size)
        new = edited[index]
        if new.any():
            drawn = drawn.clone()
            drawn[new] = render_landmarks(here.crop_points(motion.points[index])[new] * (size / CROP_SIZE), size)
        fine = bank.fine(schedule[index])
        painted = paint_crops(model, images, here, motion.points[index], references, drawn, index, fine)
        crops[index], mask[index] = painted.crops.permute(0, 2, 3, 1), painted.mask[:, 0]

    with listening(model):
        halving(run, len(frames), batch, progress.showing(lambda done: crops[frames[done]]))
    return crops, mask


def scaled(images: Tensor, size: int) -> Tensor:
    """The host's `(f, h, w, c)` -> `(f, 3, size, size)` float32."""
    picture = pictures(images)
    if picture.shape[2:] == (size, size):
        return picture
    return F.interpolate(picture, size=(size, size), mode="bilinear", antialias=True)
