"""Long lists: whether time and peak memory grow in proportion to what the provider answers."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.arena import Contestant
from benchmarks.fake_provider import Fake
from benchmarks.report import RATIO, Row
from benchmarks.turns import Turns

PART = "Long lists"
SIZES = ((100, 10), (250, 30), (1000, 100))
"""Pipelines, and stages of each. All but the largest fit into one answer."""
TURNS = 3
CALLS = 3
CALLS_OF_SMALL = 20
HOW = f"""\
**Long lists.** HubSpot answers all its pipelines at once; `limit=1000` asks for all of them, and the page ends
where an answer would grow too large for Lambda: at 4 MB, so that of the largest list a small part is answered, as its
own row tells, and the rest is read and dropped. {TURNS} times in a run each size has a fresh process of the built
function, which has answered a list of one pipeline before. Peak memory is the most that is resident during its first
long list, less what was before it; time is the median of {CALLS_OF_SMALL} calls at the smallest size and of {CALLS} at
the others. Both are divided by the stages in the provider's reply. The goal is that none of the larger sizes costs more
than 1.5 times as much for each stage as the smallest, by the median of the {TURNS} turns' own ratios.
"""
Costs = dict[str, list[tuple[float, float]]]
"""By who, and turn by turn: milliseconds and bytes of a list."""


def measure(
    sizes: tuple[tuple[int, int], ...] = SIZES,
    calls: int = CALLS,
    calls_of_small: int = CALLS_OF_SMALL,
    turns: int = TURNS,
) -> Turns:
    """One run."""
    found: list[Costs] = [{"function": [], "urllib3": []} for _ in sizes]
    answered = [0] * len(sizes)
    for _ in range(turns):
        for at, (pipelines, stages) in enumerate(sizes):
            with Fake(pipelines, stages) as fake:
                for who in found[at]:
                    cost, shown = _costs(who, fake.port, calls if at else calls_of_small)
                    found[at][who].append(cost)
                    if who == "function":
                        answered[at] = shown
        yield
    return _rows(sizes, found, answered)


def _costs(who: str, port: int, calls: int) -> tuple[tuple[float, float], int]:
    """Milliseconds and bytes of a list, and how many stages it answered."""
    with Contestant(who, "lists", port) as contestant:
        first: dict[str, Any] = contestant.order(calls=1)
        if not first["stages"]:
            raise RuntimeError(f"{who} listed nothing")
        times = contestant.order(calls=calls)["nanoseconds"]
        return (median(times) / 1e6, first["peak"] - first["before"]), first["stages"]


def _rows(sizes: tuple[tuple[int, int], ...], found: list[Costs], answered: list[int]) -> list[Row]:
    of = [pipelines * stages for pipelines, stages in sizes]
    names = [f"{pipelines:,} of {stages}" for pipelines, stages in sizes]

    def growth(cost: int, at: int) -> float:
        pairs = zip(found[at]["function"], found[0]["function"], strict=True)
        return median(_ratio(large[cost] / of[at], small[cost] / of[0]) for large, small in pairs)

    rows = [
        Row(PART, f"list of {names[at]}: {cost} for each stage ÷ that at {names[0]}", growth(index, at), RATIO, 1.5)
        for at in range(1, len(sizes))
        for index, cost in enumerate(("time", "peak memory"))
    ]
    for at, name in enumerate(names):
        milliseconds, memory = (median(each) for each in zip(*found[at]["function"], strict=True))
        pairs = list(zip(found[at]["function"], found[at]["urllib3"], strict=True))
        rows += [
            Row(PART, f"list of {name}: stages in the answer", answered[at], ""),
            Row(PART, f"list of {name}: time", milliseconds, "ms"),
            Row(PART, f"list of {name}: time for each stage", milliseconds * 1000 / of[at], "µs"),
            Row(PART, f"list of {name}: time ÷ bare urllib3's", median(_ratio(a[0], b[0]) for a, b in pairs), RATIO),
            Row(PART, f"list of {name}: peak memory", memory / 1e6, "MB"),
            Row(PART, f"list of {name}: peak memory for each stage", memory / 1000 / of[at], "kB"),
            Row(
                PART,
                f"list of {name}: peak memory ÷ bare urllib3's",
                median(_ratio(a[1], b[1]) for a, b in pairs),
                RATIO,
            ),
        ]
    return rows


def _ratio(one: float, other: float) -> float:
    """0 where there is nothing to compare: where the system does not tell memory."""
    return one / other if other else 0.0
