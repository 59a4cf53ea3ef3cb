"""Step 7: pictures of this mouth, chosen from the clip."""

from __future__ import annotations

import torch
from torch import Tensor

from ..comfyui_mytalk.appearance.bank import ReferenceBank, Schedule
from ..comfyui_mytalk.appearance.occlusion import Occlusion
from ..comfyui_mytalk.frames import TensorSource
from ..comfyui_mytalk.geometry import geometry
from ..comfyui_mytalk.keep import either, told_occlusion
from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.pipeline import select_references
from .checks import checked_inputs, named
from .host import field, io, schema, to_host
from .inputs import CATEGORY, keep_input, reference_choice, reference_inputs, track_input
from .media import read_keep
from .progress import Progress
from .tracks import track_in
from .types import References

BATCH = 16  # masks looked at at a time


class MaskedReferenceSelect(io.ComfyNode):
    """Frames + track -> references."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkMaskedReferenceSelect",
            display_name="Masked Reference Select (MyTalk)",
            category=CATEGORY,
            description="Chooses sharp frames that show the mouth from closed to wide, to paint from.",
            search_aliases=["reference frames", "mouth references"],
            inputs=[
                field(io.Image, "images", tooltip="Frames of this person: usually the clip itself."),
                track_input(),
                *reference_inputs("mode", "count"),
                keep_input(),
            ],
            outputs=[
                References.Output(display_name="references", tooltip="For the Appearance VAE."),
                io.Image.Output(display_name="lips", tooltip="The chosen lip regions, to look at."),
            ],
        )

    @classmethod
    @checked_inputs
    def execute(
        cls, images: Tensor, track: FaceTrack, mode: str, count: int, keep_mask: Tensor | None = None
    ) -> io.NodeOutput:
        wanted, fixed = reference_choice(mode, count, "mode")
        track, keep = track_in(images, track), read_keep(keep_mask, images)
        bank = select(images, track, wanted, fixed, Progress(), keep)
        return io.NodeOutput(bank, to_host(visible_lips(bank)))


def select(
    images: Tensor,
    track: FaceTrack,
    count: int,
    fixed: bool,
    progress: Progress,
    keep: Tensor | None = None,
    occlusion: Occlusion | None = None,
) -> ReferenceBank:
    """At most `count` references, to retrieve from or `fixed`; none with lips under `keep (f, h, w)`, or under what was
    found in front of the face; what lies elsewhere is taken away."""
    if keep is not None:
        occlusion = either(occlusion, told_occlusion(iter(keep.split(BATCH)), track, BATCH))
    with named("images"):
        return select_references(TensorSource(images, 1.0), track, geometry(track), count, fixed, progress, occlusion)


def visible_lips(bank: ReferenceBank) -> Tensor:
    """What of each reference the paper's model sees `(m, s, s, 3)`."""
    shown = bank.gather(Schedule(torch.arange(len(bank.crops))[:, None]))
    return (shown.images * shown.masks)[:, 0].permute(0, 2, 3, 1)
