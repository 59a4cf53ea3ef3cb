"""Train the identity extractor (MyTalk, section 3.3.2) on prepared clips: ArcFace over the training identities.

    b batch   n frames   d embedding width

Every frame's pose-free landmarks go in by themselves. Augmentation: a small similarity (pose is never estimated
exactly), landmark noise, and mirroring.
"""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import save_checkpoint
from ..commands.arguments import positive, weight, whole_number
from ..devices import pick_device
from ..errors import InputError
from ..landmarks.sets import POINTS, mirror_index
from ..motion.identity import ArcFace, IdentityExtractor, identity_config
from ..motion.params import IDENTITY_PRESETS
from .clips import PreparedClip, read_clips
from .loop import Ema, add_run_arguments, descend, saved, seed_everything, step_rng, trainer
from .processes import is_first, own_seed
from .run import Run
from .schedule import set_learning_rate

logger = logging.getLogger(__name__)
APART = 2.0  # seconds between two frames of one clip that count as a pair
MOST_FRAMES = 500_000  # that are held, of more hours fewer of each clip: 2.9 GB
COMPARED = 4_000  # frames in a verification, which compares each with each: 0.6 GB


@dataclass(frozen=True)
class FaceSet:
    """Frames of many clips: landmarks `(n, 478, 3)` in canonical centimetres, and what each frame belongs to."""

    landmarks: Tensor
    identity: Tensor  # (n,)
    clip: Tensor  # (n,)
    times: Tensor  # (n,) seconds


def add_arguments(parser: ArgumentParser) -> None:
    """Options of `train identity`."""
    add_run_arguments(parser, "runs/identity", 600)
    parser.add_argument("--data", required=True, help="folder of prepared clips")
    add = parser.add_argument
    add("--preset", choices=sorted(IDENTITY_PRESETS), default="small", help="size of the network (default %(default)s)")
    add("--batch", type=whole_number(2), default=256, help="frames in a batch (default %(default)s)")
    add("--rate", type=positive, default=1e-3, help="peak learning rate (default %(default)s)")
    add("--scale", type=weight, default=64.0, help="ArcFace scale (default %(default)s)")
    add("--margin", type=weight, default=0.5, help="ArcFace margin, radians (default %(default)s)")
    add("--noise", type=weight, default=0.05, help="landmark noise, cm (default %(default)s)")
    add(
        "--validate-every",
        type=whole_number(1),
        default=200,
        help="steps from one validation to the next (default %(default)s)",
    )


