"""The engine with flows made for it: what is sent, what is taken back, what the caller is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from time import monotonic
from typing import Any

import pytest

from local.simulators.base import Fault, Kind
from tests.unit import toy
from tests.unit.servers import at_most
from tests.unit.toy import THING, VALUES, Toy, list_, make, provider
from unified_crm.deadline import Deadline
from unified_crm.errors import (
    InvalidRequest,
    OutcomeUnknown,
    PartialFailure,
    ProviderBadReply,
    ProviderError,
    ProviderTimeout,
    ProviderUnreachable,
    RemoteError,
    UnifiedError,
    Unsupported,
)
from unified_crm.lost_answer import Search
from unified_crm.provider import Call, Entities, Flow, Pipelines, Request


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    with toy.running(monkeypatch) as running:
        yield running


def _status(at: int, status: int = 500, **more: Any) -> Fault:
    return Fault("status", at=at, status=status, body={"error": "broken"}, **more)


# What is sent


def test_a_flows_requests_go_out_in_order_and_its_result_comes_back(tool: Toy) -> None:
    result = tool.create()
    assert tool.simulator.calls == ["POST whole", "POST one", "POST two", "GET /v1/things/t1"]
    assert {each.headers["authorization"] for each in tool.simulator.received} == {f"Bearer {toy.TOKEN}"}
    assert (result.unified["id"], result.unified["name"], result.outcome, result.warnings) == (
        "t1",
        "whole",
        "created",
        [],
    )
    assert result.record == result.raw == tool.simulator.snapshot()["things"][0]


def test_the_unified_answer_has_what_the_contract_knows_and_no_more(tool: Toy) -> None:
    assert list(tool.create().unified) == ["id", "name", "entity", "stages", "created_at"]


def test_escapes_go_to_the_main_call_and_to_no_other(tool: Toy) -> None:
    def flow(_: Call) -> Flow:
        yield Request("GET", "/things", query=(("own", "1"),))
        made = yield make("whole", main=True)._replace(query=(("own", "1"), ("kept", "2")))
        yield make("other")
        return made.object()

    tool.create(flow, remote_query=(("own", "9"), ("a[b]", "x")), remote_data={"name": "mine", "deep": {"x": [1]}})
    first, main, other = tool.simulator.received
    assert (first.query, main.query, other.query) == ([("own", "1")], [("kept", "2"), ("own", "9"), ("a[b]", "x")], [])
    assert (main.json, other.json) == ({"name": "mine", "deep": {"x": [1]}}, {"name": "other"})


def test_remote_data_makes_no_body_where_there_is_none(tool: Toy) -> None:
    def flow(_: Call) -> Flow:
        yield Request("GET", "/things", main=True)
        return {"id": "x"}

    tool.create(flow, remote_data={"x": 1})
    assert tool.simulator.received[0].body == b""


def test_neither_values_nor_remote_data_are_changed(tool: Toy) -> None:
    values = {"name": "whole", "stages": [{"name": "one", "remote_data": {"x": {}}}], "entity": "opportunity"}
    remote: dict[str, Any] = {"deep": {"x": [1]}}
    tool.create(values=values, remote_data=remote)
    assert values == {
        "name": "whole",
        "stages": [{"name": "one", "remote_data": {"x": {}}}],
        "entity": "opportunity",
    }
    assert remote == {"deep": {"x": [1]}}


# What is refused before any call


def test_a_provider_that_cannot_create_says_so(tool: Toy) -> None:
    with pytest.raises(Unsupported, match="Toy does not let pipelines be created"):
        tool.create(None)


@pytest.mark.parametrize("key", ["token", "TOKEN", "token[]", "token[a][b]", "Token[0]"])
def test_a_query_key_that_the_provider_takes_for_a_credential_is_refused(tool: Toy, key: str) -> None:
    declared = provider(query_credentials=frozenset({"token"}))
    with pytest.raises(InvalidRequest, match="would take it for a credential"):
        tool.create(declared=declared, remote_query=(("fine", "1"), (key, "x")))
    assert tool.simulator.received == []


def test_an_entity_that_the_provider_lacks_is_refused_or_left_out(tool: Toy) -> None:
    with pytest.raises(Unsupported, match=r"^entity: Toy has no pipelines for 'contact', only for 'opportunity'$"):
        tool.create(values={**VALUES, "entity": "contact"})
    assert tool.simulator.received == []
    result = tool.create(values={**VALUES, "entity": "contact"}, skip_unsupported=True)
    assert [each["field"] for each in result.warnings] == ["entity"]
    assert result.unified["entity"] == "opportunity"


def test_an_entity_by_the_providers_own_name_is_let_through_where_others_are(tool: Toy) -> None:
    seen: list[Call] = []

    def flow(call: Call) -> Flow:
        seen.append(call)
        return (yield from toy.create(call))

    declared = provider(flow, entities=Entities({"opportunity": "thing"}, others=True))
    assert tool.create(declared=declared, values={**VALUES, "entity": "box"}).unified["entity"] == "box"
    assert seen[0].entity == "box"
    assert "entity" not in seen[0].values


# Taking back


@pytest.mark.parametrize(("step", "made"), [(1, []), (2, ["t1"]), (3, ["t2", "t1"])])
@pytest.mark.parametrize("fault", [_status(1), _status(1, 400)], ids=lambda f: f.kind + str(f.status))
def test_whatever_step_fails_what_was_made_is_deleted_newest_first(
    tool: Toy, step: int, made: list[str], fault: Fault
) -> None:
    tool.simulator.fault(replace(fault, at=step))
    with pytest.raises(ProviderError) as caught:
        tool.create()
    assert tool.simulator.names == []
    assert [call for call in tool.simulator.calls if call.startswith("DELETE")] == [
        f"DELETE /v1/things/{each}" for each in made
    ]
    error = caught.value
    assert [each["id"] for each in error.details.get("rolled_back", [])] == made
    if made:
        assert error.message.startswith(f"Step {step} failed: ")
        assert error.message.endswith("was deleted again.")


def test_a_rolled_back_error_keeps_what_the_provider_said(tool: Toy) -> None:
    tool.simulator.fault(_status(2, 422))
    with pytest.raises(RemoteError, match="broken") as caught:
        tool.create()
    assert caught.value.status == 422
    assert caught.value.details["truto_is_remote_error"]
    assert caught.value.details["raw_response"] == {"error": "broken"}
    assert caught.value.details["rolled_back"] == [{"resource": "pipeline", "id": "t1", "name": "whole"}]


def test_what_cannot_be_deleted_is_named_newest_first(tool: Toy) -> None:
    tool.simulator.fault(_status(3), _status(1, 403, method="DELETE", repeat=99))
    with pytest.raises(PartialFailure, match="pipeline t2, pipeline t1 could not be deleted again") as caught:
        tool.create(seconds=1.5)
    assert tool.simulator.names == ["whole", "one"]
    assert caught.value.details["leftovers"] == [
        {"resource": "pipeline", "id": "t2", "name": "one"},
        {"resource": "pipeline", "id": "t1", "name": "whole"},
    ]
    assert caught.value.details["raw_response"] == {"error": "broken"}
    assert caught.value.status == 500


def test_only_what_stays_is_named_as_left_behind(tool: Toy) -> None:
    tool.simulator.fault(_status(3), _status(1, 403, method="DELETE", path="*/t2", repeat=99))
    with pytest.raises(PartialFailure) as caught:
        tool.create(seconds=1.5)
    assert tool.simulator.names == ["one"]
    assert [each["id"] for each in caught.value.details["leftovers"]] == ["t2"]


@pytest.mark.parametrize(
    "hurdle",
    [_status(1, 503, method="DELETE", repeat=2), Fault("reset", method="DELETE"), Fault("rate_limit", method="DELETE")],
)
def test_a_deletion_that_fails_at_first_is_tried_again(tool: Toy, hurdle: Fault) -> None:
    tool.simulator.fault(_status(2), hurdle)
    with pytest.raises(RemoteError) as caught:
        tool.create()
    assert "Nothing is left behind" in caught.value.message
    assert tool.simulator.names == []


def test_a_deletion_whose_answer_was_lost_is_found_done(tool: Toy) -> None:
    tool.simulator.fault(_status(2), Fault("reset", method="DELETE", after=True))
    with pytest.raises(RemoteError) as caught:
        tool.create()
    assert "Nothing is left behind" in caught.value.message
    assert tool.simulator.names == []


def test_a_wait_that_is_longer_than_the_time_left_is_not_waited(tool: Toy) -> None:
    tool.simulator.fault(_status(2), Fault("rate_limit", method="DELETE", retry_after=60, repeat=9))
    with at_most(2), pytest.raises(PartialFailure):
        tool.create(seconds=10)


def test_a_flow_may_catch_an_error_and_go_on(tool: Toy) -> None:
    def flow(_: Call) -> Flow:
        thing = (yield make("whole", main=True)).object()
        try:
            yield make("one")
        except RemoteError as error:
            thing["note"] = error.remote_status
        yield make("two")
        return thing

    tool.simulator.fault(_status(2, 418))
    assert tool.create(flow).record["note"] == 418
    assert tool.simulator.names == ["whole", "two"]


def _raise(error: Exception) -> Callable[[Call], Flow]:
    def flow(_: Call) -> Flow:
        yield make("whole", main=True)
        yield make("one")
        raise error

    return flow


@pytest.mark.parametrize("error", [KeyError("id"), IndexError(), TypeError(), ValueError(), AttributeError()], ids=repr)
def test_data_that_a_flow_cannot_read_is_a_bad_reply_and_everything_is_taken_back(tool: Toy, error: Exception) -> None:
    with pytest.raises(ProviderBadReply, match="not of the form it documents") as caught:
        tool.create(_raise(error))
    assert caught.value.__cause__ is error
    assert tool.simulator.names == []
    assert [each["name"] for each in caught.value.details["rolled_back"]] == ["one", "whole"]


@pytest.mark.parametrize(
    "error", [RecursionError(), ZeroDivisionError(), RuntimeError("odd"), InvalidRequest("late")], ids=repr
)
def test_whatever_ends_a_flow_nothing_is_left_behind(tool: Toy, error: Exception) -> None:
    with pytest.raises((UnifiedError, RuntimeError, ArithmeticError)):
        tool.create(_raise(error))
    assert tool.simulator.names == []


def test_a_flow_that_wants_nothing_sent_is_just_its_result(tool: Toy) -> None:
    def flow(_: Call) -> Flow:
        yield from ()
        return {"id": "x", "name": "y"}

    assert tool.create(flow).unified["id"] == "x"
    assert tool.simulator.received == []


# Reads that may fail


@pytest.mark.parametrize(
    "fault",
    [
        _status(1, 500, method="GET"),
        _status(1, 404, method="GET"),
        Fault("reset", method="GET", repeat=3),
        Fault("html", method="GET"),
        Fault("empty", method="GET"),
        Fault("truncated", method="GET"),
        Fault("wrong_type", method="GET"),
        Fault("redirect", method="GET"),
    ],
    ids=lambda fault: f"{fault.kind}{fault.status}",
)
def test_a_last_read_that_fails_is_answered_from_what_the_writes_said(tool: Toy, fault: Fault) -> None:
    tool.simulator.fault(fault)
    result = tool.create()
    assert result.unified["id"] == "t1"
    assert [stage["name"] for stage in result.unified["stages"]] == ["one", "two"]
    assert tool.simulator.names == ["whole", "one", "two"]
    assert tool.simulator.pending == []


def test_raw_shows_what_stands_there_even_if_the_last_read_fails(tool: Toy) -> None:
    tool.simulator.fault(_status(1, 500, method="GET"))
    result = tool.create()
    assert (result.raw["id"], result.raw["name"]) == ("t1", "whole")


# Answers that were lost


@pytest.mark.parametrize("kind", ["reset", "html", "empty", "wrong_type"])
def test_what_was_found_and_not_seen_being_made_is_not_deleted_again(tool: Toy, kind: Kind) -> None:
    """It could be somebody else's after all."""
    tool.simulator.fault(Fault(kind, after=True), _status(4, 400))
    with pytest.raises(PartialFailure) as caught:
        tool.create()
    assert [each["name"] for each in caught.value.details["leftovers"]] == ["whole"]
    assert tool.simulator.calls[:4] == ["POST whole", "GET /v1/things", "POST one", "POST two"]
    assert tool.simulator.names == ["whole"]


