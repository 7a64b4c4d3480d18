"""The fault matrix: whatever happens to one request of a call, what the caller is told is true.

For each provider, in the worlds of its simulator, and each verb, one fault at each request of the call, on a real
socket. After each trial it is judged what stands at the provider against what the caller was told. `make faults` tries
all of it, prints the tables and writes them to docs/faults.md; its exit code is 1 where anything is wrong.

Beside the faults that hit once there are some that last: from that request on nothing works any more, until the call
has ended, so that what it did cannot be taken back.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

from local import simulators
from local.simulators.base import Fault, Simulator
from tests.contract.conftest import Subject
from tests.faults.judge import State, Told, Trial, as_compared, judge
from unified_crm import providers
from unified_crm.deadline import Deadline
from unified_crm.engine import Options
from unified_crm.errors import UnifiedError
from unified_crm.lists import ListOptions
from unified_crm.transport import Exchange
from unified_crm.verbs import Verbs

PAGE = Path(__file__).resolve().parents[2] / "docs/faults.md"
RESENT = (408, 409, 425, 429, 502, 503, 504)
"""The statuses after which official clients send a call again by themselves."""
ALWAYS = 10_000
SECONDS = 12.0
"""The time that a call has: as much as the longest wait for reads that lag takes, twice."""

# Faults

ONCE: dict[str, Fault | None] = {
    "refused": None,  # nothing listens
    "reset": Fault("reset"),
    "reset after commit": Fault("reset", after=True),
    "cut": Fault("cut"),
    "500": Fault("status", status=500, body={"message": "broken"}),
    "502 after commit": Fault("status", status=502, after=True, body={"message": "bad gateway"}),
    "503": Fault("status", status=503, body={"message": "unavailable"}),
    "429": Fault("rate_limit", retry_after=1),
    "429 without Retry-After": Fault("rate_limit", retry_after=None),
    "HTML": Fault("html"),
    "HTML after commit": Fault("html", after=True),
    "empty 200": Fault("empty"),
    "empty 200 after commit": Fault("empty", after=True),
    "truncated JSON": Fault("truncated"),
    "wrong JSON type": Fault("wrong_type"),
    "wrong JSON type after commit": Fault("wrong_type", after=True),
}
SLOW: dict[str, Fault | None] = {"timeout": Fault("hang"), "timeout after commit": Fault("hang", after=True)}
LASTING: dict[str, Fault | None] = {
    "refused from then on": None,
    "reset after commit, then reset": Fault("reset", repeat=ALWAYS),
    "503 from then on": Fault("status", status=503, body={"message": "unavailable"}, repeat=ALWAYS),
}
FAULTS = {**ONCE, **SLOW, **LASTING}


# Verbs

Held = dict[str, Any]
Call = Callable[[Verbs, Subject, Held], Any]


def _ids(held: Held) -> list[str]:
    return [stage["id"] for stage in held["stages"] if not stage.get("fixed")]


def _update(verbs: Verbs, _: Subject, held: Held) -> Any:
    a, b, *_rest = _ids(held)
    stages = [{"id": a, "name": "Aye"}, {"id": b}, {"name": "Fresh"}]
    return verbs.update_pipeline(held["id"], {"name": "New", "stages": stages})


def _prune(verbs: Verbs, _: Subject, held: Held) -> Any:
    return verbs.update_pipeline(held["id"], {"stages": [{"id": _ids(held)[0], "name": "Aye"}]}, prune=True)


VERBS: dict[str, Call] = {
    "create pipeline": lambda verbs, subject, _: verbs.create_pipeline(subject.values("Fresh")),
    "list pipelines": lambda verbs, _, __: verbs.list_pipelines(ListOptions()),
    "get pipeline": lambda verbs, _, held: verbs.get_pipeline(held["id"]),
    "update pipeline": _update,
    "prune pipeline": _prune,
    "delete pipeline": lambda verbs, _, held: verbs.delete_pipeline(held["id"]),
    "list stages": lambda verbs, _, held: verbs.list_stages(held["id"], ListOptions()),
    "get stage": lambda verbs, _, held: verbs.get_stage(_ids(held)[1], None),
    "create stage": lambda verbs, _, held: verbs.create_stage({"name": "Fresh", "pipeline": {"id": held["id"]}}),
    "update stage": lambda verbs, _, held: verbs.update_stage(_ids(held)[1], {"name": "Bee"}, None),
    "move stage": lambda verbs, _, held: verbs.update_stage(_ids(held)[2], {"position": 0}, held["id"]),
    "delete stage": lambda verbs, _, held: verbs.delete_stage(_ids(held)[1], held["id"]),
}


def verbs_of(provider: str) -> list[str]:
    """The verbs that a provider has."""
    editor = providers.load(provider).pipelines.editor
    return [verb for verb in VERBS if verb != "move stage" or (editor is not None and editor.orders)]


# A trial


@contextmanager
def _standing(provider: str, world: int) -> Iterator[tuple[Subject, Held]]:
    """A new simulator with two pipelines, the second of which the call is about. Ids are the same each time."""
    kept = {name: os.environ.get(name) for name in ("PROVIDER_BASE_URLS", "PROVIDER_CALLS_PER_SECOND")}
    cls = simulators.load(provider)
    settings: dict[str, Any] = dict(cls.worlds[world])
    with cls(**settings) as simulator:
        os.environ["PROVIDER_BASE_URLS"] = json.dumps({provider: simulator.url})
        os.environ["PROVIDER_CALLS_PER_SECOND"] = json.dumps(dict.fromkeys(providers.names(), 0))
        subject = Subject(providers.load(provider), simulator)
        subject.seed("Older", ["One"])
        try:
            yield subject, subject.seed("Sales", ["A", "B", "C"])
        finally:
            for name, value in kept.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


class _Line:
    """The line to the simulator: counts the calls that went over it, and takes it down for some of them."""

    def __init__(self, simulator: Simulator, refused: range = range(0)) -> None:
        self._simulator, self._refused = simulator, refused
        self.calls = 0
        self._held: socket.socket | None = None
        simulator._address = simulator._server.server_address[:2]  # type: ignore[union-attr, assignment]
        self._set()

    def __call__(self, _: Exchange) -> None:
        self.calls += 1
        self._set()

    def restore(self) -> None:
        self._refused = range(0)
        self._set()

    def _set(self) -> None:
        up = self._simulator._server is not None
        if up and self.calls + 1 in self._refused:
            self._simulator.stop()
            # Refuses as nobody would, and keeps the port from the many others that look for one meanwhile.
            self._held = socket.socket()
            self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._held.bind(self._simulator._address)
        elif not up and self.calls + 1 not in self._refused:
            self._simulator.start()
            if self._held:
                self._held.close()


def _call(subject: Subject, verb: str, held: Held, line: _Line, seconds: float) -> Told:
    verbs = Verbs(subject.account(), Options(), Deadline(seconds), line, creates=True)
    try:
        result = VERBS[verb](verbs, subject, held)
    except UnifiedError as error:
        return Told(error)
    if verb.startswith("delete"):
        return Told(deleted=result.unified["id"])
    shown = [unified for unified, _ in result.items] if verb.startswith("list") else [result.unified]
    if not verb.endswith(("stage", "stages")):
        return Told(pipelines=[as_compared(each) or {} for each in shown])
    return Told(
        stages=[
            {
                **{key: each.get(key) for key in ("id", "name", "status", "position")},
                "pipeline": each["pipeline"]["id"],
            }
            for each in shown
        ]
    )


def _seconds(verb: str, fault: str) -> float:
    """A call of which an answer is waited for in vain has little time, one that looks for it twice some more."""
    if fault in SLOW:
        return 3.2 if verb == "create pipeline" else 1.2
    return 2.5 if fault in LASTING else SECONDS


def without_fault(provider: str, world: int, verb: str) -> tuple[Trial, int]:
    """A call as it should be, and of how many requests it is."""
    with _standing(provider, world) as (subject, held):
        before, line = State.of(subject.simulator), _Line(subject.simulator)
        told = _call(subject, verb, held, line, SECONDS)
        now = State.of(subject.simulator)
    return Trial(verb, "none", before, now, now, told), line.calls


def try_one(provider: str, world: int, verb: str, fault: str, step: int, asked: State) -> Trial:
    """A call whose `step`-th request, counted from 1, meets a fault; sent again where clients would do so."""
    with _standing(provider, world) as (subject, held):
        simulator, before = subject.simulator, State.of(subject.simulator)
        made = FAULTS[fault]
        line = _Line(simulator, range(step, step + 1 if fault in ONCE else ALWAYS) if made is None else range(0))
        if made is not None:
            first = replace(made, at=step, repeat=1, after=made.after or (fault in LASTING and made.kind == "reset"))
            simulator.fault(first)
            if fault in LASTING:
                simulator.fault(replace(made, at=step + 1))
        told = _call(subject, verb, held, line, _seconds(verb, fault))
        if line.calls < step:
            raise AssertionError(f"{provider}, {verb}: request {step} was not reached")
        simulator.clear_faults()
        line.restore()
        now, again = State.of(simulator), None
        if told.error is not None and told.error.status in RESENT:
            again = _call(subject, verb, held, line, SECONDS), State.of(simulator)
        tellable = _tellable(subject)
    lasting = fault in LASTING
    return Trial(verb, fault, before, asked, now, told, tellable, lasting or fault in SLOW, lasting, again)


def _tellable(subject: Subject) -> bool:
    added = subject.simulator.world.get("ready_made")
    known = not isinstance(added, tuple) or {*added} <= {*subject.provider.pipelines.ready_made}
    return known and "created_at" in subject.pipeline


# The matrix


@dataclass(frozen=True)
class Cell:
    """What came of one fault at all requests of one verb."""

    provider: str
    verb: str
    fault: str
    steps: int
    trials: int = 0
    succeeded: int = 0
    duplicates: int = 0
    leftovers: int = 0
    wrong: int = 0
    unknown: int = 0
    partial: int = 0
    findings: tuple[str, ...] = ()


Task = tuple[str, int, str, str]
"""Provider, number of the world, verb, fault."""


def tasks() -> list[Task]:
    """The whole matrix, what takes longest first. What lasts or takes long is tried in the first world only."""
    found = []
    for fault in (*SLOW, *LASTING, *ONCE):
        for name in providers.names():
            worlds = range(len(simulators.load(name).worlds) if fault in ONCE else 1)
            found += [(name, world, verb, fault) for world in worlds for verb in verbs_of(name)]
    return sorted(found, key=lambda task: (task[3] in SLOW, task[3] in LASTING, "429" in task[3]), reverse=True)


def run(task: Task) -> Cell:
    """One cell of the matrix."""
    provider, world, verb, fault = task
    clean, steps = without_fault(provider, world, verb)
    if wrong := judge(clean).findings:
        raise AssertionError(f"{provider}, {verb}, without a fault: {wrong}")
    return tally(task, steps, [try_one(provider, world, verb, fault, step + 1, clean.now) for step in range(steps)])


def tally(task: Task, steps: int, trials: Sequence[Trial]) -> Cell:
    """The counts over the trials of one cell, one for each step."""
    provider, world, verb, fault = task
    verdicts = [judge(each) for each in trials]
    findings = [
        f"{provider} (world {world}), {verb}, {fault} at request {step} of {steps}: {'; '.join(verdict.findings)}.\n"
        f"    told: {trial.told}\n    stands: {json.dumps(trial.now.pipelines[1:])}"
        for step, (trial, verdict) in enumerate(zip(trials, verdicts, strict=True), start=1)
        if verdict.findings
    ]
    return Cell(
        provider,
        verb,
        fault,
        steps,
        trials=len(trials),
        succeeded=sum(each.told.error is None for each in trials),
        duplicates=sum(bool(each.duplicates) for each in verdicts),
        leftovers=sum(bool(each.leftovers) for each in verdicts),
        wrong=sum(bool(each.wrong) for each in verdicts),
        unknown=sum(each.unknown for each in verdicts),
        partial=sum(each.partial for each in verdicts),
        findings=tuple(findings),
    )


COLUMNS = {
    "faults tried": "trials",
    "duplicates": "duplicates",
    "leftovers not reported": "leftovers",
    "wrong answers": "wrong",
    "unknown outcomes": "unknown",
    "partial failures reported": "partial",
}


def table(cells: Iterable[Cell], *by: str) -> list[str]:
    """The counts of `cells`, a row for each value of the fields `by`, as lines of Markdown."""

    def key(cell: Cell) -> tuple[str, ...]:
        return tuple(str(getattr(cell, each)) for each in by)

    order = [*providers.names(), *VERBS, *FAULTS]
    with_steps = "verb" in by
    heads = [*by, *(["steps"] if with_steps else []), *COLUMNS]
    rows = []
    cells = sorted(cells, key=lambda cell: [order.index(each) for each in key(cell)])
    for values, grouped in groupby(cells, key):
        group = list(grouped)
        steps = sorted({each.steps for each in group})
        said = [str(steps[0]) if len(steps) == 1 else f"{steps[0]}-{steps[-1]}"] if with_steps else []
        rows.append([*values, *said, *(_sum(group, name) for name in COLUMNS.values())])
    total = [_sum(cells, name) for name in COLUMNS.values()]
    rows.append(["**all**", *[""] * (len(heads) - len(total) - 1), *total])
    widths = [max(len(row[index]) for row in (heads, *rows)) for index in range(len(heads))]
    lines = [
        f"| {' | '.join(text.ljust(width) for text, width in zip(row, widths, strict=True))} |"
        for row in (heads, *rows)
    ]
    return [lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]]


def _sum(cells: Iterable[Cell], name: str) -> str:
    return str(sum(getattr(cell, name) for cell in cells))


PROSE = """\
Each verb of each provider is called against the provider's simulator, over a real socket, with one fault at one of the
requests that the call makes; so for each request, each fault, and each world of the simulator. Then what stands there
is compared with what stood there before, with what was asked for, and with what the caller was told:

