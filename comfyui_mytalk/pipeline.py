"""All steps in order: what `sync` and the all-in-one node call. Each step is one function with one home.

    f frames   t motion frames at 25 fps   s speech frames at 50 Hz   k references   n speech samples

A picture source is anything that can be read twice in chunks (`FrameSource`): a video file or a tensor. Only
landmarks are held for the whole clip; pixels pass through in chunks, so memory does not grow with length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .appearance.bank import ReferenceBank, Schedule, joined
from .appearance.blend import match_colour, paste_into
from .appearance.covered import covered_pictures
from .appearance.fine import Fine, add_fine_detail, enlarge, fine_size
from .appearance.light import face_oval
from .appearance.mask import (
    MaskExtent,
    face_region,
    lip_mask,
    mask_extent,
    neck_light,
    nose_region,
    room_for_cheeks,
)
from .appearance.model import AppearanceModel
from .appearance.params import AppearanceParams
from .appearance.references import (
    choose_references,
    mouth_shape,
    reference_bank,
    reference_features,
    sharpness,
)
from .appearance.render import References, render_crops, window_mask
from .landmarks.align import CROP_SIZE, apply_transform, crop_window, cut_crops, invert, resized
from .landmarks.canonical import Pose, to_canonical
from .landmarks.track import FaceTrack

Progress = Callable[[int, int], None] | None
SAME_CLIP = 1.0  # pixel of a crop: crops are smoothed over time, otherwise where a clip ends
BANK_CANDIDATES = 2  # how many times more frames are looked at than kept, so that blurred ones can be dropped


class FrameSource(Protocol):
    """Frames in order, as often as asked for."""

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `(frames (f, h, w, 3) uint8, times (f,) seconds)` with at most `size` frames each."""
        ...


class TensorSource:
    """Frames that are already in memory, `(f, h, w, c)` float 0..1 (the host's IMAGE) or uint8, at a constant rate."""

    def __init__(self, frames: Tensor, fps: float) -> None:
        self.frames, self.fps = frames, fps

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.frames), size):
            frames = self.frames[start : start + size, :, :, :3].cpu()
            if frames.is_floating_point():
                frames = torch.stack([frame.float().clamp(0, 1).mul_(255).round_().byte() for frame in frames])
            yield frames, (torch.arange(len(frames), dtype=torch.float64) + start) / self.fps


@dataclass(frozen=True)
class Geometry:
    """Where the lower face is in each frame: fixed by the source's upper face, independent of any mouth.

    Only what is pasted depends on jaws as well: `pasted`.
    """

    pose: Pose
    transform: Tensor  # (f, 2, 3) crop pixels -> frame pixels
    extent: MaskExtent
    points: Tensor  # (f, 478, 3) the source's landmarks, frame pixels

    def __getitem__(self, frames: slice | Tensor) -> Geometry:
        return Geometry(self.pose[frames], self.transform[frames], self.extent, self.points[frames])

    def crop_points(self, points: Tensor) -> Tensor:
        """Frame landmarks `(f, 478, 3)` -> crop pixels `(f, 478, 2)`."""
        return apply_transform(invert(self.transform), points[..., :2])

    def mask(self, size: int) -> Tensor:
        """The lip mask `(f, 1, size, size)`: no pixel outside it is ever changed."""
        return lip_mask(self.pose, self.transform, self.extent, size)

    def hole(self, size: int) -> Tensor:
        """What the network paints `(f, 1, size, size)`."""
        return lip_mask(self.pose, self.transform, self.extent.hole, size)

    def pasted(self, points: Tensor, size: int) -> Tensor:
        """What is pasted `(f, 1, size, size)` of a picture with the landmarks `points (f, 478, 3)`."""
        source = self.crop_points(self.points)
        jaws = face_region(source, self.crop_points(points), size)
        return torch.minimum(self.mask(size), jaws) * (1 - nose_region(source, size))

    def face(self, size: int) -> Tensor:
        """The source's face without hair and neck `(f, 1, size, size)`."""
        return face_oval(self.crop_points(self.points), size)

    def least_light(self, points: Tensor, size: int) -> Tensor:
        """Share of the source's light `(f, 1, size, size)` that a picture with the landmarks `points` keeps."""
        return neck_light(self.crop_points(self.points), self.crop_points(points), size)


