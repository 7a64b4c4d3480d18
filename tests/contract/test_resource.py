"""List, get, update and delete, on pipelines and on stages, the same for every provider."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.simulators.base import Fault, Simulator
from tests.contract.conftest import Subject, first_world, where
from unified_crm.accounts import base_url
from unified_crm.errors import (
    InUse,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    PartialFailure,
    ProviderError,
    RemoteError,
    UnifiedError,
    Unsupported,
)
from unified_crm.lists import Cursor, ListOptions
from unified_crm.provider import Provider
from unified_crm.verbs import Verbs


def _ids(pipeline: dict[str, Any]) -> list[str]:
    return [stage["id"] for stage in pipeline["stages"] if not stage.get("fixed")]


def _writes_apart(provider: Provider, _: Simulator) -> bool:
    """Others change all stages in one write, which is made or is not, and answer it with what stands there."""
    return provider.pipelines.editor is not None and provider.pipelines.editor.replace is None


def _has_fixed_status(provider: Provider, _: Simulator) -> bool:
    stage = provider.pipelines.table(str(provider.entities.to_remote("opportunity")))["stages"].each
    return stage is not None and any(row.unified == "status" and row.fixed for row in stage)


def _can_order(subject: Subject) -> bool:
    editor = subject.provider.pipelines.editor
    return editor is not None and editor.orders


def needs_order(subject: Subject) -> None:
    if not _can_order(subject):
        pytest.skip(f"{subject.provider.label} does not let the order be changed")


# Reading


def test_a_pipeline_is_read_as_it_stands_there(subject: Subject) -> None:
    held = subject.seed()
    result = subject.verbs().get_pipeline(held["id"])
    assert (result.unified["id"], result.unified["name"]) == (held["id"], "Sales")
    assert [(s["id"], s["name"], s["status"]) for s in result.unified["stages"]] == [
        (s["id"], s["name"], s["status"]) for s in held["stages"]
    ]
    assert subject.simulator.received[-1].method == "GET"
    assert held["name"] in str(result.raw)


def test_a_pipeline_that_is_not_there_is_the_providers_own_404(subject: Subject) -> None:
    for verb in ("get_pipeline", "delete_pipeline"):
        with pytest.raises(RemoteError) as caught:
            getattr(subject.verbs(), verb)("12345")
        assert (caught.value.code, caught.value.status) == ("not_found", 404)
    with pytest.raises(RemoteError) as caught:
        subject.verbs().update_pipeline("12345", {"name": "New"})
    assert caught.value.code == "not_found"


def test_five_pipelines_come_once_each_and_in_order_at_two_a_page(subject: Subject) -> None:
    names = [subject.seed(f"Pipeline {index}")["name"] for index in range(5)]
    shown = [each["name"] for each in subject.simulator.pipelines()]
    assert sorted(shown) == sorted(names)
    seen: list[str] = []
    cursor: str | None = None
    sizes = []
    while True:
        page = subject.verbs().list_pipelines(ListOptions(2, Cursor.decode(cursor) if cursor else None))
        sizes.append(len(page.items))
        seen += [unified["name"] for unified, _ in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert (seen, sizes) == (shown, [2, 2, 1])


def test_what_a_list_shows_as_the_providers_own_is_what_it_was_made_of(subject: Subject) -> None:
    """Some of the records are shown as they came, so that no flow may change one that it was handed."""
    for index in range(3):
        subject.seed(f"Pipeline {index} \u00e9")
    for found in (subject.verbs().list_pipelines(ListOptions()), subject.verbs().list_stages(None, ListOptions())):
        assert found.items
        shown = [json.loads(text) for text in found.texts or []]
        assert shown == [{**unified, "remote_data": record} for unified, record in found.items]


@pytest.mark.parametrize("gone", [[0], [1], [0, 1], [2]])
def test_a_list_goes_on_at_the_right_place_when_something_was_deleted(subject: Subject, gone: list[int]) -> None:
    for index in range(6):
        subject.seed(f"Pipeline {index}")
    order = [each["id"] for each in subject.simulator.pipelines()]
    first = subject.verbs().list_pipelines(ListOptions(2))
    assert first.next_cursor is not None
    for index in gone:
        subject.verbs().delete_pipeline(order[index])
    second = subject.verbs().list_pipelines(ListOptions(9, Cursor.decode(first.next_cursor)))
    seen = [unified["id"] for unified, _ in [*first.items, *second.items]]
    assert len(seen) == len(set(seen))
    assert set(order) - {order[index] for index in gone} <= set(seen)


def test_a_list_takes_no_more_calls_however_many_stages_there_are(subject: Subject) -> None:
    counts = []
    for size in (1, 10):
        subject.simulator.reset()
        for index in range(size):
            subject.seed(f"Pipeline {index}", [f"Stage {number}" for number in range(size)])
        page = subject.verbs().list_stages(None, ListOptions(1000))
        shown = subject.names({"stages": [unified for unified, _ in page.items]})
        assert len(shown) == size * size
        counts.append(len(subject.simulator.received))
    assert counts[0] == counts[1] <= 2


def test_stages_say_where_they_are(subject: Subject) -> None:
    held = subject.seed()
    subject.seed("Other", ["Else"])
    page = subject.verbs().list_stages(held["id"], ListOptions())
    assert [(unified["name"], unified["position"]) for unified, _ in page.items][:3] == [
        ("One", 0),
        ("Two", 1),
        ("Three", 2),
    ]
    assert {unified["pipeline"]["id"] for unified, _ in page.items} == {held["id"]}
    assert {unified["pipeline"]["name"] for unified, _ in page.items} == {"Sales"}
    everything = subject.verbs().list_stages(None, ListOptions())
    assert len(subject.names({"stages": [unified for unified, _ in everything.items]})) == 4


@pytest.mark.parametrize("with_pipeline", [True, False])
def test_a_stage_is_found_by_its_id(subject: Subject, with_pipeline: bool) -> None:
    subject.seed("Other", ["Else"])
    held = subject.seed()
    pipeline_id = held["id"] if with_pipeline else None
    result = subject.verbs().get_stage(held["stages"][1]["id"], pipeline_id)
    assert (result.unified["name"], result.unified["position"]) == ("Two", 1)
    assert result.unified["pipeline"] == {"id": held["id"], "name": "Sales"}
    with pytest.raises(NotFound):
        subject.verbs().get_stage("12345", pipeline_id)


# Updating


def test_a_pipeline_is_renamed_and_its_stages_left_alone(subject: Subject) -> None:
    held = subject.seed()
    before = subject.simulator.snapshot(times=False)
    result = subject.verbs().update_pipeline(held["id"], {"name": "Renamed"})
    now = subject.held(held["id"])
    assert now == {**held, "name": "Renamed"}
    assert result.unified["name"] == "Renamed"
    subject.verbs().update_pipeline(held["id"], {"name": "Sales"})
    assert subject.simulator.snapshot(times=False) == before


def test_stages_that_are_not_named_keep_their_ids_places_and_properties(subject: Subject) -> None:
    held = subject.seed(stages=["A", "B", "C", "D"])
    ids = _ids(held)
    records = _records(subject, held["id"])
    changes = [{"id": ids[1], "name": "Bee"}, {"id": ids[3], "name": "Dee"}]
    result = subject.verbs().update_pipeline(held["id"], {"stages": changes})
    assert subject.names(subject.held(held["id"])) == ["A", "Bee", "C", "Dee"] == subject.names(result.unified)
    after = _records(subject, held["id"])
    assert list(after) == list(records)
    assert {id_: after[id_] for id_ in (ids[0], ids[2])} == {id_: records[id_] for id_ in (ids[0], ids[2])}


def _records(subject: Subject, pipeline_id: str) -> dict[str, dict[str, Any]]:
    """The provider's own records of the stages, by their unified ids, in order, without what its clock fills in."""
    record = subject.verbs().get_pipeline(pipeline_id).record
    times = subject.simulator.times
    return {
        subject.stage["id"].to_unified(each): {key: value for key, value in each.items() if key not in times}
        for each in subject.pipeline["stages"].items(record)
    }


