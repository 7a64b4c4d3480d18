"""Numbers for stages that have none: evenly between those around them, never falling."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache


def spread(known: Sequence[float | None], *, step: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """`known` with each None filled in: evenly between the numbers around it, strictly between `low` and `high`, in
    whole `step`s. Where no step fits between two numbers, one of them is repeated: it never falls.

    >>> spread([None, None, None], step=0.1)
    [0.2, 0.5, 0.8]
    >>> spread([0.4, None, None], step=0.1)
    [0.4, 0.6, 0.8]
    """
    return list(_spread(tuple(known), tuple(map(type, known)), step, low, high))


@lru_cache(256)  # most pipelines have a few stages and no numbers, and this would be a tenth of a create
def _spread(
    known: tuple[float | None, ...],
    _: tuple[type, ...],  # what is kept for 20 is not for 20.0, which equals it
    step: float,
    low: float,
    high: float,
) -> list[float]:
    filled: list[float] = []
    below, since = low, 0
    for index, value in enumerate(known):
        if value is not None:
            below, since = value, index + 1
            filled.append(value)
            continue
        rest = range(index, len(known))
        until, above = next(
            ((each, number) for each in rest if (number := known[each]) is not None), (len(known), high)
        )
        even = below + (above - below) * (index - since + 1) / (until - since + 1)
        stepped = min(high - step, max(low + step, round(round(even / step) * step, 10)))
        ceiling = above if above > low else high
        floor = filled[-1] if filled and filled[-1] < high else low
        filled.append(max(min(stepped, ceiling), floor))
    return filled