def geometry(source: FaceTrack, *generated: FaceTrack) -> Geometry:
    """Pose, crops and mask of a clip. The mask makes room for mouths and cheeks of `generated` tracks too."""
    pose = source.pose
    old, *new = (to_canonical(track.points, pose)[source.usable] for track in (source, *generated))
    extent = mask_extent(torch.cat([old, *new]))
    for shapes in new:
        extent = room_for_cheeks(extent, old, shapes)
    return Geometry(pose, source.transform, extent, source.points)


def select_references(
    source: FrameSource,
    track: FaceTrack,
    place: Geometry,
    count: int,
    fixed: bool = False,
    progress: Progress = None,
    hidden: Tensor | None = None,
) -> ReferenceBank:
    """Cut `count` references from the clip: a bank of many mouths to retrieve from, or few `fixed` ones.

    Fixed references run from the closed to the widest mouth (Section 3.4.1). Twice as many frames are looked at as
    are kept, so that blurred ones can be dropped, and those in which something covers the face. Raises InputError when
    no frame is usable. Frames whose mouth something `hidden (f,)` are left out, unless that is all of them. Of several
    people in a film with cuts, `count` are cut for each.
    """
    if track.people is not None and (people := list(track.each_person())):
        banks = [select_references(source, one, place, count, fixed, progress, hidden) for one, _ in people]
        names = [int(track.people[own][0]) for _, own in people]
        return joined(banks, names)
    allowed = track.usable if hidden is None or not (track.usable & ~hidden).any() else track.usable & ~hidden
    shape, yaw = mouth_shape(to_canonical(track.points, place.pose)), place.pose.yaw
    points, even = place.crop_points(track.points), torch.ones(len(shape))
    features = reference_features(points)
    looked = BANK_CANDIDATES * count
    wanted = reference_bank(features, shape[:, 0], even, allowed, looked)
    if fixed:
        wanted = choose_references(shape, even, allowed, looked, yaw).unique()
    sizes = sorted({CROP_SIZE, fine_size(place.transform[track.usable])})
    crops, *full = cut_sizes(source, place, wanted, sizes, progress)
    covered = covered_pictures(crops, points[wanted], place.pose.rotation[wanted], track.times[wanted])
    sharp, usable = sharpness(crops), allowed[wanted] & ~covered
    if fixed:
        keep = choose_references(shape[wanted], sharp, usable, count, yaw[wanted])
    else:
        keep = reference_bank(features[wanted], shape[wanted, 0], sharp, usable, count)
    frames = wanted[keep]
    return ReferenceBank(crops[keep], points[frames], shape[frames], frames, *(larger[keep] for larger in full))


def cut_frames(
    source: FrameSource, place: Geometry, frames: Tensor, size: int = CROP_SIZE, progress: Progress = None
) -> Tensor:
    """Aligned crops `(m, 3, size, size)` uint8 of the frames with the given indices, in their order."""
    return cut_sizes(source, place, frames, [size], progress)[0]


def cut_sizes(
    source: FrameSource, place: Geometry, frames: Tensor, sizes: Sequence[int], progress: Progress = None
) -> list[Tensor]:
    """As `cut_frames`, the same crops in several sizes: the clip is read once."""
    crops = [torch.zeros(len(frames), 3, size, size, dtype=torch.uint8) for size in sizes]
    for pixels, index, at, done in pick_frames(source, frames.unique()):
        if len(at):
            found = torch.searchsorted(at, frames).clamp(max=len(at) - 1)
            here = at[found] == frames
            for made in crops:
                cut = cut_source(pixels, place[at], made.shape[-1], index).mul(255).round().byte()
                made[here] = cut[found[here]]
        if progress is not None:
            progress(done, len(place.pose))
    return crops