def gather(clips: list[PreparedClip], every: int = 1) -> FaceSet:
    """All usable frames of `clips` (each `every`-th); where they are more than `MOST_FRAMES`, long clips give fewer."""
    frames = [clip.found.nonzero()[::every, 0] for clip in clips]
    if sum(map(len, frames)) > MOST_FRAMES:
        share = max(1, MOST_FRAMES // len(clips))
        frames = [own[:: max(1, -(-len(own) // share))] for own in frames]
    lengths = list(map(len, frames))
    landmarks = torch.empty(sum(lengths), POINTS, 3)
    for part, clip, own in zip(landmarks.split(lengths), clips, frames, strict=True):
        part.copy_(clip.canonical[own])
        clip.forget()
    names = {name: index for index, name in enumerate(sorted({clip.identity for clip in clips}))}
    repeats = torch.tensor(lengths)
    identity = torch.tensor([names[clip.identity] for clip in clips]).repeat_interleave(repeats)
    times = torch.cat([clip.times[own] for clip, own in zip(clips, frames, strict=True)])
    return FaceSet(landmarks, identity, torch.arange(len(clips)).repeat_interleave(repeats), times)


def frames_by_clip(faces: FaceSet) -> list[list[np.ndarray]]:
    """For every identity, for each of its clips, the frame indices: batches are drawn in that order."""
    tree: dict[int, list[np.ndarray]] = defaultdict(list)
    who, clip = faces.identity.numpy(), faces.clip.numpy()
    order = np.lexsort((clip, who))
    starts = ((np.diff(who[order]) != 0) | (np.diff(clip[order]) != 0)).nonzero()[0] + 1
    for frames in np.split(order, starts):
        tree[int(who[frames[0]])].append(frames)
    return list(tree.values())


def augment(landmarks: Tensor, noise: float, rng: np.random.Generator) -> Tensor:
    """Small similarity, landmark noise and mirroring of `landmarks (b, 478, 3)`, each frame by itself."""
    count = len(landmarks)
    draw = torch.from_numpy(rng.standard_normal((count, 7))).float()
    mirrored = landmarks[:, mirror_index()] * landmarks.new_tensor([-1, 1, 1])
    landmarks = torch.where(torch.from_numpy(rng.random(count) < 0.5)[:, None, None], mirrored, landmarks)
    cross = torch.zeros(count, 3, 3)
    x, y, z = (0.02 * draw[:, :3]).unbind(-1)  # radians: what Procrustes leaves
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -z, y, -x
    turn = torch.linalg.matrix_exp(cross - cross.mT)
    landmarks = landmarks @ turn.mT * (1 + 0.02 * draw[:, 3, None, None]) + 0.05 * draw[:, None, 4:]
    return landmarks + noise * torch.from_numpy(rng.standard_normal(landmarks.shape)).float()


def area_under_curve(same: Tensor, different: Tensor) -> float:
    """Chance that a same pair scores above a different pair."""
    ranks = torch.cat([same, different]).argsort().argsort().double() + 1
    return ((ranks[: len(same)].sum() - len(same) * (len(same) + 1) / 2) / (len(same) * len(different))).item()


def verification(embedding: Tensor, faces: FaceSet) -> dict[str, float]:
    """Verification AUC of embeddings `(n, d)` for two kinds of same pairs, against all pairs of different people.

    auc_apart: frames of one clip, at least two seconds apart. auc_clips: frames of different clips of one person.
    Nothing where all frames are of one person.
    """
    score = embedding @ embedding.T
    same = faces.identity[:, None] == faces.identity
    one_clip = faces.clip[:, None] == faces.clip
    apart = one_clip & ((faces.times[:, None] - faces.times).abs() >= APART)
    kinds = {"auc_apart": apart, "auc_clips": same & ~one_clip}
    known = {name: pairs for name, pairs in kinds.items() if pairs.any() and not same.all()}
    return {name: area_under_curve(score[pairs], score[~same]) for name, pairs in known.items()}


def check_people(train: FaceSet, val: FaceSet, folder: str) -> None:
    """Raise InputError when there is one person to train on: with nobody else the loss is 0 and nothing is learnt.

    Warns when there is one to validate on, of whom no figure can tell anything.
    """
    if len(train.identity.unique()) < 2:
        raise InputError(
            f"all train clips in {folder} are of one person, expected at least two, whom to tell apart: prepare videos "
            "of somebody else too, or use the identity extractor that ships"
        )
    if len(val.identity.unique()) < 2:
        logger.warning("all val clips in %s are of one person: there will be no figures, which compare people", folder)


def compared(faces: FaceSet) -> FaceSet:
    """The frames that a verification is of: all, or `COMPARED` of them at random, always the same ones."""
    if len(faces.clip) <= COMPARED:
        return faces
    rows = torch.from_numpy(np.sort(np.random.default_rng(0).permutation(len(faces.clip))[:COMPARED]))
    return FaceSet(*(getattr(faces, f.name)[rows] for f in fields(faces)))


@torch.inference_mode()
def validate(extractor: IdentityExtractor, faces: FaceSet) -> dict[str, float]:
    """`verification` of what the extractor says of validation frames."""
    extractor.eval()
    faces = compared(faces)
    return verification(extractor(faces.landmarks.to(extractor.mean)).cpu(), faces)


@trainer(lambda args: f"identity_{args.preset}")
def main(args: Namespace) -> str:
    """Train, validate, save; says what was written."""
    device = pick_device(args.device)
    seed_everything(args.seed)
    train = gather(read_clips(args.data, "train"))
    val = gather(read_clips(args.data, "val"), every=10)
    check_people(train, val, args.data)
    extractor = IdentityExtractor(IDENTITY_PRESETS[args.preset])
    landmarks = train.landmarks[..., : extractor.params.coordinates]
    extractor.mean.copy_(landmarks.mean(0))
    extractor.std.copy_((landmarks - extractor.mean).std())
    tree = frames_by_clip(train)
    head = ArcFace(extractor.params.dim, len(tree), args.scale, args.margin).to(device)
    extractor, averaged = extractor.to(device), IdentityExtractor(extractor.params).to(device)
    optimizer = torch.optim.AdamW([*extractor.parameters(), *head.parameters()], weight_decay=0.01)
    run, ema = Run.of(args), Ema(extractor, 0.998)
    start = run.resume(extractor, optimizer, ema, head=head)
    for step in run.steps(start, args.steps):
        rng = step_rng(own_seed(args.seed), step)
        who = rng.integers(len(tree), size=args.batch)
        frames = [rng.choice(tree[i][rng.integers(len(tree[i]))]) for i in who]
        set_learning_rate(optimizer, args.rate * run.rate(step, args.steps, 200, 0.01))
        embedding = extractor.train()(augment(train.landmarks[frames], args.noise, rng).to(device))
        loss = head(embedding, torch.from_numpy(who).to(device))
        descend(loss, optimizer)
        ema.update(extractor)
        if is_first() and (step + 1) % args.validate_every == 0:
            run.save(step + 1)
            ema.copy_to(averaged)
            run.log(step, loss=loss, **export(averaged, val, args))
    ema.copy_to(averaged)
    return saved(args, export(averaged, val, args) if is_first() else None)


def export(averaged: IdentityExtractor, val: FaceSet, args: Namespace) -> dict[str, float]:
    """Write the weights with their figures on validation identities, and return these."""
    results = {name: round(value, 3) for name, value in validate(averaged, val).items()}
    info = {name: f"{value:.3f}" for name, value in results.items()}
    save_checkpoint(args.save, averaged.state_dict(), "identity", identity_config(averaged), info)
    return results
