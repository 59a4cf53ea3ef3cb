"""Changing a generated mouth without generating it again: how far it moves, how smoothly, and where it rests.

    f frames   s speech samples at 16 kHz

Tracks keep head pose, upper face, all depths and unusable frames. Lower faces are the 180 generated points with
the pose taken out, canonical centimetres `(f, 180, 3)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..landmarks.align import gaussian_smooth
from ..landmarks.canonical import INNER_LIPS, from_canonical, mouth_opening, to_canonical
from ..landmarks.sets import landmark_set
from ..speech.audio import SPEECH_RATE
from ..speech.features import normalise_loudness
from .identity import TOKENS, resting_frames
from .turning import turn_effect

if TYPE_CHECKING:
    from ..landmarks.track import FaceTrack

INNER_LIP_PAIRS = (  # points of the inner lips that lie above each other, from one corner to the other
    (191, 95), (80, 88), (81, 178), (82, 87), (13, 14), (312, 317), (311, 402), (310, 318), (415, 324),
)  # fmt: skip
ENVELOPE_WINDOW = 0.08  # seconds of speech that one loudness hears
GATE_RATE = 100  # Hz at which silence is looked for
SILENCE = 20.0  # dB below the voice: measured to still pauses without touching words
GATE_KNEE = 6.0  # dB around the threshold in which the mouth goes from rest to speech
GATE_HOLD = 0.12  # seconds: lips part before the sound begins, and close after it ends
TALKING = 0.08  # deviation of the opening, centimetres, of a mouth that says something
SILENT, TALKATIVE = 0.1, 0.25  # the same of a clip in which nobody talks, and of one that shows how somebody talks
USUAL_SPREAD = 0.4  # the same of most people (median of our clips 0.45, quartiles 0.38 and 0.54)
USUAL_OPENING, WIDE_OPENING = 1.4, 2.2  # centimetres that most mouths open often, and hardly ever (their widest: 1.6)
GAP_TOLERANCE = 0.03  # centimetres that lips may stay apart or overlap when a resting mouth is shut
WIDER = 1.3  # times their widest mouth in the clip that people hardly ever open theirs (half against half: one in 20)
STIR = 0.4  # centimetres that a mouth opens farther which is wide open at rest
LEAST_GAIN, MOST_GAIN = 0.7, 1.6  # limits of what `match_manner` may do to the motion's range
PARTED = 0.25  # opening, centimetres, of lips that are apart whatever the detector's scatter
LEAST_PARTED = 12  # frames with parted lips that show how somebody's open mouth looks
MOST_SHIFT = 0.6  # mean distance, centimetres, by which `match_manner` may move an open mouth
GATE_SMOOTHING = 0.05  # seconds, sigma: nobody shuts the mouth within a frame


@dataclass(frozen=True)
class MotionEdit:
    """What to change; the defaults change nothing.

    strength: distance from the actor's resting mouth, 0 at rest, 1 as generated, above 1 exaggerates. smoothing:
    sigma of a Gaussian over time, seconds. blend: 0 is the actor's own motion, 1 the generated one. gate: how far the
    mouth rests where the speech is silent, 0..1. threshold: dB below the loudness of the voice that count as silent.
    """

    strength: float = 1.0
    smoothing: float = 0.0
    blend: float = 1.0
    gate: float = 0.0
    threshold: float = SILENCE

    def __post_init__(self) -> None:
        if not all(0 <= x < math.inf for x in (self.strength, self.smoothing, self.threshold)):
            raise InputError(
                f"got strength {self.strength:g}, smoothing {self.smoothing:g} s and threshold {self.threshold:g} dB, "
                "expected all of them finite and none below 0"
            )
        for name, share in (("blend", self.blend), ("silence gate", self.gate)):
            if not 0 <= share <= 1:
                raise InputError(f"got {name} {share:g}, expected 0 to 1")


def edit_motion(
    source: FaceTrack,
    spoken: FaceTrack,
    edit: MotionEdit,
    speech: Tensor | None = None,
    style: FaceTrack | None = None,
) -> FaceTrack:
    """`spoken` with its mouth changed: `source` is the same clip as filmed, `speech (s,)` what the gate listens to.

    The mouth rests as in `style`, another clip of the person, if given. Where nobody talks in the clip, it rests as it
    does in `spoken`: the picture of a laugh does not show how lips meet. Raises InputError when the tracks differ in
    length, or when no frame is usable.
    """
    if len(source) != len(spoken):
        raise InputError(f"got tracks of {len(source)} and {len(spoken)} frames, expected two of the same clip")
    gated = edit.gate > 0 and speech is not None
    if not gated and (edit.strength, edit.smoothing, edit.blend) == (1, 0, 1):
        return spoken
    if source.people is not None:
        points = spoken.points.clone()
        for person, own in source.each_person():
            theirs = spoken.replace(found=person.found, filled=person.filled, people=None)
            points[own] = edit_motion(person, theirs, edit, speech, style).points[own]
        return spoken.replace(points=points)
    shown, effect = source if style is None else style, turn_effect(source)
    lower = lower_face(spoken) - effect
    rest = torch.lerp(_at_rest(spoken, lower), resting_mouth(shown), manner(shown).talks)
    share = torch.full((len(spoken),), edit.strength)
    if gated:
        active = speech_activity(speech, spoken.times - spoken.times[0], edit.threshold)
        share = share * (1 - edit.gate * (1 - active))
    changed = rest + share[:, None, None] * (lower - rest)
    changed = smooth_motion(changed, spoken, edit.smoothing)
    changed = torch.lerp(lower_face(source) - effect, changed, edit.blend)
    changed = torch.cat([changed[..., :2], lower[..., 2:]], -1) + effect
    changed[..., :2] = part_lips(changed[..., :2])
    return with_lower_face(spoken, changed)


def resting_mouth(track: FaceTrack) -> Tensor:
    """The lower face `(180, 3)` of the frames in which the mouth is the most closed and the most still.

    As it looks where the head is turned as it is on average.
    """
    return _at_rest(track, lower_face(track) - turn_effect(track))


def _at_rest(track: FaceTrack, lower: Tensor) -> Tensor:
    return lower[resting_frames(to_canonical(track.points, track.pose), track.usable, TOKENS)].mean(0)


def smooth_motion(lower: Tensor, track: FaceTrack, seconds: float) -> Tensor:
    """A Gaussian of sigma `seconds` over `lower (f, 180, c)`, never across a cut or a frame without a face."""
    if seconds <= 0 or len(track) < 2:
        return lower
    sigma = seconds / max(track.times.diff().median().item(), 1e-3)
    breaks = (track.shots.diff() != 0) | (track.usable[1:] != track.usable[:-1])
    parts = lower.tensor_split(breaks.nonzero()[:, 0] + 1)
    return torch.cat([gaussian_smooth(part.flatten(1), sigma).view_as(part) for part in parts])


def speech_activity(speech: Tensor, times: Tensor, threshold: float = SILENCE) -> Tensor:
    """How much is said `(f,)`, 0..1, at `times (f,)` seconds of `speech (s,)`; 0 where it is silent.

    Silent is what lies `threshold` dB below the loudness of the voice, for longer than lips take to part and close.
    """
    grid = torch.arange(max(1, round(len(speech) / SPEECH_RATE * GATE_RATE))) / GATE_RATE
    decibels = 10 / math.log(10) * loudness(normalise_loudness(speech), grid)
    active = ((decibels + threshold) / GATE_KNEE + 0.5).clamp(0, 1)
    reach = round(GATE_HOLD * GATE_RATE)
    active = F.max_pool1d(active[None], 2 * reach + 1, 1, reach)[0]
    active = gaussian_smooth(active[:, None], GATE_SMOOTHING * GATE_RATE)[:, 0]
    return active[(times * GATE_RATE).round().long().clamp(0, len(active) - 1)] * (times < len(speech) / SPEECH_RATE)


def loudness(speech: Tensor, times: Tensor) -> Tensor:
    """Logarithm of the mean power of `speech (s,)` around each of `times (f,)` seconds, smoothed: `(f,)`."""
    half, at = int(ENVELOPE_WINDOW * SPEECH_RATE / 2), (times * SPEECH_RATE).round().long()
    step = max(1, math.gcd(*at.tolist()))  # of even times: pooling at every sample would take a second a minute
    power = F.avg_pool1d(speech.square()[None, None], 2 * half, step, half)[0, 0]
    return (power[(at // step).clamp(0, len(power) - 1)] + 1e-6).log().float()


def part_lips(lower: Tensor) -> Tensor:
    """Lips meet but do not pass through each other: `(t, 180, 2)` -> the same with crossed pairs brought together.

    A pose-free closed mouth scatters around zero opening; crossed lips would fold the mesh that references are
    warped by, which shows as dark specks along the line between the lips.
    """
    upper, under = _inner_pairs()
    crossed = lower[:, upper, 1] < lower[:, under, 1]
    middle = (lower[:, upper, 1] + lower[:, under, 1]) / 2
    lower = lower.clone()
    lower[:, upper, 1] = torch.where(crossed, middle, lower[:, upper, 1])
    lower[:, under, 1] = torch.where(crossed, middle, lower[:, under, 1])
    return lower


def _inner_pairs() -> tuple[list[int], list[int]]:
    """Where the upper and the lower points of the inner lips stand among the generated ones."""
    place = {int(point): i for i, point in enumerate(landmark_set("generated"))}
    upper, under = ([place[pair[side]] for pair in INNER_LIP_PAIRS] for side in (0, 1))
    return upper, under


class Manner(NamedTuple):
    """How a person holds the mouth, pose taken out, centimetres: resting lower faces `rest (r, 180, 2)`, the `spread`
    (deviation) of the opening and the `widest`, and the mean lower face `parted (180, 2)` of an open mouth, None where
    it hardly opens.
    """

    rest: Tensor
    spread: float
    widest: float
    parted: Tensor | None

    @property
    def talks(self) -> float:
        """How far the clip shows somebody talking, 0..1."""
        return min(max((self.spread - SILENT) / (TALKATIVE - SILENT), 0.0), 1.0)


def manner(track: FaceTrack) -> Manner:
    """What a clip shows of its person's manner; raises InputError when no frame is usable."""
    canonical = to_canonical(track.points, track.pose)
    canonical[:, landmark_set("generated")] -= turn_effect(track)
    return manner_of(canonical, track.usable)


