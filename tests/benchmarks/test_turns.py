"""Benchmarks take turns, and all of them end with the one that fails."""

from __future__ import annotations

import pytest

from benchmarks import turns
from benchmarks.report import Row
from benchmarks.turns import Turns


def test_all_take_turns_and_rows_keep_their_order() -> None:
    seen: list[str] = []
    ended: list[str] = []

    def benchmark(name: str, times: int) -> Turns:
        for at in range(times):
            seen.append(f"{name}{at}")
            yield
        return [Row(name, "time", times, "ms")]

    rows = turns.take(
        {"a": lambda: benchmark("a", 3), "b": lambda: benchmark("b", 1)}, lambda name, _: ended.append(name)
    )

    assert seen == ["a0", "b0", "a1", "a2"]
    assert [(each.part, each.figure) for each in rows] == [("a", 3), ("b", 1)]
    assert ended == ["b", "a"]


def test_one_that_fails_ends_all() -> None:
    closed: list[bool] = []

    def patient() -> Turns:
        try:
            while True:
                yield
        finally:
            closed.append(True)

    def failing() -> Turns:
        yield
        raise RuntimeError("no answer")

    with pytest.raises(RuntimeError, match="no answer"):
        turns.take({"a": patient, "b": failing}, lambda *_: None)
    assert closed == [True]