def test_new_stages_are_added_after_those_that_are_there(subject: Subject) -> None:
    held = subject.seed(stages=["A", "B"])
    subject.verbs().update_pipeline(held["id"], {"stages": [{"name": "C"}, {"name": "D"}]})
    now = subject.held(held["id"])
    assert subject.names(now) == ["A", "B", "C", "D"]
    assert now is not None
    assert _ids(now)[:2] == _ids(held)


def test_stages_come_in_the_given_order(subject: Subject) -> None:
    needs_order(subject)
    held = subject.seed(stages=["A", "B", "C"])
    a, b, c = _ids(held)
    subject.verbs().update_pipeline(held["id"], {"stages": [{"id": c}, {"name": "New"}, {"id": a}, {"id": b}]})
    now = subject.held(held["id"])
    assert subject.names(now) == ["C", "New", "A", "B"]
    assert now is not None
    assert {a, b, c} < set(_ids(now))


def test_named_stages_change_places_around_those_that_are_not_named(subject: Subject) -> None:
    needs_order(subject)
    held = subject.seed(stages=["A", "B", "C", "D"])
    a, b, c, d = _ids(held)
    before = _records(subject, held["id"])
    subject.verbs().update_pipeline(held["id"], {"stages": [{"id": c}, {"id": a}]})
    assert subject.names(subject.held(held["id"])) == ["C", "B", "A", "D"]
    after = _records(subject, held["id"])
    assert (after[b], after[d]) == (before[b], before[d])