def manner_of(canonical: Tensor, usable: Tensor) -> Manner:
    """The manner of pose-free landmarks `(f, 478, 2 or 3)` in the frames that are `usable (f,)`."""
    lower, opening = canonical[:, landmark_set("generated"), :2], mouth_opening(canonical)
    apart = usable & (opening > PARTED)
    parted = lower[apart].mean(0) if apart.sum() >= LEAST_PARTED else None
    seen = opening[usable]
    return Manner(
        lower[resting_frames(canonical, usable)], seen.std(correction=0).item(), widest=seen.max().item(), parted=parted
    )


def match_manner(lower: Tensor, person: Manner, strength: float = 1.0) -> Tensor:
    """Generated `lower (t, 180, 2)` as this person would move: opening as far, and shaped alike when open.

    People differ in how far they open their mouths, and how, more than a model can tell from a voice; their own clip
    shows it. The motion is scaled about rest until its opening deviates by `strength * person.spread`; then its open
    mouths are shifted until their mean is the person's own, a half-open mouth in proportion and a closed one not at
    all. Both changes have limits, and so has the widest mouth, or teeth would be stretched that the clip does not show.
    Who does not talk in the clip, in a still for one, moves as most people do.
    """
    rest, talks = person.rest.mean(0), person.talks
    spread = strength * (USUAL_SPREAD + talks * (person.spread - USUAL_SPREAD))
    own = inner_distance(lower).std(correction=0).item()
    if min(own, spread) < TALKING:
        return lower
    lower = rest + min(max(spread / own, LEAST_GAIN), MOST_GAIN) * (lower - rest)
    opening = inner_distance(lower)
    parted = opening > PARTED
    if person.parted is not None and parted.sum() >= LEAST_PARTED:
        shift = talks * (rest + strength * (person.parted - rest) - lower[parted].mean(0))
        shift = shift * min(1.0, MOST_SHIFT / max(shift.norm(dim=-1).mean().item(), 1e-6))
        share = (opening / opening[parted].mean()).clamp(max=1)
        lower = lower + share[:, None, None] * shift
    usual, wide = USUAL_OPENING, WIDE_OPENING
    usual, wide = usual + talks * (person.widest - usual), wide + talks * (WIDER * person.widest - wide)
    return part_lips(limit_opening(lower, rest, strength * usual, strength * wide))


