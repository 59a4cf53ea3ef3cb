"""The inside of a mouth that a clip never shows.

    b batch   k references   h w window of the crop in pixels

A still whose lips are closed has only their seam to stretch. Where the wanted mouth is open and all of the clip's
are nearly shut, references get a plain mouth drawn between the lips: dark, with upper teeth and some tongue, in the
light of the face, grey in a grey picture. The network paints from that. Not in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..landmarks.align import CROP_SIZE
from ..landmarks.canonical import mouth_opening
from ..landmarks.sets import landmark_set
from ..sampling import sample_repeating

UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)  # the inner lips from corner to corner
LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
SHOWN = (0.25, 0.45)  # the clip's widest opening over the wanted one: nothing of the inside is shown; teeth are
STRETCHED = (0.6, 0.9)  # the same, of a smile: what is shown keeps its height; it may be stretched, as the lips are
HARDLY = (0.25, 0.5)  # the same, of a clip that shows several mouths
TALKS = (14.8, 16.5)  # pixels of a 256 crop, 1.1 and 1.2 cm: no smile is as wide
MOVES = (4.0, 6.7)  # pixels of a 256 crop, 0.3 and 0.5 cm between the narrowest and the widest mouth: somebody talks
LEAST_OPEN = (2.0, 5.0)  # pixels of a 256 crop: below, a stretched seam looks no worse; above, it does
TEETH = 5.5  # pixels of a 256 crop
TEETH_SHARE = 0.4  # of the opening at most
TEETH_COLOUR = (1.0, 0.95, 0.88)
TEETH_LIGHT = (0.22, 0.68, 1.6)  # brightness, and how it grows with that of the skin; no more times as bright: night
FLESH = (1.0, 0.62, 0.58)  # redder than the lips
GREY = (0.06, 0.2)  # saturation of lips in a black and white picture, and in one with colours
TOOTH_EDGES = (0.0, 11.5, 20.2, 30.4, 40.0)  # pixels of a 256 crop from the middle: incisors, canine, a premolar
TOOTH_GAP = (0.8, 0.3)  # half width in pixels of a 256 crop, and how dark
TOOTH_ROUNDING = 0.18  # how much shorter a tooth is at its sides
OWN_END = 0.9  # of the inside that is shown: what lies below is the edge of the lower lip
CLEAR = 1.5  # pixels of a 256 crop


def draw_unseen(aligned: Tensor, openings: Tensor, target: Tensor, corner: tuple[int, int], size: int) -> Tensor:
    """`aligned (b, k, 3, h, w)` with an inside of the mouth wherever the clip has none to show.

    `openings (b, 2)` are those of the narrowest and the widest mouth of the clip, `target (b, 478, 2)` the landmarks
    that references were moved onto, in pixels of a crop of side `size`; `corner` is the window's top and left.
    """
    amount = unseen(openings, target, size)
    if not (amount > 0).any():
        return aligned
    unit, lips = size / CROP_SIZE, inner_lips(target, corner, aligned.shape[-2:])
    flesh, mouth = _mouth(aligned, target, *lips, corner, unit)
    ratio, bound = (x[:, None, None] for x in (_ratio(openings, target), _bound(openings, target, size)))
    own, covered = _own_height(aligned.float(), *lips[:2], ratio, 1 - bound, unit)
    made = torch.lerp(torch.lerp(flesh, own, covered), mouth, (bound * (1 - _rise(ratio, *SHOWN)))[:, None, None])
    inside = (between(*lips) * _open_enough(target, size)[:, None, None] * (amount > 0)[:, None, None])[:, None, None]
    return torch.lerp(aligned, made.to(aligned.dtype), inside.to(aligned.dtype))


def keep_drawn(
    picture: Tensor, drawn: Tensor, openings: Tensor, target: Tensor, corner: tuple[int, int], size: int
) -> Tensor:
    """The network's `picture (b, 3, h, w)` with what `draw_unseen` drew `(b, k, 3, h, w)`, clear of the lips.

    It was trained on real mouths and weaves a pattern into the plain one. Other arguments as in `draw_unseen`.
    """
    amount = unseen(openings, target, size)
    if not (amount > 0).any():
        return picture
    unit = size / CROP_SIZE
    upper, lower, across = inner_lips(target, corner, picture.shape[-2:])
    clear = between(upper / unit - CLEAR, lower / unit - CLEAR, across) * amount[:, None, None]
    nearest = drawn[:, min(1, drawn.shape[1] - 1)]  # the first may be a regression, which blurs teeth
    return torch.lerp(picture, nearest.to(picture.dtype), clear[:, None].to(picture.dtype))


def unseen(openings: Tensor, target: Tensor, size: int) -> Tensor:
    """How little of the mouth of `target (b, 478, 2)` a clip with `openings (b, 2)`, pixels, shows: `(b,)`."""
    return _open_enough(target, size) * _bound(openings, target, size)


def _bound(openings: Tensor, target: Tensor, size: int) -> Tensor:
    """How far what is shown must not be stretched `(b,)`: a smile that is all there is, or a mouth hardly open."""
    narrowest, widest = (openings * (CROP_SIZE / size)).unbind(1)
    smile = (1 - _rise(widest, *TALKS)) * (1 - _rise(widest - narrowest, *MOVES))
    ratio = _ratio(openings, target)
    return (smile * (1 - _rise(ratio, *STRETCHED))).maximum(1 - _rise(ratio, *HARDLY))


def _open_enough(target: Tensor, size: int) -> Tensor:
    return _rise(mouth_opening(target) * (CROP_SIZE / size), *LEAST_OPEN)


def _ratio(openings: Tensor, target: Tensor) -> Tensor:
    return openings[:, 1] / mouth_opening(target).clamp_min(1e-3)


def _own_height(
    aligned: Tensor, upper: Tensor, lower: Tensor, ratio: Tensor, free: Tensor, unit: float
) -> tuple[Tensor, Tensor]:
    """`aligned (b, k, 3, h, w)` with what is between its lips hanging from the upper one as high as it was before it
    was stretched, and how far that covers each pixel `(b, 1, 1, h, w)`: teeth do not grow when a mouth opens.

    `ratio (b, 1, 1)` is that height over the wanted one, `free (b, 1, 1)` how far it may be stretched after all.
    """
    b, k, _, height, width = aligned.shape
    share, room = torch.lerp(ratio, torch.ones_like(ratio), free).clamp_min(0.05), upper + lower
    depth = (upper.clamp_min(0) / share).minimum(room.clamp_min(0) * (OWN_END + (1 - OWN_END) * free))
    row, column = (torch.arange(n, device=aligned.device) + 0.5 for n in (height, width))
    row = row[:, None] + torch.where(upper > 0, depth - upper, 0.0)
    grid = torch.stack([column.expand_as(row) / width, row / height], -1) * 2 - 1
    moved = sample_repeating(aligned.flatten(0, 1), grid.repeat_interleave(k, 0))
    covered = _rise(room * share + 2 * unit * free - upper, -unit, unit)
    return moved.view(b, k, 3, height, width), covered[:, None, None]


def inner_lips(points: Tensor, corner: tuple[int, int], shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """At every pixel `(b, h, w)`: pixels below the upper inner lip, pixels above the lower, and -1..1 across."""
    row, column = (torch.arange(n, device=points.device) + 0.5 + at for n, at in zip(shape, corner, strict=True))
    lines = []
    for ring in (UPPER, LOWER):
        x, y = points[:, list(ring), :2].float().unbind(-1)
        x, order = x.sort(1)
        y, wanted = y.gather(1, order), column.expand(len(x), -1).contiguous()
        after = torch.searchsorted(x.contiguous(), wanted).clamp(1, len(ring) - 1)
        (x0, x1), (y0, y1) = ((line.gather(1, after - 1), line.gather(1, after)) for line in (x, y))
        lines.append(y0 + (y1 - y0) * ((wanted - x0) / (x1 - x0).clamp_min(1e-3)).clamp(0, 1))
    across = (column - x[:, :1]) / (x[:, -1:] - x[:, :1]).clamp_min(1e-3) * 2 - 1
    upper, lower = (line[:, None] for line in lines)
    return row[:, None] - upper, lower - row[:, None], across[:, None].expand(-1, shape[0], -1)


def between(upper: Tensor, lower: Tensor, across: Tensor) -> Tensor:
    """1 between the lips, falling to 0 over the pixel at their edge, from `inner_lips`."""
    return (upper + 0.5).clamp(0, 1) * (lower + 0.5).clamp(0, 1) * (across.abs() < 1)


def _mouth(
    aligned: Tensor, target: Tensor, upper: Tensor, lower: Tensor, across: Tensor, corner: tuple[int, int], unit: float
) -> tuple[Tensor, Tensor]:
    """The drawn inside at every pixel `(b, k, 3, h, w)`, without teeth and with them, lit as lips and chin of each
    reference are."""
    lips, skin = (_mean_colour(aligned, target, landmark_set(name), corner) for name in ("lips_outer_mid", "chin"))
    depth = upper / (upper + lower).clamp_min(1e-3)
    round_off = 1 - 0.4 * across.square().clamp(max=1)
    cavity = (0.16 + 0.5 * _rise(depth, 0.4, 1.0)) * round_off
    reach = (upper + lower).amax((1, 2), keepdim=True).clamp_min(1e-3)
    place, gap = _teeth(across * _half_width(target) / unit)
    teeth = (reach * TEETH_SHARE).clamp(max=TEETH * unit) * (1 - 0.5 * across.square().clamp(max=1))
    teeth = teeth * (1 - TOOTH_ROUNDING * place.square())
    bite = _rise(teeth - upper, -0.75 * unit, 0.75 * unit) * (1 - _rise(across.abs(), 0.55, 0.9))
    shine = (0.7 + 0.3 * (upper / teeth.clamp_min(1e-3)).clamp(0, 1)) * round_off * (1 - gap)
    light = skin.mean(2, keepdim=True).clamp_min(1e-3)
    colours = _rise((lips.amax(2, True) - lips.amin(2, True)) / lips.amax(2, True).clamp_min(1e-3), *GREY)
    white, red = (torch.lerp(x.mean(), x, colours) for x in (_colour(lips, c) for c in (TEETH_COLOUR, FLESH)))
    least, growth, most = TEETH_LIGHT
    enamel = (
        (least + growth * light).minimum(most * light) * torch.lerp(white, skin / light, 0.2) * shine[:, None, None]
    )
    flesh = lips * red * cavity[:, None, None]
    return flesh, torch.lerp(flesh, enamel, bite[:, None, None])


def _colour(like: Tensor, colour: tuple[float, float, float]) -> Tensor:
    return like.new_tensor(colour)[:, None, None]


def _half_width(target: Tensor) -> Tensor:
    """Half the distance of the corners of the inner lips `(b, 1, 1)`, pixels."""
    return (target[:, UPPER[-1], 0] - target[:, UPPER[0], 0]).abs()[:, None, None].float() / 2


def _teeth(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of places `x`, pixels of a 256 crop from the mouth's middle: where in its tooth, -1..1, and how dark a gap."""
    edges = x.new_tensor(TOOTH_EDGES)
    away = x.abs().clamp(max=TOOTH_EDGES[-1] - 1e-3)
    after = torch.bucketize(away, edges, right=True)
    left, right = edges[after - 1], edges[after]
    width, darkness = TOOTH_GAP
    gap = darkness * torch.exp(-(torch.minimum(away - left, right - away) / width).square())
    return (2 * away - left - right) / (right - left), gap


def _mean_colour(aligned: Tensor, target: Tensor, index: Tensor, corner: tuple[int, int]) -> Tensor:
    """Mean colour `(b, k, 3, 1, 1)` of each aligned reference at some landmarks."""
    b, k, _, height, width = aligned.shape
    at = target[:, index.to(target.device), :2].float() - target.new_tensor([corner[1], corner[0]])
    grid = (at / at.new_tensor([width, height]) * 2 - 1).repeat_interleave(k, 0)[:, None]
    found = sample_repeating(aligned.flatten(0, 1).float(), grid)
    return found.mean((2, 3)).view(b, k, 3, 1, 1)


def _rise(x: Tensor, low: float, high: float) -> Tensor:
    """0 at `low`, 1 at `high`, smooth between."""
    share = ((x - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)
