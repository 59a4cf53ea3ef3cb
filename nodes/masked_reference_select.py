"""Step 7: pictures of this mouth, chosen from the clip."""

from __future__ import annotations

import torch
from torch import Tensor

from ..comfyui_mytalk.appearance.bank import ReferenceBank, Schedule
from ..comfyui_mytalk.appearance.occlusion import Occlusion
from ..comfyui_mytalk.errors import InputError
from ..comfyui_mytalk.frames import TensorSource
from ..comfyui_mytalk.geometry import geometry
from ..comfyui_mytalk.keep import either, told_occlusion
from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.pipeline import select_references
from .host import Progress, field, io, schema, to_host
from .inputs import CATEGORY, REFERENCES, keep_input, reference_inputs
from .media import read_images, read_keep
from .types import References, Track

BATCH = 16  # masks looked at at a time
FIXED = 3  # the paper's closed, half open and wide mouth


class MaskedReferenceSelect(io.ComfyNode):
    """Frames + track -> references."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkMaskedReferenceSelect",
            display_name="Masked Reference Select (MyTalk)",
            category=CATEGORY,
            description="Chooses sharp frames that show the mouth from closed to wide, and keeps only the lip region.",
            search_aliases=["reference frames", "mouth references"],
            inputs=[
                field(io.Image, "images", tooltip="Frames of this person: usually the clip itself."),
                field(Track, "track", tooltip="The face in these images, from Extract Dense Landmarks."),
                *reference_inputs("mode", "count"),
                keep_input(),
            ],
            outputs=[
                References.Output(display_name="references", tooltip="For the Appearance VAE."),
                io.Image.Output(display_name="lips", tooltip="The chosen lip regions, to look at."),
            ],
        )

    @classmethod
    def execute(
        cls, images: Tensor, track: FaceTrack, mode: str, count: int, keep_mask: Tensor | None = None
    ) -> io.NodeOutput:
        check_frames(images, track)
        bank = select(images, track, mode, count, Progress(), read_keep(keep_mask, images))
        return io.NodeOutput(bank, to_host(visible_lips(bank)))


def check_frames(images: Tensor, track: FaceTrack, name: str = "images") -> None:
    """Raise InputError unless there is one image for each frame of the track."""
    if len(read_images(images, name)) != len(track):
        raise InputError(
            f"{name}: got {len(images)} frames, but the track has {len(track)}; connect the same frames to both"
        )


def select(
    images: Tensor,
    track: FaceTrack,
    mode: str,
    count: int,
    progress: Progress,
    keep: Tensor | None = None,
    occlusion: Occlusion | None = None,
) -> ReferenceBank:
    """At most `count` references to retrieve from, or the fixed three; none with lips under `keep (f, h, w)`, or under
    what was found before the face; what lies elsewhere is taken away."""
    if mode not in REFERENCES:
        raise InputError(f"mode: got {mode!r}, expected {', '.join(REFERENCES)}")
    source, fixed = TensorSource(images, 1.0), mode == REFERENCES[1]
    if keep is not None:
        occlusion = either(occlusion, told_occlusion(iter(keep.split(BATCH)), track, BATCH))
    place, wanted = geometry(track), FIXED if fixed else count
    return select_references(source, track, place, wanted, fixed, progress, occlusion)


def visible_lips(bank: ReferenceBank) -> Tensor:
    """What of each reference the paper's model sees `(m, s, s, 3)`."""
    shown = bank.gather(Schedule(torch.arange(len(bank.crops))[:, None]))
    return (shown.images * shown.masks)[:, 0].permute(0, 2, 3, 1)