@pytest.mark.parametrize("body", [{"id": "", "name": "whole"}, {"id": None}, {"name": "whole"}, {}])
def test_an_answer_that_names_no_id_is_looked_for(tool: Toy, body: dict[str, Any]) -> None:
    tool.simulator.fault(Fault("status", status=200, body=body, after=True))
    assert tool.create().outcome == "adopted"


def test_what_a_4xx_refused_is_not_looked_for(tool: Toy) -> None:
    tool.simulator.fault(_status(1, 409))
    with pytest.raises(RemoteError):
        tool.create()
    assert tool.simulator.calls == ["POST whole"]


@pytest.mark.parametrize("fault", [Fault("reset", after=True), Fault("html", after=True), _status(1, 500, after=True)])
def test_without_a_way_to_look_the_outcome_is_unknown(tool: Toy, fault: Fault) -> None:
    """An error with a status that clients send again by themselves would make a second one."""
    tool.simulator.fault(fault)
    with pytest.raises(UnifiedError) as caught:
        tool.create(declared=provider(list=None))
    assert tool.simulator.names == ["whole"]
    assert caught.value.code == "outcome_unknown"


def test_a_further_create_whose_answer_was_lost_is_not_said_to_be_gone(tool: Toy) -> None:
    tool.simulator.fault(Fault("reset", at=2, after=True))
    with pytest.raises(UnifiedError) as caught:
        tool.create()
    assert tool.simulator.names == [] or caught.value.status == 500, "left behind, and the caller told otherwise"