@where(lambda provider, _: not (provider.pipelines.editor and provider.pipelines.editor.orders))
def test_a_change_of_order_that_cannot_be_made_is_refused_before_anything_is_written(subject: Subject) -> None:
    held = subject.seed(stages=["A", "B"])
    a, b = _ids(held)
    with pytest.raises(Unsupported, match="order"):
        subject.verbs().update_pipeline(held["id"], {"stages": [{"id": b}, {"id": a}]})
    assert subject.held(held["id"]) == held


def test_pruning_deletes_what_is_not_named(subject: Subject) -> None:
    held = subject.seed(stages=["A", "B", "C", "D"])
    ids = _ids(held)
    subject.verbs().update_pipeline(held["id"], {"stages": [{"id": ids[0]}, {"id": ids[2], "name": "Sea"}]}, prune=True)
    assert subject.names(subject.held(held["id"])) == ["A", "Sea"]


def test_pruning_a_stage_in_use_is_refused_and_everything_put_back(subject: Subject) -> None:
    held = subject.seed(stages=["A", {"name": "B", "records": 2}, "C", "D"])
    ids = _ids(held)
    with pytest.raises(UnifiedError) as caught:
        subject.verbs().update_pipeline(
            held["id"], {"name": "New", "stages": [{"id": ids[0], "name": "Aye"}, {"name": "E"}]}, prune=True
        )
    now = subject.held(held["id"])
    assert caught.value.code == "in_use"
    assert now is not None
    if isinstance(caught.value, InUse):  # seen before anything was written
        assert {request.method for request in subject.simulator.received} == {"GET"}
        return
    assert (now["name"], subject.names(now)) == (held["name"], subject.names(held))
    assert "put back" in caught.value.message
    made_again = caught.value.details["rolled_back"][0].get("made_again", [])
    assert {each["id"] for each in made_again} == set(ids) - set(_ids(now))
    assert ids[1] in _ids(now)


def test_a_stage_that_the_pipeline_does_not_have_is_refused_before_anything_is_written(subject: Subject) -> None:
    held = subject.seed()
    with pytest.raises(InvalidRequest, match=r"stages\[0\]\.id"):
        subject.verbs().update_pipeline(held["id"], {"name": "New", "stages": [{"id": "12345", "name": "X"}]})
    twice = [{"id": _ids(held)[0]}, {"id": _ids(held)[0]}]
    with pytest.raises(InvalidRequest, match="twice"):
        subject.verbs().update_pipeline(held["id"], {"stages": twice})
    assert subject.held(held["id"]) == held


def test_a_new_stage_needs_what_the_provider_requires(subject: Subject) -> None:
    held = subject.seed()
    with pytest.raises(InvalidRequest, match=r"stages\[0\]\.name is required"):
        subject.verbs().update_pipeline(held["id"], {"stages": [{"status": "active"}]})
    assert subject.simulator.received == []


def test_a_status_is_changed_or_refused_before_anything_is_written(subject: Subject) -> None:
    if "status" not in subject.stage or len(subject.statuses()) < 2:
        pytest.skip(f"{subject.provider.label} has one status only")
    first, second = subject.statuses()[:2]
    held = subject.seed(stages=[{"name": "A", "status": first}, {"name": "B", "status": first}])
    change = {"stages": [{"id": _ids(held)[1], "status": second}]}
    if subject.stage["status"].fixed:
        with pytest.raises(Unsupported, match="status"):
            subject.verbs().update_pipeline(held["id"], change)
        assert subject.held(held["id"]) == held
        subject.verbs().update_pipeline(held["id"], {"stages": [{"id": _ids(held)[1], "status": first}]})
    else:
        result = subject.verbs().update_pipeline(held["id"], change)
        assert [stage["status"] for stage in result.unified["stages"]] == [first, second]


