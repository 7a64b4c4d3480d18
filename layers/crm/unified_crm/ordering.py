"""The order of a pipeline's stages, for providers that order them by a number of their own.

Nothing is numbered anew while the order is right, and what nobody named keeps its number as long as that is possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from unified_crm.mapping import whole
from unified_crm.provider import Record


class Place(NamedTuple):
    """A place in the wanted list of stages: the stage that has it now, None for a new one, and what to write."""

    before: Record | None
    values: Mapping[str, Any]


def appended(field: str, records: list[Record], given: list[int | None], old: int) -> list[Record]:
    """The first `old` records as they are, the new ones behind them numbered on from the highest."""
    last = max((number for each in records[:old] if (number := whole(each.get(field))) is not None), default=-1)
    new = zip(records[old:], given[old:], strict=True)
    return records[:old] + [
        {**record, field: last + count if own is None else own} for count, (record, own) in enumerate(new, start=1)
    ]


def renumbered(
    field: str, places: list[Place], records: list[Record], numbers: list[int | None], given: list[int | None]
) -> list[Record]:
    """Rising numbers from the lowest that there was; those of stages that nobody named change only where they must."""
    own = [number if place.before is not None else None for place, number in zip(places, numbers, strict=True)]
    last = min((number for number in own if number is not None), default=0) - 1
    placed: list[Record] = []
    for index, (place, record) in enumerate(zip(places, records, strict=True)):
        # The numbers that a named stage must leave free: those of the stages behind it that nobody named.
        rest = zip(places[index + 1 :], own[index + 1 :], strict=True)
        taken = [number for each, number in rest if number is not None and not each.values]
        wish, keep = given[index], own[index]
        if wish is not None:
            last = wish
        elif keep is not None and keep > last and (not place.values or all(keep < number for number in taken)):
            last = keep
        else:
            last += 1
        placed.append(record if whole(record.get(field)) == last else {**record, field: last})
    return placed


def placed_between(field: str, places: list[Place], records: list[Record]) -> list[Record]:
    """New stages with a number between those around them; what is there already keeps its own."""
    placed = list(records)
    for index, place in enumerate(places):
        if place.before is None and field not in (place.values.get("remote_data") or {}):
            around = [
                *placed[:index],
                *(each for each, other in zip(placed[index:], places[index:], strict=True) if other.before),
            ]
            placed[index] = {**records[index], field: between(around, index, field)}
    return placed


def between(stages: list[Record], place: int, field: str) -> int:
    """A number for what shall stand at `place` of stages in their order: behind the one before it, at most halfway to
    the next."""
    numbers = [number for each in stages[:place] if (number := whole(each.get(field))) is not None]
    low = max(numbers, default=0)
    above = [number for each in stages[place:] if (number := whole(each.get(field))) is not None and number > low]
    return low + 10 if not above or low + 10 < min(above) else (low + min(above)) // 2


def longest_rising(numbers: list[int], dear: set[int]) -> set[int]:
    """The most of `numbers` that rise in the order that they have: what need not move. Of those that are `dear`, first
    of all, as many as can be."""
    best: list[tuple[int, int, list[int]]] = []  # how many are dear, how many there are, which
    for index, number in enumerate(numbers):
        before = max((best[each] for each in range(index) if numbers[each] < number), default=(0, 0, []))
        best.append((before[0] + (number in dear), before[1] + 1, [*before[2], number]))
    return set(max(best, default=(0, 0, []))[2])
