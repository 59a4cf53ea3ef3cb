"""All steps in order: what `sync` and the all-in-one node call. Each step is one function with one home.

    f frames   t motion frames at 25 fps   s speech frames at 50 Hz   k references   n speech samples

A picture source is anything that can be read twice in chunks (`FrameSource`): a video file or a tensor. Only
landmarks are held for the whole clip; pixels pass through in chunks, so memory does not grow with length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .appearance.bank import ReferenceBank, Schedule, joined
from .appearance.blend import match_colour, paste_into
from .appearance.covered import covered_pictures
from .appearance.fine import Fine, add_fine_detail, enlarge, fine_size
from .appearance.fixed import telling_pictures
from .appearance.mask import dilate
from .appearance.model import AppearanceModel
from .appearance.occlusion import Occlusion
from .appearance.params import AppearanceParams
from .appearance.references import BANK, canonical_opening, reference_bank, reference_features, sharpness
from .appearance.regression import PictureRegression
from .appearance.render import References, render_crops, window_mask
from .appearance.uncover import SPOILT, covers, filled_in, uncover
from .frames import FrameSource, PickableSource, cut_sizes, cut_source
from .geometry import Geometry
from .keep import covers_lips
from .landmarks.align import CROP_SIZE, resized, sample_affine
from .landmarks.canonical import to_canonical
from .landmarks.sets import AROUND
from .landmarks.track import FaceTrack
from .stages import Progress, in_turn

SAME_CLIP = 1.0  # pixel of a crop: crops are smoothed over time, otherwise where a clip ends
RIM = 3  # pixels of a crop around what lies in front of a face that are tinged by it
BANK_CANDIDATES = 2  # how many times more frames are looked at than kept, so that blurred ones can be dropped


def select_references(
    source: PickableSource,
    track: FaceTrack,
    place: Geometry,
    count: int,
    fixed: bool = False,
    progress: Progress = None,
    occlusion: Occlusion | None = None,
) -> ReferenceBank:
    """Cut `count` references from the clip: a bank of many mouths to retrieve from, or few `fixed` ones.

    Fixed references (Section 3.4.1) are those of a whole bank that tell most about its others. Twice as many frames
    are looked at as are kept, so that blurred ones can be dropped, and those in which something covers the face. Raises
    InputError when no frame is usable. Frames with an `occlusion` of the lips are left out unless that is all of them;
    others lose it. Of several people in a film with cuts, `count` are cut for each.
    """
    if track.people is not None and (people := list(track.each_person())):
        banks = []
        for turn, (person, _) in enumerate(people):
            part = in_turn(progress, turn, len(people))
            banks.append(select_references(source, person, place, count, fixed, part, occlusion))
        names = [int(track.people[own][0]) for _, own in people]
        return joined(banks, names, _first_face(place))
    allowed = track.usable
    if occlusion is not None and (bare := allowed & ~covers_lips(occlusion, place)).any():
        allowed = bare
    opening, points = canonical_opening(to_canonical(track.points, place.pose)), place.crop_points(track.points)
    features, even, spread = reference_features(points), torch.ones(len(opening)), BANK if fixed else count
    wanted = reference_bank(features, opening, even, allowed, BANK_CANDIDATES * spread)
    sizes = sorted({CROP_SIZE, fine_size(place.transform[track.usable])})
    crops, *full = cut_sizes(source, place, wanted, sizes, progress)
    if occlusion is not None:
        wanted, crops, full = _uncovered(wanted, crops, full, points[wanted], occlusion[wanted])
    covered = covered_pictures(crops, points[wanted], place.pose.rotation[wanted], track.times[wanted])
    sharp, usable = sharpness(crops), allowed[wanted] & ~covered
    keep = reference_bank(features[wanted], opening[wanted], sharp, usable, spread)
    if fixed:
        keep = keep[telling_pictures(PictureRegression.of(crops[keep], points[wanted[keep]]), count)]
    frames = wanted[keep]
    return ReferenceBank(crops[keep], points[frames], opening[frames], frames, *(larger[keep] for larger in full))


def _uncovered(
    frames: Tensor, crops: Tensor, full: list[Tensor], points: Tensor, occlusion: Occlusion
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Pictures of the `frames (m,)` without what was found in front of the face, one row of `occlusion` each.

    Those in which it stays, because none shows what is behind, are left out, unless that is all of them.
    """
    if (occlusion.rows < 0).all():
        return frames, crops, full
    shares = dilate(occlusion.shares(CROP_SIZE), RIM)
    filled, missing = uncover(crops, points, shares)
    full = [filled_in(larger, filled, shares) for larger in full]
    good = ~covers(missing, points, AROUND, SPOILT)
    good = good if good.any() else ~good
    return frames[good], filled[good], [larger[good] for larger in full]


def bare_face(face: Tensor, keep: Tensor, place: Geometry) -> Tensor:
    """The `face (b, 1, s, s)` of crops without what stays as filmed in the frames, `keep (b, h, w)`, 0..1."""
    size = face.shape[-1]
    covered = sample_affine(keep[:, None].float().cpu(), resized(place.transform, size), (size, size))
    return face * (1 - covered.clamp(0, 1))


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
    return track.people if (_first_face(place) - bank.first).abs().max() < SAME_CLIP else None


