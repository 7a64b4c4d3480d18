"""Benchmarks that take turns, so that a machine that is slow for a minute is so for a little of each, and for no row
through and through."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing

from benchmarks.report import Row

Turns = Generator[None, None, list[Row]]
"""A benchmark: it yields where others may go on, and ends with its rows."""


def take(benchmarks: Mapping[str, Callable[[], Turns]], ended: Callable[[str, float], None]) -> list[Row]:
    """The rows of all, in their order. `ended` hears a benchmark's name and how many seconds its turns took.

    What fails ends all of them.
    """
    rows: dict[str, list[Row]] = {}
    took = dict.fromkeys(benchmarks, 0.0)
    with ExitStack() as stack:
        going = {name: stack.enter_context(closing(start())) for name, start in benchmarks.items()}
        while going:
            for name, turns in [*going.items()]:
                began = time.monotonic()
                try:
                    next(turns)
                except StopIteration as end:
                    rows[name] = end.value
                    del going[name]
                took[name] += time.monotonic() - began
                if name in rows:
                    ended(name, took[name])
    return [row for name in benchmarks for row in rows[name]]