def test_an_unknown_outcome_of_a_later_step_does_not_hide_what_was_made_before(tool: Toy) -> None:
    def flow(_: Call) -> Flow:
        yield make("first")
        return (yield make("whole", main=True)).object()

    tool.simulator.fault(Fault("reset", at=2, after=True), _status(1, 500, method="GET", repeat=9))
    with pytest.raises(OutcomeUnknown) as caught:
        tool.create(flow)
    shown = caught.value.message + str(caught.value.details)
    assert "first" not in tool.simulator.names or "t1" in shown


# Time


def test_a_deadline_leaves_time_for_taking_back(tool: Toy) -> None:
    tool.simulator.fault(Fault("hang", at=2))
    with at_most(1.3), pytest.raises(OutcomeUnknown) as caught:
        tool.create(seconds=1.2)
    assert "t1, was deleted again" in caught.value.message
    assert tool.simulator.names == []


def test_a_clean_up_that_hangs_ends_with_the_deadline_and_says_what_is_left(tool: Toy) -> None:
    tool.simulator.fault(Fault("hang", at=2), Fault("hang", method="DELETE", repeat=9))
    with at_most(1.3), pytest.raises(PartialFailure) as caught:
        tool.create(seconds=1.2)
    assert [each["id"] for each in caught.value.details["leftovers"]] == ["t1"]