def test_an_update_that_changes_nothing_writes_nothing(subject: Subject) -> None:
    held = subject.seed()
    stages = [{"id": stage["id"], "name": stage["name"]} for stage in held["stages"]]
    subject.verbs().update_pipeline(held["id"], {"name": "Sales", "stages": stages})
    assert {request.method for request in subject.simulator.received} == {"GET"}


def test_remote_data_and_remote_query_reach_the_write(subject: Subject) -> None:
    held = subject.seed()
    remote_data = subject.remote_data(subject.pipeline, {"name": "Mine"})
    verbs = subject.verbs(remote_data=remote_data, remote_query=(("a[b]", "c"),))
    assert verbs.update_pipeline(held["id"], {"name": "Yours"}).unified["name"] == "Mine"
    writes = [request for request in subject.simulator.received if request.method != "GET"]
    assert [request.query[-1] for request in writes] == [("a[b]", "c")]
    reads = [request for request in subject.simulator.received if request.method == "GET"]
    assert not any("a[b]" in dict(request.query) for request in reads)


# Stages by themselves


def test_a_stage_is_created_at_the_end(subject: Subject) -> None:
    held = subject.seed()
    result = subject.verbs().create_stage({"name": "Four", "pipeline": {"id": held["id"]}})
    assert subject.names(subject.held(held["id"])) == ["One", "Two", "Three", "Four"]
    assert (result.unified["name"], result.unified["position"], result.outcome) == ("Four", 3, "created")


def test_a_stage_is_created_at_a_position(subject: Subject) -> None:
    needs_order(subject)
    held = subject.seed()
    result = subject.verbs().create_stage({"name": "New", "position": 1, "pipeline": {"id": held["id"]}})
    assert subject.names(subject.held(held["id"])) == ["One", "New", "Two", "Three"]
    assert result.unified["position"] == 1


def test_a_stage_needs_its_pipeline(subject: Subject) -> None:
    with pytest.raises(InvalidRequest, match=r"pipeline\.id is required"):
        subject.verbs().create_stage({"name": "New"})
    assert subject.simulator.received == []


@pytest.mark.parametrize("with_pipeline", [True, False])
def test_a_stage_is_renamed(subject: Subject, with_pipeline: bool) -> None:
    held = subject.seed()
    subject.seed("Other", ["Else"])
    pipeline_id = held["id"] if with_pipeline else None
    result = subject.verbs().update_stage(_ids(held)[1], {"name": "Second"}, pipeline_id)
    assert subject.names(subject.held(held["id"])) == ["One", "Second", "Three"]
    assert (result.unified["name"], result.unified["position"]) == ("Second", 1)


def test_a_stage_is_moved(subject: Subject) -> None:
    needs_order(subject)
    held = subject.seed(stages=["A", "B", "C", "D"])
    for position, expected in ((0, ["C", "A", "B", "D"]), (3, ["A", "B", "D", "C"]), (99, ["A", "B", "D", "C"])):
        subject.verbs().update_stage(_ids(held)[2], {"position": position}, held["id"])
        assert subject.names(subject.held(held["id"])) == expected


def test_a_stage_is_not_moved_to_another_pipeline(subject: Subject) -> None:
    held, other = subject.seed(), subject.seed("Other", ["Else"])
    with pytest.raises(Unsupported, match="another pipeline"):
        subject.verbs().update_stage(_ids(held)[0], {"pipeline": {"id": other["id"]}}, None)
    assert subject.held(held["id"]) == held


def test_a_stage_is_deleted(subject: Subject) -> None:
    held = subject.seed()
    assert subject.verbs().delete_stage(_ids(held)[1], None).unified == {"id": _ids(held)[1]}
    assert subject.names(subject.held(held["id"])) == ["One", "Three"]


def test_a_stage_in_use_is_not_deleted(subject: Subject) -> None:
    held = subject.seed(stages=["A", {"name": "B", "records": 1}])
    with pytest.raises(UnifiedError) as caught:
        subject.verbs().delete_stage(_ids(held)[1], held["id"])
    assert caught.value.code == "in_use"
    assert subject.held(held["id"]) == held


# Deleting pipelines


def test_a_pipeline_is_deleted_with_its_stages(subject: Subject) -> None:
    held, other = subject.seed(), subject.seed("Other", ["Else"])
    assert subject.verbs().delete_pipeline(held["id"]).unified == {"id": held["id"]}
    assert subject.simulator.pipelines() == [other]