def limit_opening(lower: Tensor, rest: Tensor, usual: float, wide: float) -> Tensor:
    """`lower (t, 180, 2)` whose mouths beyond `usual` cm are nearer to `rest (180, 2)`, none more open than `wide`.

    Motion adds to the resting mouth: a portrait of somebody who sings would open it till the face tears.
    """
    opening, resting = inner_distance(lower), inner_distance(rest[None])
    knee = resting.clamp_min(usual)
    room = (wide - knee).clamp_min(STIR)
    limited = knee + room * ((opening - knee) / room).tanh()
    share = torch.where(opening > knee, (limited - resting) / (opening - resting).clamp_min(1e-6), 1.0)
    return rest + share[:, None, None] * (lower - rest)


def close_mouth(lower: Tensor, components: Tensor) -> Tensor:
    """`lower (180, 2)` with its lips brought together, by the likeliest movement of mouths that does it.

    `components (c, 360)` are a motion model's, for channels of unit variance. Ridge regression of the gaps on them.
    """
    upper, under = _inner_pairs()
    gaps = (lower[upper, 1] - lower[under, 1]).clamp_min(0)
    moves = components.unflatten(1, (-1, 2))[..., 1]
    moves = (moves[:, upper] - moves[:, under]) / GAP_TOLERANCE
    among = moves @ moves.T + torch.eye(len(moves)).to(moves)
    channels = torch.linalg.solve(among, moves @ (-gaps / GAP_TOLERANCE))
    return part_lips((lower + (channels @ components).unflatten(0, (-1, 2)))[None])[0]


def inner_distance(lower: Tensor) -> Tensor:
    """Mouth opening `(t,)` of generated points `(t, 180, 2)`, centimetres."""
    points = landmark_set("generated").tolist()
    top, bottom = (points.index(point) for point in INNER_LIPS)
    return (lower[:, top] - lower[:, bottom]).norm(dim=-1)


def lower_face(track: FaceTrack) -> Tensor:
    """Pose-free generated points `(f, 180, 3)`, centimetres."""
    return to_canonical(track.points, track.pose)[:, landmark_set("generated")]


def with_lower_face(track: FaceTrack, lower: Tensor) -> FaceTrack:
    """The track with other generated points, given pose-free `(f, 180, 3)`; unusable frames stay."""
    points = track.points.clone()
    frames = track.usable.nonzero()
    points[frames, landmark_set("generated")] = from_canonical(lower, track.pose)[track.usable]
    return track.replace(points=points)