def _first_face(place: Geometry) -> Tensor:
    """The source's landmarks `(478, 2)` in the crop of the first frame."""
    return place[:1].crop_points(place.points[:1])[0]


class Painted(NamedTuple):
    """Generated crops `(b, 3, s, s)`, the source's own crops, in close-ups smaller ones, masks of what to paste
    `(b, 1, s, s)`, of the source's face, and of skin that both show; float 0..1, on the CPU. What `match_colour` takes.
    """

    crops: Tensor
    source: Tensor
    mask: Tensor
    face: Tensor
    skin: Tensor

    def behind(self, occlusion: Occlusion) -> Painted:
        """The same without what lies in front of the face, one row a crop."""
        mask, face, skin = (x * (1 - occlusion.shares(x.shape[-1])) for x in (self.mask, self.face, self.skin))
        return self._replace(mask=mask, face=face, skin=skin)

    def beside(self, keep: Tensor, place: Geometry) -> Painted:
        """The same with no skin where `keep (b, h, w)` lies over the frames, so that no colour is taken from it."""
        return self._replace(face=bare_face(self.face, keep, place), skin=bare_face(self.skin, keep, place))


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
    face, skin, light = place.face(size), place.skin(points, size), place.least_light(points, size)
    if fine is not None:
        window, full = model.params.window or (0, size, 0, size), fine.pictures.shape[-1]
        detailed = add_fine_detail(crops, inputs[1], Fine(*(x.to(device) for x in fine)), window)
        top, bottom, left, right = (edge * full // size for edge in window)
        crops, light, mask = enlarge(source, full), enlarge(light * source, full), enlarge(mask, full)
        crops[..., top:bottom, left:right] = detailed.cpu().clamp(0, 1)
        return Painted(torch.maximum(crops, light), source, mask, face, skin)
    return Painted(torch.maximum(crops.cpu(), light * source), source, mask, face, skin)


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
    occlusion: Occlusion | None = None,
) -> tuple[Tensor, Tensor]:
    """Frames `(b, h, w, 3)`, uint8 or float 0..1, with the mouth of `points (b, 478, 3)`, and masks of 256 crops.

    Frames that are not `usable (b,)` pass through bit for bit. `masks` and `keep (b, h, w)`: as in `lay_back`.
    `occlusion`: what was found in front of these faces; it stays, and takes no part in matching colours.
    """
    out, mask = frames.clone(), torch.zeros(len(frames), 1, model.params.size, model.params.size)
    index = usable.nonzero()[:, 0]
    if not len(index):
        return out, mask
    place, chosen = place[index], References(*(tensor[index] for tensor in references))
    fine = None if fine is None else Fine(*(tensor[index] for tensor in fine))
    painted = paint_crops(model, frames, place, points[index], chosen, index=index, fine=fine)
    if occlusion is not None:
        painted = painted.behind(occlusion[index])
    if keep is not None:
        painted = painted.beside(keep[index], place)
    mask[index] = F.max_pool2d(painted.mask, painted.mask.shape[-1] // model.params.size)
    lay_back(out, index, match_colour(*painted), painted.mask, place, masks, keep)
    return out, mask


class ClipRenderer:
    """Renders any stretch of a clip; what is shown to the network is chosen on the whole clip beforehand.

    `spoken` are the new mouths, `place` where they go; `occlusion` is what was found in front of the face.
    """

    def __init__(
        self,
        model: AppearanceModel,
        spoken: FaceTrack,
        place: Geometry,
        bank: ReferenceBank,
        occlusion: Occlusion | None = None,
    ) -> None:
        self.model, self.spoken, self.place, self.bank, self.occlusion = model, spoken, place, bank, occlusion
        self.schedule = reference_schedule(bank, spoken, place, model.params)

    def __call__(
        self, frames: Tensor, part: slice, masks: Tensor | None = None, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`render_frames` of the `frames (b, h, w, 3)` that are `part` of the clip; `masks` and `keep` are theirs."""
        shown = self.schedule[part]
        return render_frames(
            self.model,
            frames,
            self.place[part],
            self.spoken.points[part],
            self.bank.gather(shown),
            self.spoken.usable[part],
            masks=masks,
            fine=self.bank.fine(shown),
            keep=keep,
            occlusion=None if self.occlusion is None else self.occlusion[part],
        )


def render_clip(
    model: AppearanceModel,
    source: FrameSource,
    spoken: FaceTrack,
    place: Geometry,
    bank: ReferenceBank,
    chunk: int = 8,
    progress: Progress = None,
    keep: Iterator[Tensor] | None = None,
    occlusion: Occlusion | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Stream a clip: yields `(frames (b, h, w, 3), times (b,), crop masks (b, 1, s, s))`, one chunk at a time.

    `keep` gives what stays as it is `(b, h, w)`, 0..1, in the same chunks; `occlusion` is the whole clip's.
    """
    renderer, done = ClipRenderer(model, spoken, place, bank, occlusion), 0
    for frames, times in source.chunks(chunk):
        part = slice(done, done + len(frames))
        out, mask = renderer(frames, part, keep=None if keep is None else next(keep))
        yield out, times, mask
        done = part.stop
        if progress is not None:
            progress(done, len(spoken))