def pick_frames(source: FrameSource, wanted: Tensor, chunk: int = 16) -> Iterator[tuple[Tensor, Tensor, Tensor, int]]:
    """The frames `wanted (m,)`, sorted, in chunks: `(pixels, index into them, their numbers, how far is read)`."""
    if isinstance(source, TensorSource):
        for at in wanted.split(chunk):
            yield source.frames, at, at, int(at[-1]) + 1
        return
    start = 0
    for pixels, _ in source.chunks(chunk):
        at = wanted[(wanted >= start) & (wanted < start + len(pixels))]
        yield pixels, at - start, at, start + len(pixels)
        start += len(pixels)


def picked(frames: Tensor, index: Tensor) -> Tensor:
    """`frames[index]` for a rising, not empty `index (b,)`; no copy where the frames follow each other."""
    first, last = int(index[0]), int(index[-1])
    return frames[first : last + 1] if last - first + 1 == len(index) else frames[index.to(frames.device)]


def cut_source(frames: Tensor, place: Geometry, size: int = CROP_SIZE, index: Tensor | None = None) -> Tensor:
    """Aligned crops `(b, 3, size, size)` float 0..1 of frames `(b, h, w, c)`, float or uint8; of `frames[index]`."""
    rows, columns, transform = crop_window(resized(place.transform, size), frames.shape[1:3], size)
    window = frames[:, rows, columns]  # first: picking from whole frames would copy all of them
    return cut_crops(pictures(window if index is None else picked(window, index)), transform, size)


def pictures(frames: Tensor) -> Tensor:
    """Frames `(f, h, w, c)` of any type -> `(f, 3, h, w)` float32 0..1, on the CPU."""
    picture = frames[..., :3].permute(0, 3, 1, 2).cpu()
    return picture.float() if picture.is_floating_point() else picture.float() / 255


def lay_back(
    frames: Tensor,
    index: Tensor,
    crops: Tensor,
    mask: Tensor,
    place: Geometry,
    masks: Tensor | None = None,
    keep: Tensor | None = None,
) -> None:
    """Paste `crops (b, 3, s, s)` into `frames[index]` of `frames (f, h, w, c)`, which is changed.

    The same rows of `masks (f, h, w)`, where given, get the mask in the frame; 0 must be there. `keep (f, h, w)`:
    what stays as it is, 0..1.
    """
    into = None if masks is None else masks[:, None]
    transform = resized(place.transform, crops.shape[-1])
    paste_into(frames[..., :3].permute(0, 3, 1, 2), index, crops, mask, transform, into, keep)


def reference_schedule(bank: ReferenceBank, track: FaceTrack, place: Geometry, p: AppearanceParams) -> Schedule:
    """Which references of the bank the network of `p` is shown for each frame of `track`.

    Chosen on the whole clip's landmarks, so the result does not depend on how frames are chunked.
    """
    return bank.schedule(place.crop_points(track.points), p, _people(bank, track, place))


def _people(bank: ReferenceBank, track: FaceTrack, place: Geometry) -> Tensor | None:
    """Whom each frame `(f,)` shows, where the bank is of several people and of this very clip, trimmed perhaps."""
    if bank.people is None or track.people is None:
        return None
    here = bank.frames < len(track)
    own = place[bank.frames[here]].crop_points(place.points[bank.frames[here]])
    same = here.any() and (own - bank.points[here]).abs().max() < SAME_CLIP
    return track.people if same else None


class Painted(NamedTuple):
    """Generated crops `(b, 3, s, s)`, the source's own crops, in close-ups smaller ones, masks of what to paste
    `(b, 1, s, s)`, and of the source's face; float 0..1, on the CPU. What `match_colour` takes."""

    crops: Tensor
    source: Tensor
    mask: Tensor
    face: Tensor


