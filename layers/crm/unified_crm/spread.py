"""Numbers for stages that have none: evenly between those around them, never falling."""

from __future__ import annotations

from collections.abc import Sequence


def spread(known: Sequence[float | None], *, step: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """`known` with each None filled in: strictly between `low` and `high`, in whole `step`s, rising evenly from the
    number before to the one after.

    >>> spread([None, None, None], step=0.1)
    [0.2, 0.5, 0.8]
    >>> spread([0.4, None, None], step=0.1)
    [0.4, 0.6, 0.8]
    """
    filled: list[float] = []
    for index, value in enumerate(known):
        if value is None:
            rest = known[index:]
            gap = next((count for count, each in enumerate(rest) if each is not None), len(rest))
            above = next((each for each in rest if each is not None), high)
            below = filled[-1] if filled else low
            value = round((below + (above - below) / (gap + 1)) / step) * step
            value = round(min(high - step, max(low + step, below, value)), 10)
        filled.append(value)
    return filled