def test_a_pipeline_in_use_is_not_deleted_and_nothing_of_it_is_lost(subject: Subject) -> None:
    held = subject.seed(stages=[{"name": "A", "records": 1}, "B", "C"])
    with pytest.raises(UnifiedError) as caught:
        subject.verbs().delete_pipeline(held["id"])
    assert caught.value.code == "in_use"
    now = subject.held(held["id"])
    assert subject.names(now) == ["A", "B", "C"]
    assert now is not None
    assert _ids(now)[0] == _ids(held)[0]


# Faults

FAULTS: dict[str, Fault] = {
    "500": Fault("status", status=500, body={"message": "broken"}),
    "400": Fault("status", status=400, body={"message": "no"}),
    "502-after-commit": Fault("status", status=502, after=True),
    "reset": Fault("reset"),
    "reset-after-commit": Fault("reset", after=True),
    "cut": Fault("cut"),
    "html-after-commit": Fault("html", after=True),
    "empty-after-commit": Fault("empty", after=True),
}


def _edit(verbs: Verbs, held: dict[str, Any]) -> Any:
    a, b, *_ = _ids(held)
    return verbs.update_pipeline(
        held["id"], {"name": "New", "stages": [{"id": a, "name": "Aye"}, {"id": b}, {"name": "Fresh"}]}
    )


def _prune(verbs: Verbs, held: dict[str, Any]) -> Any:
    return verbs.update_pipeline(held["id"], {"stages": [{"id": _ids(held)[0], "name": "Aye"}]}, prune=True)


VERBS: dict[str, Callable[[Verbs, dict[str, Any]], Any]] = {
    "update": _edit,
    "prune": _prune,
    "delete": lambda verbs, held: verbs.delete_pipeline(held["id"]),
    "create-stage": lambda verbs, held: verbs.create_stage({"name": "Fresh", "pipeline": {"id": held["id"]}}),
    "update-stage": lambda verbs, held: verbs.update_stage(_ids(held)[1], {"name": "Bee"}, None),
    "delete-stage": lambda verbs, held: verbs.delete_stage(_ids(held)[1], held["id"]),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", VERBS)
def test_a_fault_at_any_step_loses_no_stage_silently(subject: Subject, verb: str, fault: str) -> None:
    """Afterwards it is as asked, or as before, or the error names what is not."""
    _break_each_step(subject, verb, FAULTS[fault])


@where(first_world)
@pytest.mark.parametrize("verb", VERBS)
def test_an_answer_that_does_not_come_loses_no_stage_silently(subject: Subject, verb: str) -> None:
    _break_each_step(subject, verb, Fault("hang", after=True))


def _break_each_step(subject: Subject, verb: str, fault: Fault) -> None:
    subject.seed(stages=["A", "B", "C"])
    VERBS[verb](subject.verbs(), subject.simulator.pipelines()[0])
    steps, asked = len(subject.simulator.received), _shape(subject)
    for step in range(1, steps + 1):
        subject.simulator.reset()
        held = subject.seed(stages=["A", "B", "C"])
        before = _shape(subject)
        subject.simulator.fault(Fault(**{**vars(fault), "at": step}))
        slow = fault.kind == "hang"
        try:
            VERBS[verb](subject.verbs(seconds=1.2 if slow else 10), held)
        except UnifiedError as error:
            where = f"step {step} of {steps}: {error!r}"
            if isinstance(error, ProviderError):
                assert _shape(subject) == before, where
            else:
                assert isinstance(error, PartialFailure | OutcomeUnknown), where
        else:
            assert _shape(subject) == asked, f"step {step} of {steps}"
        assert subject.simulator.pending == [], f"step {step} was not reached"


def _shape(subject: Subject) -> list[Any]:
    """What stands at the provider, but for ids: what is put back may have new ones, and the error says so."""
    return [
        (each["name"], [(stage["name"], stage["status"]) for stage in each["stages"]])
        for each in subject.simulator.pipelines()
    ]


@where(_writes_apart)
@pytest.mark.parametrize("shown", ["stale", "empty", "nothing"])
def test_a_last_read_that_lags_or_says_nothing_is_not_the_answer(subject: Subject, shown: str) -> None:
    """Everything is written by then: the writes tell what stands there."""
    held = subject.seed(stages=["A", "B", "C"])
    change: dict[str, Any] = {"name": "New", "stages": [{"id": _ids(held)[0], "name": "Aye"}, {"name": "Fresh"}]}
    steps = len(subject.simulator.received)
    subject.verbs().update_pipeline(held["id"], change, prune=True)
    reads = [request for request in subject.simulator.received[steps:] if request.method == "GET"]
    subject.simulator.reset()
    held = subject.seed(stages=["A", "B", "C"])
    change["stages"] = [{"id": _ids(held)[0], "name": "Aye"}, {"name": "Fresh"}]
    raw = subject.verbs().get_pipeline(held["id"]).raw
    body = {"stale": raw, "empty": {}, "nothing": _without_lists(raw)}[shown]
    subject.simulator.fault(Fault("status", method="GET", at=len(reads), status=200, body=body))
    result = subject.verbs().update_pipeline(held["id"], change, prune=True)
    # Where a read is several calls, the stale one can be the only one to tell the name.
    several = len({request.path for request in reads}) > 1
    assert (result.unified["id"], result.unified["name"]) in [(held["id"], "New"), (held["id"], "Sales")][: 1 + several]
    assert subject.names(result.unified) == ["Aye", "Fresh"] == subject.names(subject.held(held["id"]))
    assert subject.simulator.pending == []


def _without_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_lists(item) for key, item in value.items()}
    return None if isinstance(value, list) else value