def paint_crops(
    model: AppearanceModel,
    frames: Tensor,
    place: Geometry,
    points: Tensor,
    references: References,
    drawing: Tensor | None = None,
    index: Tensor | None = None,
    fine: Fine | None = None,
) -> Painted:
    """One batch: frames `(b, h, w, c)`, uint8 or float 0..1 -> crops with the mouths of landmarks `points (b, 478, 3)`.

    `drawing (b, 3, s, s)` replaces the landmark image that `points` would give; `index (b,)` says which of `frames`
    these are. With the `fine` detail of a close-up, crops are as large as its pictures. Runs on the model's device.
    """
    size, device = model.params.size, next(model.parameters()).device
    source = cut_source(frames, place, size, index)
    hole, mask = (window_mask(model.params, part) for part in (place.hole(size), place.pasted(points, size)))
    references = References(*(tensor.to(device) for tensor in references))
    drawing = None if drawing is None else drawing.to(device)
    inputs = (source.to(device), place.crop_points(points).to(device), hole.to(device))
    crops = render_crops(model, *inputs, references, drawing)
    face, light = place.face(size), place.least_light(points, size)
    if fine is not None:
        window, full = model.params.window or (0, size, 0, size), fine.pictures.shape[-1]
        detailed = add_fine_detail(crops, inputs[1], Fine(*(x.to(device) for x in fine)), window)
        top, bottom, left, right = (edge * full // size for edge in window)
        crops, light, mask = enlarge(source, full), enlarge(light * source, full), enlarge(mask, full)
        crops[..., top:bottom, left:right] = detailed.cpu().clamp(0, 1)
        return Painted(torch.maximum(crops, light), source, mask, face)
    return Painted(torch.maximum(crops.cpu(), light * source), source, mask, face)


def render_frames(
    model: AppearanceModel,
    frames: Tensor,
    place: Geometry,
    points: Tensor,
    references: References,
    usable: Tensor,
    masks: Tensor | None = None,
    fine: Fine | None = None,
    keep: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Frames `(b, h, w, 3)`, uint8 or float 0..1, with the mouth of `points (b, 478, 3)`, and masks of 256 crops.

    Frames that are not `usable (b,)` pass through bit for bit. `masks` and `keep (b, h, w)`: as in `lay_back`.
    """
    out, mask = frames.clone(), torch.zeros(len(frames), 1, model.params.size, model.params.size)
    index = usable.nonzero()[:, 0]
    if not len(index):
        return out, mask
    place, chosen = place[index], References(*(tensor[index] for tensor in references))
    fine = None if fine is None else Fine(*(tensor[index] for tensor in fine))
    painted = paint_crops(model, frames, place, points[index], chosen, index=index, fine=fine)
    mask[index] = F.max_pool2d(painted.mask, painted.mask.shape[-1] // model.params.size)
    lay_back(out, index, match_colour(*painted), painted.mask, place, masks, keep)
    return out, mask


def render_clip(
    model: AppearanceModel,
    source: FrameSource,
    spoken: FaceTrack,
    place: Geometry,
    bank: ReferenceBank,
    chunk: int = 8,
    progress: Progress = None,
    keep: Iterator[Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Stream a clip: yields `(frames (b, h, w, 3), times (b,), crop masks (b, 1, s, s))`, one chunk at a time.

    `keep` gives what stays as it is `(b, h, w)`, 0..1, in the same chunks.
    """
    schedule = reference_schedule(bank, spoken, place, model.params)
    start = 0
    for frames, times in source.chunks(chunk):
        part = slice(start, start + len(frames))
        told = (place[part], spoken.points[part], bank.gather(schedule[part]), spoken.usable[part])
        stays = None if keep is None else next(keep)
        out, mask = render_frames(model, frames, *told, fine=bank.fine(schedule[part]), keep=stays)
        yield out, times, mask
        start += len(frames)
        if progress is not None:
            progress(start, len(spoken))
