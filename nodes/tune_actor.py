"""Actor tuning: frames + track -> how this actor's mouth looks, for the nodes that paint."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from ..comfyui_mytalk.appearance.model import AppearanceModel, load_appearance
from ..comfyui_mytalk.appearance.tuning import Tuning, load_tuning, save_tuning
from ..comfyui_mytalk.errors import InputError
from ..comfyui_mytalk.frames import TensorSource
from ..comfyui_mytalk.landmarks.track import FaceTrack
from ..comfyui_mytalk.output import check_output
from ..comfyui_mytalk.training.tune import TuneOptions, tune_on_clip
from .checks import checked_inputs, named
from .files import output_folder
from .host import field, io, schema
from .inputs import CATEGORY, model_input, track_input
from .models import missing_models, network
from .progress import Progress
from .tracks import track_in
from .types import Tuned

logger = logging.getLogger(__name__)
MEMORY = 2 * 2**30  # bytes that tuning the small model takes beside its weights, generously


class TuneActor(io.ComfyNode):
    """Train the appearance model a little further on one clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MyTalkTuneActor",
            display_name="Tune Actor (MyTalk)",
            category=CATEGORY,
            description="Learns how this actor's lips and teeth look, from the clip itself. Takes minutes without a "
            "GPU. The shared weights stay as they are.",
            search_aliases=["finetune", "fine-tune", "personalize", "train mouth"],
            inputs=[
                field(io.Image, "images", tooltip="Frames of the actor: the clip itself, or a longer one."),
                track_input(),
                model_input("appearance"),
                field(
                    io.Int,
                    "steps",
                    default=TuneOptions.steps,
                    min=1,
                    max=5000,
                    tooltip=f"Training steps: more fit the actor better and take longer. Default: {TuneOptions.steps}.",
                ),
                field(
                    io.Int,
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    control_after_generate=False,
                    tooltip="In which order frames are looked at. Default: 0.",
                ),
                field(
                    io.Boolean,
                    "keep",
                    default=True,
                    tooltip="Keep the result in output/mytalk (some MB) and take it from there next time the inputs "
                    "are the same. Default: on.",
                ),
            ],
            outputs=[Tuned.Output(display_name="tuned", tooltip="For Lip Sync or Appearance VAE.")],
        )

    @classmethod
    def validate_inputs(cls, model: str | None = None) -> bool | str:
        return missing_models(model=("appearance", model))

    @classmethod
    @checked_inputs
    def execute(cls, images: Tensor, track: FaceTrack, model: str, steps: int, seed: int, keep: bool) -> io.NodeOutput:
        track = track_in(images, track)
        with named("model"):
            base = network("appearance", model, load_appearance, torch.float32, MEMORY)
        options = TuneOptions(steps, seed=seed)
        path = output_folder() / f"tuned_{fingerprint(images, track, base, options)}.safetensors"
        if keep and path.is_file():
            return io.NodeOutput(load_tuning(path))
        if keep:
            check_room(path)
        with named("images"):
            tuning = tune_on_clip(base, TensorSource(images, 1.0), track, options, Progress())
        if keep:
            keep_tuning(path, tuning)
        return io.NodeOutput(tuning)


def check_room(path: Path) -> None:
    """Raise InputError, before minutes of training, when `path` or the folder that it needs cannot be written."""
    there = next(folder for folder in path.parents if folder.exists())
    try:
        check_output(there / path.name)
    except InputError as error:
        raise InputError(f"keep: {error}, or switch it off") from error


def keep_tuning(path: Path, tuning: Tuning) -> None:
    """Save the tuning if that is possible: a disk that is full by now does not undo the training."""
    try:
        save_tuning(path, tuning)
    except (OSError, SafetensorError) as error:
        logger.warning("the tuning works in this graph, but is not kept: cannot write %s: %s", path, error)


def fingerprint(images: Tensor, track: FaceTrack, model: AppearanceModel, options: TuneOptions) -> str:
    """Equal for equal clips, weights and options; pixels are looked at here and there."""
    sample = (images[:: max(1, len(images) // 8), ::16, ::16, :3].float().cpu() * 255).round().byte()
    parts = (sample, track.points.float().cpu(), track.usable.cpu())
    digest = hashlib.sha256(f"{model.sha256} {options}".encode())
    for part in parts:
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