@where(_writes_apart)
def test_what_cannot_be_put_back_is_named_stage_by_stage(subject: Subject) -> None:
    held = subject.seed(stages=["A", "B", "C"])
    subject.simulator.fault(
        Fault("status", method="DELETE", at=2, status=500), Fault("status", method="POST", status=503, repeat=99)
    )
    with pytest.raises(PartialFailure) as caught:
        subject.verbs(seconds=4).update_pipeline(held["id"], {"stages": [{"id": _ids(held)[0]}]}, prune=True)
    gone = {"resource": "stage", "id": _ids(held)[2], "name": "C", "state": "deleted"}
    assert caught.value.details["leftovers"][1:] == [gone]
    assert subject.names(subject.held(held["id"])) == ["A", "B"]


@where(_has_fixed_status)
def test_what_cannot_be_changed_is_left_out_with_a_warning_if_the_caller_says_so(subject: Subject) -> None:
    first, second = subject.statuses()[:2]
    held = subject.seed(stages=[{"name": "A", "status": first}])
    verbs = subject.verbs(skip_unsupported=True)
    result = verbs.update_pipeline(held["id"], {"stages": [{"id": _ids(held)[0], "name": "Aye", "status": second}]})
    assert [(stage["name"], stage["status"]) for stage in result.unified["stages"]][:1] == [("Aye", first)]
    assert [warning["field"] for warning in result.warnings] == ["stages[0].status"]


# Dry runs


@pytest.mark.parametrize("verb", VERBS)
def test_a_dry_run_writes_nothing_and_tells_what_it_would(subject: Subject, verb: str) -> None:
    held = subject.seed(stages=["A", "B", "C"])
    before = subject.simulator.snapshot()
    plan = VERBS[verb](subject.verbs(dry_run=True), held).plan
    assert {request.method for request in subject.simulator.received} <= {"GET"}
    assert subject.simulator.snapshot() == before
    assert not any(secret in str(plan) for secret in subject.simulator.secrets())
    subject.simulator.reset()
    held = subject.seed(stages=["A", "B", "C"])
    VERBS[verb](subject.verbs(), held)
    assert [step["method"] for step in plan] == [request.method for request in subject.simulator.received]


def test_a_dry_run_of_a_create_asks_the_provider_nothing(subject: Subject) -> None:
    plan = subject.create(dry_run=True).plan
    assert subject.simulator.received == []
    assert plan is not None
    assert plan[0]["method"] == "POST"
    assert plan[0]["url"].startswith(subject.simulator.url)
    assert plan[0]["body"]
    assert "[redacted]" in plan[0]["headers"].values()


def test_explain_says_where_each_field_came_from(subject: Subject) -> None:
    held = subject.seed()
    explained = subject.verbs(explain=True).get_pipeline(held["id"]).explain
    assert explained is not None
    assert explained["name"] == {
        "remote_field": ".".join(subject.pipeline["name"].path),
        "request": f"GET {subject.simulator.received[-1].path.removeprefix(_base(subject))}",
        "how": "copied",
    }
    assert len(explained["stages[]"]) == len(held["stages"])


def _base(subject: Subject) -> str:
    return urlsplit(base_url(subject.provider, subject.account().settings)).path
