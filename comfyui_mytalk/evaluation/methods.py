"""What is compared: a method is a mouth movement and a way to paint it. Baselines know nothing of phonemes or paint
without a network; a new method is interesting only above them.

    f frames   h w picture   s crop side
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..appearance.bank import ReferenceBank
from ..appearance.occlusion import Occlusion
from ..appearance.params import AppearanceParams
from ..appearance.references import BANK, FIXED
from ..appearance.render import Inputs
from ..frames import TensorSource
from ..geometry import geometry
from ..landmarks.track import FaceTrack
from ..models import Models
from ..options import SyncOptions
from ..pipeline import render_clip, select_references
from ..speaking import Heard, speak_in_style
from ..sync import see_occlusions
from .baselines import energy_mouth, static_mouth
from .talks import CHUNK, RECONSTRUCTION, UNPAIRED, Case, Talk

logger = logging.getLogger(__name__)
OURS, ORIGINAL = "mytalk", "original"
SHIFT = 0.48  # seconds by which the source is shifted for the stability figure
APART = 0.24  # seconds between a held-out frame and its references, as in training (`appearance_data.GAP`)


class Method(NamedTuple):
    """`movement` and `painter`: keys of `Studio`; both empty for the untouched original."""

    movement: str
    painter: str


METHODS = {
    OURS: Method("speech", "network"),
    ORIGINAL: Method("", ""),
    "nearest frame": Method("speech", "copy"),
    "landmark warp": Method("speech", "warp"),
    "landmark regression": Method("speech", "regression"),
    "static mouth": Method("static", "warp"),
    "audio energy": Method("energy", "warp"),
}
SAID = {
    OURS: "this pack",
    ORIGINAL: "the source untouched",
    "nearest frame": "our movement; the clip's frame with the nearest mouth, pasted: no network paints",
    "landmark warp": "our movement; that frame warped onto the landmarks: no network paints",
    "landmark regression": "our movement; the clip's frames combined by regression on landmarks: no network paints",
    "static mouth": "a mouth held at the clip's mean; warped",
    "audio energy": "a mouth that opens with the loudness, given the clip's own range; warped",
}


def methods_of(protocol: str) -> list[str]:
    """Methods that say something in a protocol: reconstruction is given the movement, and unpaired there is no picture
    to compare another painter's with."""
    if protocol == RECONSTRUCTION:
        return [name for name, method in METHODS.items() if method.movement in ("speech", "")]
    if protocol == UNPAIRED:
        return [name for name, m in METHODS.items() if m.movement != "speech" or m.painter == "network"]
    return list(METHODS)


@dataclass(frozen=True)
class Rendered:
    """Frames `(f, h, w, 3)` uint8 and the mask `(f, 1, s, s)` within which they may differ from the source."""

    frames: Tensor
    mask: Tensor


class WithoutNetwork(nn.Module):
    """Stands where the appearance model stands and shows its first reference, warped onto the landmarks or not."""

    def __init__(self, warp: bool, regression: bool = False) -> None:
        super().__init__()
        self.params = AppearanceParams(
            references=1, aligned=warp, masked_references=False, relight=regression, regression=regression
        )
        self.register_parameter("nothing", nn.Parameter(torch.zeros(()), requires_grad=False))

    def forward(self, *inputs: Tensor) -> Tensor:
        return Inputs(*inputs).references[:, 0]


