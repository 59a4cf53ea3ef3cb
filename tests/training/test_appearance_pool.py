"""The pool of samples: what a step gets depends on its number alone, and is a sample that was read."""

import pytest
import torch

from comfyui_mytalk.appearance.render import Inputs
from comfyui_mytalk.training.appearance_data import Sample
from comfyui_mytalk.training.appearance_pool import EchoPool

BATCH = 3


def stream(first: int):
    """Batch `i` has pictures of the values `3 i`, `3 i + 1`, `3 i + 2` (of 255), brighter in their left half."""
    while True:
        value = (first * BATCH + torch.arange(BATCH)).view(-1, 1, 1, 1) / 255
        target = value + torch.cat([torch.full((1, 1, 4, 4), 0.2), torch.zeros(1, 1, 4, 4)], 3).expand(BATCH, 3, 4, 8)
        mask = torch.zeros(BATCH, 1, 4, 8)
        mask[..., 1:3] = 1
        inputs = Inputs(target * (1 - mask), target, target[:, None].expand(-1, 2, -1, -1, -1))
        yield Sample(inputs, target, mask, mask)
        first += 1


def values(sample: Sample) -> list[int]:
    return sorted((sample.target.amin((1, 2, 3)) * 255).round().int().tolist())


def test_a_pool_of_one_batch_gives_every_batch_as_often_as_asked():
    pool = EchoPool(stream, BATCH, seed=0, step=0, echo=2, size=1)
    assert [values(pool.draw(step)) for step in range(4)] == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]]


def test_batches_are_mixed_from_what_the_pool_holds():
    pool = EchoPool(stream, BATCH, seed=0, step=0, echo=2, size=5)
    widths = []
    for step in range(40):
        newest = (step // 2 + 5) * BATCH
        got = values(pool.draw(step))
        assert len(set(got)) == BATCH and min(got) >= newest - 5 * BATCH and max(got) < newest
        widths.append(got[-1] - got[0])
    assert sum(widths) / len(widths) > 2 * BATCH, "samples of several batches"


@pytest.mark.parametrize("step", [3, 17, 30])
def test_a_resumed_run_draws_what_an_uninterrupted_one_would(step):
    whole, resumed = (EchoPool(stream, BATCH, seed=4, step=start, echo=2, size=40) for start in (0, step))
    for earlier in range(step):
        whole.draw(earlier)
    for later in range(step, step + 5):
        assert torch.equal(whole.draw(later).target, resumed.draw(later).target)


def test_pictures_of_a_sample_are_mirrored_together_and_the_mouth_stays_hidden():
    pool = EchoPool(stream, 1, seed=1, step=0, size=1)
    seen = set()
    for step in range(12):
        sample = pool.draw(step)
        left_is_bright = bool(sample.target[0, 0, 0, 0] > sample.target[0, 0, 0, -1])
        seen.add(left_is_bright)
        assert sample.mask[0, 0, 0].tolist() == ([0, 1, 1] + [0] * 5)[:: 1 if left_is_bright else -1]
        assert torch.equal(sample.inputs.references[:, 0], sample.target)
        assert (sample.inputs.masked * sample.mask).max() == 0
    assert seen == {True, False}
