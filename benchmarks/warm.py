"""Warm calls: whole event to whole response, in turn with bare round trips and with the providers' own clients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from statistics import median

from benchmarks import artefact, work
from benchmarks.arena import Contestant
from benchmarks.fake_provider import Fake
from benchmarks.report import RATIO, Row
from benchmarks.turns import Turns

PART = "Warm"
CREATES, LISTS = 2000, 240
FRESH = 10
"""So often all contestants are new processes."""
BLOCK = 20
PIPELINES, STAGES = 100, 10
Times = dict[str, list[list[float]]]
"""The microseconds of each contestant's calls, turn by turn."""
HOW = f"""\
**Warm.** Each contestant is a process of its own, so that none pays for another's memory; the built function is
loaded with Lambda's Python, its two layers and its environment, and writes its log and metrics to a file, each line
at once. The fake provider is another process, which answers prepared bytes over kept connections. Contestants take
turns of {BLOCK} creates, after two turns that are not counted: {CREATES:,} creates of each in a run, {LISTS} lists
in turns of {BLOCK // 5}. These are done in {FRESH} parts, each by new processes (lists by twice as many): how fast a
process is depends on where its memory happens to lie. The ratio of two medians is the median of its rounds', in which
both had the same machine. Time is that of `handler(event, context)`, of `create` of the official clients with their
models, and of `json.dumps`, urllib3's round trip and `json.loads` in what is called bare urllib3. The raw round trip
sends the same bytes over a socket and looks at nothing. The secret is cached, as it is for a minute; calls are not
sampled by X-Ray but for the row that says so.
"""


def measure(creates: int = CREATES, lists: int = LISTS) -> Turns:
    """One run. `creates` and `lists` are calls of each contestant."""
    fresh = max(1, min(FRESH, creates // BLOCK))
    sampled = {"_X_AMZN_TRACE_ID": artefact.SAMPLED, "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000"}
    hubspot: Times = defaultdict(list)
    close: Times = defaultdict(list)
    listed: Times = defaultdict(list)
    with Fake(PIPELINES, STAGES) as fake:

        def race(times: Times, kind: str, names: tuple[str, ...], calls: int, block: int, stages: int) -> None:
            with ExitStack() as stack:
                entered = {}
                for name in names:
                    variables = sampled if name == "sampled" else {}
                    who = "function" if name == "sampled" else name
                    entered[name] = stack.enter_context(Contestant(who, kind, fake.port, variables))
                for name, found in _race(entered, calls, block, stages).items():
                    times[name] += found

        part, made = -(-creates // fresh), len(work.STAGES)
        for _ in range(fresh):
            names = ("function", "urllib3", "socket", "official", "sampled")
            race(hubspot, "create-hubspot", names, part, BLOCK, made)
            asked = fake.count
            race(close, "create-close", ("function", "urllib3", "official"), part, BLOCK, made)
            calls = 3 * (2 + -(-part // BLOCK)) * min(BLOCK, part)
            if fake.count - asked != calls:
                raise RuntimeError(f"{fake.count - asked} requests for {calls} creates at Close")
            for _ in range(2):
                each = -(-lists // (2 * fresh))
                race(listed, "list", ("function", "urllib3"), each, BLOCK // 5, PIPELINES * STAGES)
            yield
    return _rows(hubspot, close, listed)


def _race(contestants: Mapping[str, Contestant], calls: int, block: int, stages: int) -> Times:
    """They take turns, each round in the other order."""
    block = min(block, calls)
    times: Times = {name: [] for name in contestants}
    for at in range(-2, -(-calls // block)):
        for name in list(contestants)[:: -1 if at % 2 else 1]:
            found = contestants[name].times(block, stages)
            if at >= 0:
                times[name].append(found)
    return times


def _rows(hubspot: Times, close: Times, listed: Times) -> list[Row]:
    def ratio(title: str, times: Times, to: str, goal: float) -> Row:
        rounds = zip(times["function"], times[to], strict=True)
        return Row(PART, title, median(median(ours) / median(theirs) for ours, theirs in rounds), RATIO, goal)

    def tail(title: str, times: Times, to: str, goal: float) -> Row:
        return Row(PART, title, _at(times["function"], 0.99) / _at(times[to], 0.99), RATIO, goal)

    create = "create, HubSpot, five stages"
    pages = f"list of {PIPELINES} pipelines of {STAGES} stages"
    rows = [
        ratio(f"{create}: p50 ÷ bare urllib3's", hubspot, "urllib3", 1.8),
        tail(f"{create}: p99 ÷ bare urllib3's", hubspot, "urllib3", 2.5),
        ratio(f"{create}: p50 ÷ hubspot-api-client's", hubspot, "official", 0.5),
        ratio("create, Close, one call: p50 ÷ closeio's", close, "official", 0.9),
        ratio(f"{pages}: p50 ÷ bare urllib3's", listed, "urllib3", 3),
    ]
    names = {
        "function": "the function",
        "urllib3": "bare urllib3",
        "socket": "raw round trip",
        "official": "the official client",
        "sampled": "the function, sampled by X-Ray",
    }
    for title, times in ((create, hubspot), ("create, Close", close), (pages, listed)):
        for name, found in times.items():
            rows += [
                Row(PART, f"{title}: {names[name]}, p50", _at(found, 0.5), "µs"),
                Row(PART, f"{title}: {names[name]}, p99", _at(found, 0.99), "µs"),
            ]
    return rows


def _at(turns: Sequence[Sequence[float]], part: float) -> float:
    """The time under which that part of all are."""
    times = sorted(chain(*turns))
    return times[min(int(len(times) * part), len(times) - 1)]