class Studio:
    """Makes the video of any method for a case.

    What lies in front of the face stays as filmed whoever paints, and is taken out of all references. Where the source
    is the right answer, what stays is right: kept for ours alone it would count as better painting.
    """

    def __init__(self, models: Models, options: SyncOptions) -> None:
        self.models, self.options = models, options
        self.painters = {
            "network": models.appearance,
            "copy": WithoutNetwork(warp=False),
            "warp": WithoutNetwork(warp=True),
            "regression": WithoutNetwork(warp=True, regression=True),
        }
        self._spoken: tuple[Case, FaceTrack] | None = None
        self._seen: tuple[Talk, Occlusion | None] | None = None

    def make(self, case: Case, method: str) -> Rendered:
        """The case's source as `method` would have it speak."""
        movement, painter = METHODS[method]
        if not painter:
            return Rendered(case.frames, geometry(case.talk.track).mask(AppearanceParams.size))
        fixed = self.options.references == "fixed" and painter == "network"
        return paint(self.painters[painter], case, self.move(case, movement), self.see(case), fixed)

    def see(self, case: Case) -> Occlusion | None:
        """What lies in front of the face, as `sync` finds it; looked for once where protocols share a talk."""
        if self._seen is None or self._seen[0] is not case.talk:
            self._seen = case.talk, see_occlusions(self.models, case.source, case.talk.track)
        return self._seen[1]

    def move(self, case: Case, movement: str) -> FaceTrack:
        """The landmarks of a method; those of our motion model are made once per case."""
        if movement == "static":
            return static_mouth(case.talk.track)
        if movement == "energy":
            return energy_mouth(case.talk.track, case.speech)
        if case.protocol == RECONSTRUCTION:
            return case.talk.track
        if self._spoken is None or self._spoken[0] is not case:
            self._spoken = case, self.speak(case)
        return self._spoken[1]

    def speak(self, case: Case) -> FaceTrack:
        """Our movement. The clip is its own style reference; where it is the right answer, each half is the other's."""
        track, points = case.talk.track, case.talk.track.points.clone()
        for part, allowed in folds(track, case.held_out):
            reference = Heard(allowed, case.talk.audio)
            spoken = speak_in_style(self.models, track, case.audio, self.options, reference=reference).track
            points[part] = spoken.points[part]
        return track.replace(points=points)

    def make_shifted(self, case: Case) -> Rendered:
        """Our method with the same speech over the source that starts `SHIFT` later; its start comes last."""
        times = case.talk.track.times
        turn = int((times - times[0] - SHIFT).abs().argmin())
        source = torch.arange(len(case.talk)).roll(-turn)
        track = case.talk.track[source].replace(times=times)
        shifted = Case(case.protocol, replace(case.talk, track=track), case.speaker, case.frames[source])
        reference, occlusion = Heard(case.talk.track, case.talk.audio), self.see(case)
        spoken = speak_in_style(self.models, track, case.audio, self.options, reference=reference).track
        occlusion = None if occlusion is None else occlusion[source]
        return paint(self.models.appearance, shifted, spoken, occlusion, self.options.references == "fixed")


def paint(
    model: nn.Module, case: Case, spoken: FaceTrack, occlusion: Occlusion | None = None, fixed: bool = False
) -> Rendered:
    """Paint the mouths of `spoken` onto the case's frames, behind the `occlusion` of the face in them.

    Where the source is the right answer, each half of a clip takes its references from the other half: in use no frame
    is given its own picture to copy. That holds for what fills covered chins too.
    """
    place = geometry(case.talk.track, spoken)
    frames, masks = [], []
    for part, allowed in folds(case.talk.track, case.held_out):
        bank = reference_bank(case, part, allowed, FIXED if fixed else 0, occlusion)
        source, covered = TensorSource(case.frames[part], case.talk.fps), None if occlusion is None else occlusion[part]
        for made, _, mask in render_clip(model, source, spoken[part], place[part], bank, CHUNK, occlusion=covered):
            frames.append(made)
            masks.append(mask)
    return Rendered(torch.cat(frames), torch.cat(masks))


def reference_bank(
    case: Case, part: slice, allowed: FaceTrack, fixed: int, occlusion: Occlusion | None = None
) -> ReferenceBank:
    """References of one part of a case: `fixed` of them, or a bank to retrieve from. All methods share it."""
    key = (part.start, part.stop, fixed)
    if key not in case.banks:
        place = geometry(case.talk.track)
        count = fixed or BANK
        case.banks[key] = select_references(case.source, allowed, place, count, bool(fixed), occlusion=occlusion)
    return case.banks[key]


def folds(track: FaceTrack, held_out: bool) -> list[tuple[slice, FaceTrack]]:
    """Parts of the clip, each with the track of the frames that it may take references from.

    `held_out`: each half from the other, at least `APART` away, since neighbours give the answer away.
    """
    whole = slice(0, len(track))
    if not held_out:
        return [(whole, track)]
    middle, times = len(track) // 2, track.times
    halves = slice(0, middle), slice(middle, len(track))
    apart = times <= times[middle] - APART + 1e-6, times >= times[middle - 1] + APART - 1e-6
    tracks = [track.replace(found=track.found & far, filled=None) for far in apart]
    if not all(half.found.any() for half in tracks):
        logger.warning("one half of a clip shows no face %s s from the other: all of it gives references", APART)
        return [(whole, track)]
    return list(zip(halves, reversed(tracks), strict=True))
