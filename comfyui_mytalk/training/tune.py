"""Actor tuning: a few hundred steps of all but the encoders on the user's own clip.

    m frames kept   s crop side in pixels

The weights that others share stay as they are: the steps run on a copy. References are never the target frame or its
neighbours. The same seed gives the same result on the same machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..appearance.model import AppearanceModel
from ..appearance.params import AppearanceParams
from ..appearance.tuning import Tuning
from ..devices import multiplies_bfloat16
from ..errors import InputError
from ..frames import PickableSource, cut_frames
from ..geometry import Geometry, geometry
from ..landmarks.canonical import Pose
from ..landmarks.track import FaceTrack
from ..stages import Progress
from ..video.timing import last_shown
from .appearance_data import (
    ClipView,
    RawSample,
    Sample,
    cut_sample,
    draw_raw,
    gap_frames,
    make_sample,
)
from .appearance_gan import freeze_encoders
from .appearance_losses import painted, painted_where, tuning_loss
from .loop import Ema, step_rng
from .schedule import anneal, set_learning_rate

WARMUP = 20  # steps
CUT = (112, 128)  # of the window that is trained on: the mouth and what is around it
ENOUGH = 100  # frames; fewer are learnt by heart at the full rate


@dataclass(frozen=True)
class TuneOptions:
    """How to tune: `steps` of `batch` crops each, peak learning `rate`, at most `frames` frames of the clip kept.

    From clips of fewer than 100 frames less is learnt, in proportion.
    """

    steps: int = 300
    batch: int = 4
    rate: float = 1e-4
    frames: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"got {self.steps} tuning steps, expected at least 1; leave tuning out instead")


@dataclass(frozen=True)
class ActorClip:
    """The user's clip with some of its crops, in the form of a prepared clip (`clips.PreparedClip`)."""

    points: Tensor  # (f, 478, 3) pixels of the frame
    found: Tensor  # (f,) the frames whose crops are here
    pose: Pose
    transform: Tensor  # (f, 2, 3)
    pictures: Tensor  # (m, 3, s, s) uint8
    slots: dict[int, int]
    fps: float

    @property
    def metadata(self) -> dict[str, str]:
        return {"crop_size": str(self.pictures.shape[-1])}

    def crops(self, frames: list[int]) -> Tensor:
        """Crops `(len(frames), 3, s, s)` uint8."""
        return self.pictures[[self.slots[frame] for frame in frames]]


def actor_clip(
    source: PickableSource, track: FaceTrack, place: Geometry, frames: int, progress: Progress = None
) -> ActorClip:
    """Keep at most `frames` frames of a clip, evenly spread; raises InputError when it is too short to learn from."""
    usable = track.usable.nonzero()[:, 0]
    fps = len(track) / float(track.times[-1] - track.times[0] + last_shown(track.times))
    if len(usable) <= 2 * gap_frames(fps):
        raise InputError(
            f"got a usable face in {len(usable)} of {len(track)} frames, expected one in more than "
            f"{2 * gap_frames(fps)} to tune on; give a longer video"
        )
    kept = usable[torch.linspace(0, len(usable) - 1, min(frames, len(usable))).long()]
    pictures = cut_frames(source, place, kept, progress=progress)
    found = torch.zeros(len(track), dtype=torch.bool)
    found[kept] = True
    slots = {int(frame): i for i, frame in enumerate(kept)}
    return ActorClip(track.points, found, place.pose, place.transform, pictures, slots, fps)


def tune_appearance(
    model: AppearanceModel, view: ClipView, options: TuneOptions | None = None, progress: Progress = None
) -> Tuning:
    """Tune a copy of `model` on a clip (`ClipView(actor_clip(...))`, or a prepared one); returns what changed.

    Runs on the model's device, also inside `torch.inference_mode`. Raising from `progress` ends it.
    """
    options = options or TuneOptions()
    device = next(model.parameters()).device
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng([]):  # new layers draw numbers
        plain, tuned = _plain_copy(model), _plain_copy(model)
        freeze_encoders(tuned)
        trained = {name: tensor for name, tensor in tuned.named_parameters() if tensor.requires_grad}
        optimizer, ema = torch.optim.Adam(trained.values(), betas=(0.5, 0.99)), Ema(tuned, 0.98)
        for step in range(options.steps):
            rate = options.rate * min(1.0, len(view.frames) / ENOUGH) * min(1.0, (step + 1) / WARMUP)
            set_learning_rate(optimizer, rate * anneal(step / options.steps, 0.05))
            sample = draw_batch(view, model.params, options.batch, step_rng(options.seed, step)).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bfloat16(device)):
                picture, _ = tuned.generate(*sample.inputs)
                with torch.no_grad():
                    before, _ = plain.generate(*sample.inputs)
            where = painted_where(sample)
            pictures = (painted(made.float(), sample, where) for made in (picture, before))
            loss = tuning_loss(*pictures, sample)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
            optimizer.step()
            ema.update(tuned)
            if progress is not None:
                progress(step + 1, options.steps)
        state = {name: ema.average[name].detach().cpu() for name in trained}
    return Tuning(state, model.name, model.sha256, {"steps": str(options.steps), "seed": str(options.seed)})


def tune_on_clip(
    model: AppearanceModel,
    source: PickableSource,
    track: FaceTrack,
    options: TuneOptions | None = None,
    progress: Progress = None,
) -> Tuning:
    """Tune on the face of `track` in `source`; raises InputError when it is seen too shortly."""
    options = options or TuneOptions()
    clip = actor_clip(source, track, geometry(track), options.frames)
    return tune_appearance(model, ClipView(clip), options, progress)


def _plain_copy(model: AppearanceModel) -> AppearanceModel:
    """Plain tensors in single precision, whatever mode the model was loaded in."""
    copied = AppearanceModel(model.params)
    copied.load_state_dict({name: tensor.detach().clone().float() for name, tensor in model.state_dict().items()})
    return copied.to(next(model.parameters()).device, memory_format=torch.channels_last)


def draw_batch(view: ClipView, params: AppearanceParams, batch: int, rng: np.random.Generator) -> Sample:
    """Targets of one clip with references far enough from each, cut to where the mouth is."""
    raws: list[RawSample] = []
    for _ in range(batch):
        frame = int(rng.choice(view.frames))
        raws.append(draw_raw(view, frame, params, rng))
    sample = make_sample(params, raws, rng)
    height, width = sample.target.shape[-2:]
    return cut_sample(sample, (min(CUT[0], height), min(CUT[1], width)), rng)
