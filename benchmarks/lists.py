"""Long lists: whether time and peak memory grow in proportion to what the provider answers."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.arena import Contestant
from benchmarks.fake_provider import Fake
from benchmarks.report import RATIO, Row
from benchmarks.turns import Turns

PART = "Long lists"
SIZES = ((100, 10), (300, 30), (1000, 100))
"""Pipelines, and stages of each."""
CALLS = 3
CALLS_OF_SMALL = 20
HOW = f"""\
**Long lists.** HubSpot answers all its pipelines at once; `limit=1000` asks for all of them, and the page ends
where an answer would grow too large for Lambda. Each size has a fresh process of the built function, which has
answered a list of one pipeline before. Peak memory is the most that is resident during its first long list, less
what was before it; time is the median of {CALLS_OF_SMALL} calls at the smallest size and of {CALLS} at the others.
Both are divided by the stages in the provider's reply, and the goal is that the largest size costs at most 1.5
times as much for each stage as the smallest.
"""


def measure(
    sizes: tuple[tuple[int, int], ...] = SIZES, calls: int = CALLS, calls_of_small: int = CALLS_OF_SMALL
) -> Turns:
    """One run."""
    found: dict[tuple[str, int], tuple[float, float]] = {}
    for at, (pipelines, stages) in enumerate(sizes):
        with Fake(pipelines, stages) as fake:
            for who in ("function", "urllib3"):
                found[who, at] = _costs(who, fake.port, calls if at else calls_of_small)
        yield
    return _rows(sizes, found)


def _costs(who: str, port: int, calls: int) -> tuple[float, float]:
    """Milliseconds and bytes of a list."""
    with Contestant(who, "lists", port) as contestant:
        first: dict[str, Any] = contestant.order(calls=1)
        if not first["stages"]:
            raise RuntimeError(f"{who} listed nothing")
        times = contestant.order(calls=calls)["nanoseconds"]
        return median(times) / 1e6, first["peak"] - first["before"]


def _rows(sizes: tuple[tuple[int, int], ...], found: dict[tuple[str, int], tuple[float, float]]) -> list[Row]:
    of = [pipelines * stages for pipelines, stages in sizes]
    names = [f"{pipelines:,} of {stages}" for pipelines, stages in sizes]
    last = len(sizes) - 1

    def growth(cost: int, at: int) -> float:
        least = found["function", 0][cost] / of[0]
        return found["function", at][cost] / of[at] / least if least else 0.0

    rows = [
        Row(PART, f"list of {names[last]}: {cost} for each stage ÷ that at {names[0]}", growth(index, last), RATIO, 1.5)
        for index, cost in enumerate(("time", "peak memory"))
    ]
    for at, name in enumerate(names):
        milliseconds, memory = found["function", at]
        bare, bare_memory = found["urllib3", at]
        rows += [
            Row(PART, f"list of {name}: time", milliseconds, "ms"),
            Row(PART, f"list of {name}: time for each stage", milliseconds * 1000 / of[at], "µs"),
            Row(PART, f"list of {name}: time ÷ bare urllib3's", milliseconds / bare, RATIO),
            Row(PART, f"list of {name}: peak memory", memory / 1e6, "MB"),
            Row(PART, f"list of {name}: peak memory for each stage", memory / 1000 / of[at], "kB"),
            Row(
                PART, f"list of {name}: peak memory ÷ bare urllib3's", memory / bare_memory if bare_memory else 0, RATIO
            ),
        ]
    return rows
