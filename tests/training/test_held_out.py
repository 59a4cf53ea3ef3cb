from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest

from comfyui_mytalk.training.held_out import spread


class Clip(NamedTuple):
    corpus: str
    number: int


def clips(**counts: int) -> list[Clip]:
    return [Clip(corpus, number) for corpus, count in counts.items() for number in range(count)]


def test_all_are_looked_at_where_there_are_no_more() -> None:
    few = clips(talks=7, sentences=2, news=1)
    assert spread(few, 10) == few and spread(few, 200) == few and spread([], 5) == []


def test_large_corpora_do_not_crowd_out_small_ones() -> None:
    kept = spread(clips(talks=1000, sentences=50, news=3), 40)
    assert Counter(clip.corpus for clip in kept) == {"news": 3, "sentences": 18, "talks": 19}
    talks = [clip.number for clip in kept if clip.corpus == "talks"]
    assert talks[0] == 0 and talks[-1] == 999 and talks == sorted(set(talks))
    assert kept == sorted(kept, key=clips(talks=1000, sentences=50, news=3).index)


@pytest.mark.parametrize("most", [0, 1, 2, 3, 17])
def test_it_is_never_more_than_asked_for(most: int) -> None:
    assert len(spread(clips(talks=9, sentences=9, news=9), most)) == most
