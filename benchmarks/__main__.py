"""Runs every benchmark. `make bench` and `make bench-check` call it.

python -m benchmarks --runs 3    # prints the rows of three whole runs and writes docs/benchmarks.md
python -m benchmarks --check     # does each benchmark once, small, and tells no figures
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from benchmarks import cold, cost, lists, report, throughput, turns, warm
from benchmarks.report import Row
from benchmarks.turns import Turns

Part = Callable[[], Turns]
WHOLE: dict[str, Part] = {
    "cold": cold.measure,
    "warm": warm.measure,
    "lists": lists.measure,
    "http": throughput.measure,
}
SMALL: dict[str, Part] = {
    "cold": lambda: cold.measure(rounds=1, turns=1),
    "warm": lambda: warm.measure(creates=2, lists=1),
    "lists": lambda: lists.measure(sizes=((2, 3), (4, 6)), calls=1, calls_of_small=1, turns=1),
    "http": lambda: throughput.measure(seconds=0.1),
}
HOW = (
    """\
**In turn.** A run does a part of one benchmark, then of the next, until all are whole: ten parts of *Cold start* and
*Warm*, three of *Long lists*, and one for each row of *Through HTTP*. A shared machine is slow for seconds, or for a
minute or two; a row in ten parts has that in some of them, which a median leaves out.
""",
    cold.HOW,
    warm.HOW,
    lists.HOW,
    throughput.HOW,
)


def run(parts: dict[str, Part]) -> list[Row]:
    """The rows of one run. What fails ends it."""
    return turns.take(parts, lambda name, took: print(f"{name}: {took:.0f} s", file=sys.stderr, flush=True))


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=WHOLE)
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args(arguments)
    if asked.check:
        report.table([run(SMALL)])
        cost.measure(samples=1, starts=1, memories=(1024,))
        print("Each benchmark works.")
        return
    if asked.only:
        print(report.table([run({asked.only: WHOLE[asked.only]})]))
        return
    runs = []
    for at in range(asked.runs):
        print(f"Run {at + 1} of {asked.runs}", file=sys.stderr, flush=True)
        runs.append(run(WHOLE))
    print(report.table(runs))
    report.PAGE.write_text(report.page(runs, "\n".join(HOW)), encoding="utf-8")


if __name__ == "__main__":
    main()
