import math

import pytest
import torch

from comfyui_mytalk.evaluation.sync_score import frames_at_25, score_embeddings
from tests.support.pretended_device import DEVICE, PretendedDevice

WINDOWS = 60


def embeddings(late: int, noise: float = 0.5):
    """Sound at random, and a picture that says the same `late` windows later."""
    draw = torch.Generator().manual_seed(0)
    both = torch.randn(WINDOWS + 40, 16, generator=draw)
    heard, seen = both[20 : 20 + WINDOWS], both[20 - late : 20 - late + WINDOWS]
    return seen + noise * torch.randn(seen.shape, generator=draw), heard


@pytest.mark.parametrize("late", [-15, -5, 0, 1, 5, 15])
@pytest.mark.parametrize("padded", [False, True])
def test_a_picture_that_is_late_has_a_positive_offset(late, padded):
    score = score_embeddings(*embeddings(late), padded=padded)
    assert score.offset_frames == late and score.in_sync == (abs(late) <= 1)
    assert score.confidence > 1


def test_confidence_is_the_median_less_the_least_and_distance_the_least():
    seen, heard = embeddings(3)
    means = []
    for offset in range(-15, 16):
        pairs = [(i, i - offset) for i in range(WINDOWS) if 0 <= i - offset < WINDOWS]
        means.append(sum((seen[i] - heard[j]).norm().item() for i, j in pairs) / len(pairs))
    score = score_embeddings(seen, heard)
    assert score.distance == pytest.approx(min(means), abs=1e-5)
    assert score.confidence == pytest.approx(sorted(means)[15] - min(means), abs=1e-5)


def test_windows_that_are_not_usable_do_not_count():
    seen, heard = embeddings(5)
    usable = torch.ones(WINDOWS, dtype=torch.bool)
    usable[:20] = False
    spoilt = seen.clone()
    spoilt[:20] = 1e3
    score = score_embeddings(spoilt, heard, usable)
    assert score == score_embeddings(seen, heard, usable) and score.offset_frames == 5


@pytest.mark.parametrize("padded", [False, True])
def test_embeddings_on_a_device_meet_flags_on_the_cpu(padded):
    """A judge embeds on its device; which windows count is told by landmarks, which stay on the CPU."""
    (seen, heard), usable = embeddings(5), torch.arange(WINDOWS) > 9
    with PretendedDevice():
        score = score_embeddings(seen.to(DEVICE), heard.to(DEVICE), usable, padded)
    assert score == score_embeddings(seen, heard, usable, padded)


@pytest.mark.parametrize("count", [0, 1, 22])
def test_a_short_clip_scores_nan_and_is_not_in_sync(count):
    score = score_embeddings(*(x[:count] for x in embeddings(0)))
    assert math.isnan(score.offset_frames) and math.isnan(score.confidence) and not score.in_sync
    assert math.isnan(score_embeddings(*embeddings(0), torch.zeros(WINDOWS, dtype=torch.bool)).distance)


def test_frames_at_25_are_the_nearest_ones():
    assert frames_at_25(torch.arange(5.0).double() / 25).tolist() == [0, 1, 2, 3, 4]
    assert frames_at_25(torch.arange(6.0).double() / 50).tolist() == [0, 2, 4]
    assert frames_at_25(torch.arange(3.0).double() / 12.5).tolist() == [0, 0, 1, 1, 2]
    assert frames_at_25(torch.tensor([3.0, 3.1, 3.12], dtype=torch.float64)).tolist() == [0, 0, 1, 2]
    assert frames_at_25(torch.zeros(0)).tolist() == [] and frames_at_25(torch.zeros(1)).tolist() == [0]


def test_a_judge_that_learnt_nothing_finds_no_offset():
    """All vectors nearly alike: even the least distance at offset 0 is then no preference, and equal ones are none."""
    seen, heard = (torch.nn.functional.normalize(x + 500, dim=1) for x in embeddings(0))
    score = score_embeddings(seen, heard - 1)
    assert score.offset_frames == 0 and 0 < score.confidence < 0.005 * score.distance and not score.in_sync
    alike = torch.ones(WINDOWS, 16)
    assert not score_embeddings(alike, alike).in_sync and not score_embeddings(alike, 2 * alike).in_sync