- **success** has to mean: as asked, and the answer shows it;
- **an error of the provider**: as before. Stages that had to be made again have other ids, and the error says so;
- **`partial_failure`**: its `leftovers` name each thing that is not as before. Where the provider cannot be asked any
  more, that is the pipeline, which may differ;
- **`outcome_unknown`**: only where the provider cannot be asked, or there was no time to, or what it shows does not
  tell what was made from what was there; and then at most one pipeline was made;
- and a status after which official clients send a call again is followed by the same call, which must not make
  anything twice.

A fault hits one request; what is said to go on *from then on* hits all later ones of the call too, so that nothing can
be taken back or looked at. Timeouts and what goes on are tried in the first world of each simulator only. *Steps* are
the requests of a call without a fault."""


def page(cells: Sequence[Cell]) -> str:
    """docs/faults.md."""
    lines = [
        "# What faults do",
        "<!-- Generated by tests/faults/matrix.py. Do not edit: run `make faults`. -->",
        "",
        *PROSE.splitlines(),
        "",
        "## By provider and verb",
        "",
        *table(cells, "provider", "verb"),
        "",
        "## By fault",
        "",
        *table(cells, "fault"),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Try everything, or only the tasks in whose text all `arguments` are; the page is written for everything."""
    todo = [task for task in tasks() if all(each in " ".join(map(str, task)) for each in arguments)]
    forks = "forkserver" in get_all_start_methods()
    context = get_context("forkserver" if forks else "spawn")
    if forks:
        context.set_forkserver_preload(["tests.contract.conftest"])  # and all that it imports: once, not by each
    cells: list[Cell] = []
    # Nearly all of the time is waiting, so there are many more processes than processors.
    with context.Pool(min(24, len(todo))) as pool:
        for cell in pool.imap_unordered(run, todo):
            cells.append(cell)
            for finding in cell.findings:
                sys.stderr.write(f"{finding}\n")
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{len(cells)} of {len(todo)} ")
    sys.stdout.write("\n".join(("", *table(cells, "provider", "verb"), "", *table(cells, "fault"), "")))
    if not arguments:
        PAGE.write_text(page(cells), encoding="utf-8")
    return 1 if any(cell.findings for cell in cells) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
