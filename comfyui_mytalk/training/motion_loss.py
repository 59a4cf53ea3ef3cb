"""What the motion model is trained on (MyTalk, section 3.3.4).

    b batch   t motion frames   c generated channels   r resting frames

Mean square error of x0 in landmark space with more weight on the lips, of its velocity, and the identity loss of
equation 4, gated to steps at which the noisy sample still shows a face.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..evaluation.metrics import CLOSED
from ..landmarks.canonical import mouth_opening
from ..landmarks.sets import landmark_set
from ..motion.diffusion import add_noise, cosine_alphas
from ..motion.identity import IdentityExtractor
from ..motion.model import MotionModel
from .motion_data import Batch
from .motion_fit import point_weights

MIDDLE = ((82, 87), (13, 14), (312, 317))  # points of the inner lips above each other
OPENING_VARIANCE = 0.2  # cm^2, of the opening of a mouth that talks
IDENTITY_FROM = 0.1  # signal share above which the identity loss counts


class MotionLoss:
    """The training objective, with everything about it that is random drawn from torch's own generator."""

    def __init__(
        self, model: MotionModel, extractor: IdentityExtractor, args: Namespace, person: torch.nn.Module | None = None
    ) -> None:
        self.model, self.extractor, self.args = model, extractor.requires_grad_(False), args
        self.person = person or extractor  # what the denoiser is told about the person
        self.device = model.lower_mean.device
        self.alphas, weight = cosine_alphas().to(self.device), point_weights().to(self.device)
        self.weight = weight / (model.from_channels.square() @ weight).sum()

    def __call__(self, batch: Batch, reference: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """All losses of a batch; `reference` says what a style reference shows at encoded speech (`train style`)."""
        args, model = self.args, self.model
        lower, upper = landmark_set("generated"), landmark_set("prefix")
        rest = batch.rest + args.noise * torch.randn_like(batch.rest)
        origin = batch.rest[:, :, lower].mean(1)
        clean = model.encode(batch.landmarks[:, :, lower], origin)
        share = torch.rand(len(clean), device=self.device).pow(args.noise_bias)  # may round to 1
        step = (len(self.alphas) * share).long().clamp(max=len(self.alphas) - 1)
        alpha = self.alphas[step][:, None, None]
        noisy = add_noise(clean, torch.randn_like(clean), alpha)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=args.precision == "bfloat16"):
            heard = batch.features + args.feature_noise * torch.randn_like(batch.features)
            speech = model.speech_encoder(heard)
            spoken = torch.rand(len(clean), 1, 1, device=self.device) >= args.speech_dropout
            speech, style = speech * spoken, None if reference is None else reference(speech) * spoken
            given = self.upper_condition(batch.landmarks[:, :, upper], batch.upper_mean)
            found = model.denoiser(noisy, given, step, speech, self.person(rest), style)
        found = found.float()
        losses = {"x0": self.square(found - clean), "velocity": self.square((found - clean).diff(dim=1))}
        losses["identity"] = self.identity_loss(found, batch, origin, alpha)
        losses["closed"] = self.closure_loss(found - clean, batch)
        losses["loss"] = losses["x0"] + args.velocity_weight * losses["velocity"]
        losses["loss"] += args.identity_weight * losses["identity"] + args.closure_weight * losses["closed"]
        return losses

    def square(self, error: Tensor) -> Tensor:
        """Weighted mean square of `error (b, t, c)` in landmark space, 1 for the data's own variance."""
        return ((error @ self.model.from_channels).square() * self.weight).sum(-1).mean()

    def closure_loss(self, error: Tensor, batch: Batch) -> Tensor:
        """Mean square error of the lips' distance where they are closed, 1 for the variance of openings.

        What errs least where a closure may come a frame early or late is a mouth half open: no *m* is seen in it.
        """
        if self.args.closure_weight == 0:
            return error.new_zeros(())
        shape = (error @ self.model.from_channels).unflatten(2, (-1, 2))
        rows = [torch.isin(landmark_set("generated"), torch.tensor(points)) for points in zip(*MIDDLE, strict=True)]
        upper, lower = (row.to(error.device) for row in rows)
        apart = (shape[:, :, upper] - shape[:, :, lower]).mean(2).square().sum(-1)
        closed = mouth_opening(batch.landmarks) < CLOSED
        return (apart * closed).sum() / closed.sum().clamp_min(1) / OPENING_VARIANCE

    def upper_condition(self, upper: Tensor, mean: Tensor) -> Tensor:
        """Upper faces `(b, t, 103, 2)` as the denoiser sees them, some from another take.

        In use the upper face belongs to other words: a model that trusted it would repeat the old mouth.
        """
        given = self.model.encode_upper(upper + self.args.noise * torch.randn_like(upper), mean)
        foreign = torch.rand(len(given), 1, 1, device=self.device) < self.args.upper_dropout
        return torch.where(foreign, given.roll(1, 0), given)

    def identity_loss(self, found: Tensor, batch: Batch, reference: Tensor, alpha: Tensor) -> Tensor:
        """1 - cosine between the embeddings of the generated and of the resting faces."""
        if self.args.identity_weight == 0:
            return found.new_zeros(())
        frames = torch.arange(0, found.shape[1], 8)
        faces = batch.landmarks[:, frames].clone()
        faces[:, :, landmark_set("generated")] = self.model.decode(found[:, frames], reference)
        target = F.normalize(self.extractor(batch.rest).mean(1, keepdim=True), dim=-1)
        distance = 1 - (self.extractor(faces) * target).sum(-1, keepdim=True)
        return (distance * (alpha > IDENTITY_FROM)).mean()