def test_a_part_of_the_time_is_kept_for_taking_back(tool: Toy) -> None:
    """Half of it: to take back costs about as much as to do."""
    tool.simulator.fault(Fault("hang", at=2))
    started = monotonic()
    with pytest.raises(OutcomeUnknown):
        tool.create(seconds=1.5)
    assert 0.7 < monotonic() - started < 1.4


def test_without_any_time_nothing_is_sent(tool: Toy) -> None:
    with pytest.raises(ProviderTimeout, match="too little time left"):
        tool.create(seconds=0)
    assert tool.simulator.received == []


def test_a_deadline_never_says_less_than_nothing() -> None:
    assert Deadline(-5).left() == 0
    assert Deadline(1).keep(5).left() == 0
    assert 0.8 < Deadline(2).keep(1).left() <= 1


# The rules by which a lost create is found again


class Asker:
    """Looks into a list instead of a provider; `waits` tells whether there is time for a second look."""

    def __init__(self, *looks: list[dict[str, Any]] | ProviderError, date: str | None = "", waits: bool = True) -> None:
        self.looks, self.waits, self.asked, self.waited = list(looks), waits, 0, 0.0
        self.headers = {} if date is None else {"date": date or format_datetime(datetime.now(UTC), usegmt=True)}

    def ask(self, flow: Flow) -> tuple[Any, Mapping[str, str]]:
        assert next(flow).method == "GET"
        look = self.looks[min(self.asked, len(self.looks) - 1)]
        self.asked += 1
        if isinstance(look, ProviderError):
            raise look
        now = datetime.now(UTC)
        return [
            {**each, "made": (now + each["made"]).isoformat() if isinstance(each["made"], timedelta) else each["made"]}
            for each in look
        ], self.headers

    def wait(self, seconds: float) -> bool:
        self.waited += seconds
        return self.waits


