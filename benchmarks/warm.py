"""Warm calls: whole event to whole response, in turn with bare round trips and with the providers' own clients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from statistics import median

from benchmarks import artefact, work, xray
from benchmarks.arena import Contestant
from benchmarks.fake_provider import CHUNK, Fake
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
at once. The fake provider is another process, which answers prepared bytes over kept connections: with their length,
and in the rows *in chunks* of at most {CHUNK:,} bytes without it, as servers do that write while they make an answer.
Contestants take turns of {BLOCK} creates, after two turns that are not counted: {CREATES:,} creates of each in a run,
{LISTS} lists in turns of {BLOCK // 5}. These are done in {FRESH} parts, each by new processes (lists by twice as many):
how fast a process is depends on where its memory happens to lie. The ratio of two medians is the median of its
rounds', in which both had the same machine, and so is not the quotient of the microseconds below. Time is that of
`handler(event, context)`, of `create` of the official clients with their models, and of `json.dumps`, urllib3's round
trip and `json.loads` in what is called bare urllib3. The raw round trip sends the same bytes over a socket and looks at
nothing. The secret is cached, as it is for a minute; calls are not sampled by X-Ray but for the row that says so. Each
process collects garbage as it does by itself: Python's defaults, and what the function sets for itself (it looks
through its objects less often, which in a list is some 4 % of the time). What a call made is dropped within its time by
the function, and after it by bare urllib3, whose answer it is.
"""


def measure(creates: int = CREATES, lists: int = LISTS) -> Turns:
    """One run. `creates` and `lists` are calls of each contestant."""
    fresh = max(1, min(FRESH, creates // BLOCK))
    found: dict[tuple[str, bool], Times] = defaultdict(lambda: defaultdict(list))
    with ExitStack() as whole:
        daemon = whole.enter_context(xray.daemon())
        fakes = [whole.enter_context(Fake(PIPELINES, STAGES, chunked=chunked)) for chunked in (False, True)]
        variables = {"_X_AMZN_TRACE_ID": artefact.SAMPLED, "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{daemon.port}"}

        def race(kind: str, chunked: bool, names: tuple[str, ...], calls: int, block: int, stages: int) -> None:
            fake = fakes[chunked]
            asked = fake.count
            with ExitStack() as stack:
                entered = {}
                for name in names:
                    who, more = ("function", variables) if name == "sampled" else (name, None)
                    entered[name] = stack.enter_context(Contestant(who, kind, fake.port, more))
                for name, times in _race(entered, calls, block, stages).items():
                    found[kind, chunked][name] += times
            block = min(block, calls)
            expected = len(names) * (2 + -(-calls // block)) * block
            if fake.count - asked != expected:
                raise RuntimeError(f"{fake.count - asked} requests for {expected} of {kind}")

        part, made = -(-creates // fresh), len(work.STAGES)
        for _ in range(fresh):
            race("create-hubspot", False, ("function", "urllib3", "socket", "official", "sampled"), part, BLOCK, made)
            race("create-close", False, ("function", "urllib3", "socket", "official"), part, BLOCK, made)
            race("create-hubspot", True, ("function", "urllib3", "official"), part, BLOCK, made)
            race("create-close", True, ("function", "official"), part, BLOCK, made)
            each = -(-lists // (2 * fresh))
            for _ in range(2):
                race("list", False, ("function", "urllib3", "socket"), each, BLOCK // 5, PIPELINES * STAGES)
                race("list", True, ("function", "urllib3"), each, BLOCK // 5, PIPELINES * STAGES)
            yield
        if not daemon.received():
            raise RuntimeError("no trace came of the sampled calls")
    return _rows(found)


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


def _rows(found: Mapping[tuple[str, bool], Times]) -> list[Row]:
    titles = {
        "create-hubspot": "create, HubSpot, five stages",
        "create-close": "create, Close, one call",
        "list": f"list of {PIPELINES} pipelines of {STAGES} stages",
    }
    rows: list[Row] = []
    for chunked in (False, True):
        hubspot, close, listed = (found[kind, chunked] for kind in titles)
        create, once, pages = (f"{title}, in chunks" if chunked else title for title in titles.values())
        rows += [
            _ratio(f"{create}: p50 ÷ bare urllib3's", hubspot, "urllib3", 1.8),
            _tail(f"{create}: p99 ÷ bare urllib3's", hubspot, "urllib3", 2.5),
            _ratio(f"{create}: p50 ÷ hubspot-api-client's", hubspot, "official", 0.5),
            _ratio(f"{once}: p50 ÷ closeio's", close, "official", 0.9),
            _ratio(f"{pages}: p50 ÷ bare urllib3's", listed, "urllib3", 3),
        ]
    names = {
        "function": "the function",
        "urllib3": "bare urllib3",
        "socket": "raw round trip",
        "official": "the official client",
        "sampled": "the function, sampled by X-Ray",
    }
    for kind, title in titles.items():
        for name, times in found[kind, False].items():
            rows += [
                Row(PART, f"{title}: {names[name]}, p50", _at(times, 0.5), "µs"),
                Row(PART, f"{title}: {names[name]}, p99", _at(times, 0.99), "µs"),
            ]
    return rows


def _ratio(title: str, times: Times, to: str, goal: float) -> Row:
    rounds = zip(times["function"], times[to], strict=True)
    return Row(PART, title, median(median(ours) / median(theirs) for ours, theirs in rounds), RATIO, goal)


def _tail(title: str, times: Times, to: str, goal: float) -> Row:
    return Row(PART, title, _at(times["function"], 0.99) / _at(times[to], 0.99), RATIO, goal)


def _at(turns: Sequence[Sequence[float]], part: float) -> float:
    """The time under which that part of all are."""
    times = sorted(chain(*turns))
    return times[min(int(len(times) * part), len(times) - 1)]
