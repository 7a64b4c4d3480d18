"""A slice of the fault matrix, and that its judge can fail. `make faults` runs the whole."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest

from tests.faults import matrix
from tests.faults.judge import State, Told, Trial, as_compared, judge
from tests.faults.matrix import ONCE, Cell, tally, try_one, verbs_of, without_fault
from unified_crm import providers
from unified_crm.errors import (
    NotFound,
    OutcomeUnknown,
    PartialFailure,
    ProviderBadReply,
    ProviderTimeout,
    RemoteError,
    UnifiedError,
)

FIRST = {"id": "1", "name": "Older", "stages": [{"id": "2", "name": "One", "status": "active"}]}
NEW = {"id": "3", "name": "Fresh", "stages": [{"id": "4", "name": "One", "status": "active"}]}
TWIN: dict[str, Any] = {"id": "5", "name": "Fresh", "stages": [{"id": "6", "name": "One", "status": "active"}]}
BEFORE, ASKED, TWICE = State([FIRST]), State([FIRST, NEW]), State([FIRST, NEW, TWIN])
TIMEOUT, BROKEN = ProviderTimeout("late"), ProviderBadReply("broken")


@pytest.mark.parametrize("provider", providers.names())
def test_each_fault_meets_each_provider_and_the_caller_is_told_the_truth(provider: str) -> None:
    clean = {verb: without_fault(provider, 0, verb) for verb in verbs_of(provider)}
    assert {verb: judge(trial).findings for verb, (trial, _) in clean.items()} == {verb: [] for verb in clean}
    writes = cycle(verb for verb in clean if not verb.startswith(("get", "list")))
    for fault, verb in zip(ONCE, writes, strict=False):
        trial, steps = clean[verb]
        # The last request but one is a write where there are so many, the last one a read.
        cell = tally((provider, 0, verb, fault), 1, [try_one(provider, 0, verb, fault, max(1, steps - 1), trial.now)])
        assert cell.findings == ()


def _judged(now: State, error: UnifiedError | None = None, **trial: Any) -> list[str]:
    shown = [] if error else [as_compared(NEW) or {}]
    told = trial.pop("told", Told(error, shown))
    return judge(Trial("create pipeline", "500", BEFORE, ASKED, now, told, **trial)).findings


def _left(*ids: str) -> PartialFailure:
    return PartialFailure("broken", leftovers=[{"resource": "pipeline", "id": id_} for id_ in ids], cause=BROKEN)


def test_the_judge_is_content_with_what_is_true() -> None:
    assert _judged(ASKED) == []
    assert _judged(BEFORE, BROKEN) == []
    assert _judged(ASKED, _left("3")) == []
    assert _judged(ASKED, OutcomeUnknown("who knows"), silent=True) == []
    assert _judged(ASKED, OutcomeUnknown("who knows"), tellable=False) == []
    assert _judged(BEFORE, BROKEN, again=(Told(), ASKED)) == []


@pytest.mark.parametrize(
    ("now", "error", "kind"),
    [
        (TWICE, None, "there 2 times"),
        (TWICE, OutcomeUnknown("who knows"), "there 2 times"),
        (BEFORE, None, "not as asked"),
        (ASKED, BROKEN, "left behind and not named"),
        (State([FIRST], records=1), BROKEN, "records differ"),
        (State([]), BROKEN, "gone"),
        (State([{**FIRST, "name": "Else"}]), BROKEN, "not as before"),
        (ASKED, _left("1"), "not named"),
        (BEFORE, _left("1"), "as before"),
        (ASKED, _left("3", "7"), "never there"),
        (ASKED, OutcomeUnknown("who knows"), "can be told"),
        (BEFORE, NotFound("none"), "not about the provider"),
        (BEFORE, RemoteError("none", code="not_found", remote_status=404, body=None), "never said"),
    ],
)
def test_the_judge_finds_what_is_not(now: State, error: UnifiedError | None, kind: str) -> None:
    assert any(kind in each for each in _judged(now, error)), _judged(now, error)


def test_the_judge_compares_what_was_shown_with_what_stands_there() -> None:
    other = {**(as_compared(NEW) or {}), "name": "Else"}
    assert any("shown is" in each for each in _judged(ASKED, told=Told(pipelines=[other])))


def test_the_judge_finds_what_sending_again_does() -> None:
    assert any("2 times" in each for each in _judged(BEFORE, BROKEN, again=(Told(), TWICE)))
    assert any("has changed" in each for each in _judged(BEFORE, BROKEN, again=(Told(TIMEOUT), ASKED)))
    assert any("without a fault" in each for each in _judged(BEFORE, BROKEN, again=(Told(TIMEOUT), BEFORE)))


def test_the_judge_finds_a_stage_that_is_there_twice() -> None:
    again = {"id": "8", "name": "One", "status": "active"}
    now = State([{**FIRST, "stages": [*FIRST["stages"], again]}])
    assert any("'One' is there 2 times" in each for each in _judged(now, BROKEN))


def test_a_cell_with_a_finding_says_where_and_what_was_told() -> None:
    trial = Trial("create pipeline", "500", BEFORE, ASKED, TWICE, Told(BROKEN))
    cell = tally(("close", 0, "create pipeline", "500"), 1, [trial])
    assert (cell.trials, cell.duplicates, cell.leftovers, cell.wrong) == (1, 1, 1, 1)
    assert "close (world 0), create pipeline, 500 at request 1 of 1" in cell.findings[0]
    assert "told: ProviderBadReply 502" in cell.findings[0]


def test_the_page_has_a_row_for_each_verb_of_each_provider() -> None:
    found = [Cell(name, verb, "500", 1, trials=1) for name in providers.names() for verb in verbs_of(name)]
    text, written = matrix.page(found), matrix.PAGE.read_text(encoding="utf-8")
    for title in ("## By provider and verb", "## By fault"):
        assert title in text
        assert title in written, "run `make faults`"
    rows = [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in written.splitlines() if line[:2] == "| "]
    assert {(each.provider, each.verb) for each in found} <= {*rows}, "run `make faults`"
