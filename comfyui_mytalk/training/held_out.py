"""Which clips a validation looks at, where there are more than it has time for: the same ones each time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np


class OfCorpus(Protocol):
    """Clips, takes: what belongs to a corpus."""

    @property
    def corpus(self) -> str: ...


Item = TypeVar("Item", bound=OfCorpus)


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, in their order: all, where there are no more.

    As many of each corpus as of every other, since figures are means over corpora, and of small ones all; of each
    corpus evenly from its first to its last, which are other people when they are in name order.
    """
    corpora: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        corpora[item.corpus].append(index)
    kept: list[int] = []
    smallest_first = sorted(corpora.values(), key=len)
    for done, own in enumerate(smallest_first):
        count = min(len(own), (most - len(kept)) // (len(smallest_first) - done))
        kept += [own[place] for place in np.linspace(0, len(own) - 1, count).round().astype(int)]
    return [items[index] for index in sorted(kept)]