def _thing(
    made: timedelta | None = timedelta(0), name: str = "whole", parts: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    """`made` is counted from the moment when it is looked at."""
    return {"id": "t1", "name": name, "made": made, "parts": [{"name": each} for each in parts], **more}


def _find(
    asker: Asker, error: ProviderError | None = None, parts: tuple[str, ...] = ("one", "two"), name: str = "whole"
) -> Any:
    request = Request("POST", "/things", json={"name": name, "parts": [{"name": each} for each in parts]})
    search = Search(Pipelines(table=lambda _: THING, list=list_), Call("thing"), THING)
    return search.find(asker, request, error or ProviderTimeout("late"), monotonic() - 0.1)


OLD = timedelta(minutes=-5)
TIMEOUT = ProviderTimeout("late")
SPOKEN = RemoteError("broken", code="remote_error", remote_status=500, body="")


@pytest.mark.parametrize(
    "records",
    [
        [_thing()],
        [_thing(parts=("one", "two"))],
        [_thing(timedelta(seconds=-1))],
        [_thing(timedelta(seconds=1))],
        [_thing(OLD, id="t0"), _thing(), _thing(name="other", id="t3")],
        [_thing(OLD, id="t0"), _thing(OLD, id="t00"), _thing()],
    ],
)
def test_the_one_that_is_new_and_like_it_is_adopted(records: list[dict[str, Any]]) -> None:
    assert _find(Asker(records))["id"] == "t1"


@pytest.mark.parametrize(
    "records",
    [[], [_thing(name="other")], [_thing(OLD)], [_thing(OLD, parts=("one", "two"))], [_thing(None, name="other")]],
)
def test_where_there_is_none_the_error_says_that_it_did_not_happen(records: list[dict[str, Any]]) -> None:
    for error, looks in ((TIMEOUT, 2), (SPOKEN, 1)):
        asker = Asker(records)
        with pytest.raises(ProviderError) as caught:
            _find(asker, error)
        assert caught.value is error
        assert asker.asked == looks


@pytest.mark.parametrize(
    "records",
    [
        [_thing(id="t1"), _thing(id="t2")],
        [_thing(id="t1"), _thing(id="t2", parts=("one", "two"))],
        [_thing(None)],
        [_thing(None), _thing(OLD)],
        [_thing(None) | {"made": "1970-01-01T00:00:00Z"}],
    ],
)
def test_where_ours_cannot_be_told_from_others_the_outcome_is_unknown(records: list[dict[str, Any]]) -> None:
    with pytest.raises(OutcomeUnknown, match="List the pipelines"):
        _find(Asker(records))


@pytest.mark.parametrize("parts", [("one",), ("two", "one")])
def test_a_new_one_of_that_name_with_some_of_its_stages_is_adopted_for_the_flow_to_complete(
    parts: tuple[str, ...],
) -> None:
    assert _find(Asker([_thing(parts=parts)]))["id"] == "t1"


@pytest.mark.parametrize("parts", [("one", "two", "three"), ("other",)])
def test_a_new_one_of_that_name_with_other_stages_is_not_said_to_be_none(parts: tuple[str, ...]) -> None:
    """It may be ours, half done: to say that nothing happened would make a second one."""
    with pytest.raises(OutcomeUnknown):
        _find(Asker([_thing(parts=parts)]))


def test_a_late_effect_is_found_at_the_second_look() -> None:
    asker = Asker([], [_thing()])
    assert _find(asker)["id"] == "t1"
    assert asker.waited == 1


def test_without_time_for_a_second_look_nobody_can_tell() -> None:
    asker = Asker([], [_thing()], waits=False)
    with pytest.raises(OutcomeUnknown, match="no time to look again"):
        _find(asker)
    assert asker.asked == 1


@pytest.mark.parametrize("error", [ProviderUnreachable("gone"), SPOKEN, ProviderBadReply("odd")])
def test_where_looking_fails_the_outcome_is_unknown(error: ProviderError) -> None:
    with pytest.raises(OutcomeUnknown, match="looking for it failed") as caught:
        _find(Asker(error), SPOKEN)
    assert caught.value.details == SPOKEN.details
    assert caught.value.message.startswith("broken ")


@pytest.mark.parametrize("date", [None, "yesterday", "x", "Mon, 32 Foo 2024 00:00:00 GMT"])
def test_without_the_providers_clock_ours_is_taken(date: str | None) -> None:
    assert _find(Asker([_thing()], date=date))["id"] == "t1"
    with pytest.raises(ProviderTimeout):
        _find(Asker([_thing(OLD)], date=date))


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_provider_whose_clock_is_wrong_is_judged_by_its_own(hours: int) -> None:
    skew = timedelta(hours=hours)
    date = format_datetime(datetime.now(UTC) + skew, usegmt=True)
    assert _find(Asker([_thing(skew)], date=date))["id"] == "t1"
    with pytest.raises(ProviderTimeout):
        _find(Asker([_thing(skew + OLD)], date=date))


def test_no_second_pipeline_after_a_timeout_that_had_an_effect(tool: Toy) -> None:
    tool.simulator.seed("whole", remote={"made": "2020-01-01T00:00:00Z"})
    tool.simulator.fault(Fault("hang", after=True))
    result = tool.create(values={"name": "whole"}, seconds=2)
    assert result.outcome == "adopted"
    assert tool.simulator.names == ["whole", "whole"]
    assert result.unified["id"] == tool.simulator.snapshot()["things"][1]["id"]


def test_a_provider_that_tells_no_times_leaves_the_outcome_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    with toy.running(monkeypatch, times=False) as tool:
        tool.simulator.fault(Fault("reset", after=True))
        with pytest.raises(OutcomeUnknown):
            tool.create()
