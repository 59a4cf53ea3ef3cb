"""What every judge of lip sync shares: clips at 25 fps, and SyncNet's offset, confidence and distance.

    f frames of the clip   t frames at 25 fps   w windows, one per 25 fps frame   d embedding width

A judge gives one vector for the picture and one for the sound of every short window. The mean distance between the two,
sound moved against picture by -15 to 15 frames, says where they belong together and how surely (Chung and Zisserman
2016, "Out of time: automated lip sync in the wild").
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FPS = 25
SPEECH_RATE = 16_000
SAMPLES = SPEECH_RATE // FPS  # of speech in one frame
WINDOW = 5  # frames that a judge sees at once: 0.2 s
MAX_OFFSET = 15  # frames searched to each side
MIN_PAIRS = 8  # windows that overlap at the farthest offset: fewer are chance
PREFERRED = 0.005  # of the distance: what the best offset must have over the median one, or no offset was found


@dataclass(frozen=True)
class SyncScore:
    """How well picture and sound of one clip fit; all nan when the clip is too short to say.

    offset_frames: whole 25 fps frames, positive when the picture is late (the sign of `metrics.best_lag`).
    confidence: median minus least of the mean distances over all offsets; 0 is no preference at all.
    distance: the least mean distance.
    """

    offset_frames: float
    confidence: float
    distance: float

    @property
    def in_sync(self) -> bool:
        """Whether the offset is at most one frame, and preferred at all; false for a clip that is too short.

        Judges that learnt nothing place all sounds at nearly the same distance. What is left of a preference is no
        chance of 3 in 31: some happen to sort by loudness, and find the movement of whole corpora. Their preference is
        0.1 % of the distance (median); of 4400 verdicts "in sync" or not by the trained judge this changes none.
        """
        return abs(self.offset_frames) <= 1 and self.confidence > PREFERRED * self.distance


TOO_SHORT = SyncScore(math.nan, math.nan, math.nan)


def frames_at_25(times: Tensor) -> Tensor:
    """Index `(t,)` of the frame nearest to each tick of 25 fps, for frames shown at `times (f,)` seconds."""
    if not len(times):
        return torch.zeros(0, dtype=torch.long)
    times = times.double() - times[0].double()
    ticks = torch.arange(int(times[-1].item() * FPS + 1e-6) + 1, dtype=torch.float64) / FPS
    after = torch.searchsorted(times, ticks).clamp(1, max(len(times) - 1, 1)).clamp(max=len(times) - 1)
    before = (after - 1).clamp(min=0)
    return torch.where(ticks - times[before] <= times[after] - ticks, before, after)


def whole_windows(usable: Tensor) -> Tensor:
    """`(t,)` bool -> `(w,)`: windows in which every frame is usable."""
    return usable.unfold(0, WINDOW, 1).all(1)


def offset_distances(picture: Tensor, speech: Tensor, usable: Tensor | None = None, padded: bool = False) -> Tensor:
    """Mean Euclidean distance `(31,)` at offsets -15..15 between embeddings `(w, d)`; nan where too few windows meet.

    At offset `o` picture window `i` meets speech window `i - o`. `usable (w,)` leaves picture windows out. `padded`
    lets windows without a partner meet the zero vector, as the original SyncNet code does. Computed on the CPU:
    embeddings are small, whose flags come from landmarks, and not every device knows double precision.
    """
    picture, speech, count = picture.cpu(), speech.cpu(), len(picture)
    usable = torch.ones(count, dtype=torch.bool) if usable is None else usable.cpu()
    apart = torch.cdist(picture[None].double(), F.pad(speech, (0, 0, MAX_OFFSET, MAX_OFFSET))[None].double())[0]
    means = []
    for offset in range(-MAX_OFFSET, MAX_OFFSET + 1):
        window = torch.arange(count)
        meets = usable if padded else usable & (window - offset >= 0) & (window - offset < count)
        distance = apart[window[meets], window[meets] - offset + MAX_OFFSET]
        means.append(distance.mean() if len(distance) >= MIN_PAIRS else distance.new_tensor(math.nan))
    return torch.stack(means)


def score_embeddings(picture: Tensor, speech: Tensor, usable: Tensor | None = None, padded: bool = False) -> SyncScore:
    """Offset, confidence and distance of embeddings `(w, d)`; the offset nearest 0 wins a tie."""
    if len(picture) != len(speech):
        raise ValueError(f"got {len(picture)} picture and {len(speech)} speech windows, expected as many of both")
    if len(picture) < MAX_OFFSET + MIN_PAIRS:
        return TOO_SHORT
    means = offset_distances(picture, speech, usable, padded)
    if means.isnan().any():
        return TOO_SHORT
    order = (torch.arange(len(means)) - MAX_OFFSET).abs().argsort(stable=True)
    best = order[means[order].argmin()]
    return SyncScore(int(best) - MAX_OFFSET, (means.median() - means[best]).item(), means[best].item())
