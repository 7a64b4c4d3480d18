"""Where providers differ too much to hide it: what each declares of that is tried, the same for all of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from local import simulators
from local.simulators.base import Fault, Simulator
from tests.contract.conftest import Subject, where
from unified_crm.accounts import Account, settings_for
from unified_crm.deadline import Deadline
from unified_crm.engine import Options
from unified_crm.errors import (
    AccountUnusable,
    InUse,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    PartialFailure,
    ProviderBadReply,
    ProviderError,
    ProviderTimeout,
    UnifiedError,
    Unsupported,
)
from unified_crm.lists import Filter, ListOptions, parse_time
from unified_crm.mapping import Table
from unified_crm.provider import Editor, Provider
from unified_crm.verbs import Verbs


def _editor(provider: Provider) -> Editor:
    assert provider.pipelines.editor is not None
    return provider.pipelines.editor


def _stage(provider: Provider) -> Table:
    stage = provider.pipelines.table(str(provider.entities.to_remote("opportunity")))["stages"].each
    assert stage is not None
    return stage


def _keeps_stages(provider: Provider, _: Simulator) -> bool:
    return _editor(provider).fixed is not Editor().fixed


def _looks(provider: Provider, _: Simulator) -> bool:
    """Others refuse by themselves to delete what deals are on."""
    return _editor(provider).occupied is not None


def _lags(_: Provider, simulator: Simulator) -> bool:
    return "lag" in simulator.settings


# Settings


def test_a_setting_that_is_missing_or_not_allowed_is_named(provider: Provider) -> None:
    stored = simulators.load(provider.name).demo_account["settings"]
    assert stored.items() <= settings_for(provider, stored, "an-account").items()
    for each in provider.settings:
        without = {name: value for name, value in stored.items() if name != each.name}
        if each.required:
            with pytest.raises(AccountUnusable, match=rf"settings\.{each.name} is missing"):
                settings_for(provider, without, "an-account")
        for value in ("", "a b\n", 7, ["x"]):
            with pytest.raises(AccountUnusable, match=rf"settings\.{each.name} is not allowed") as caught:
                settings_for(provider, {**stored, each.name: value}, "an-account")
            assert provider.label in caught.value.message


def test_only_the_operator_allows_hosts_under_other_suffixes(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = simulators.load(provider.name).demo_account["settings"]
    for each in provider.settings:
        if not each.suffixes:
            continue
        settings = {**stored, each.name: "https://acme.crm.example"}
        monkeypatch.delenv("PROVIDER_HOST_SUFFIXES", raising=False)
        with pytest.raises(AccountUnusable, match=each.name):
            settings_for(provider, settings, "an-account")
        monkeypatch.setenv("PROVIDER_HOST_SUFFIXES", f'{{"{provider.name}": ["crm.example"]}}')
        assert settings_for(provider, settings, "an-account")[each.name] == "https://acme.crm.example"
        with pytest.raises(AccountUnusable, match=each.name):
            settings_for(provider, {**stored, each.name: "https://acme.other.example"}, "an-account")


@where(lambda provider, _: bool(provider.pipelines.needs))
def test_what_a_create_needs_beside_the_unified_fields_is_asked_for_before_any_call(subject: Subject) -> None:
    account = subject.account()
    for need in subject.provider.pipelines.needs:
        settings = {name: value for name, value in account.settings.items() if name != need.setting}
        poor = Account(account.id, account.tenant, account.provider, account.credentials, settings)
        with pytest.raises(InvalidRequest, match=rf"remote_data\.{need.path} is required") as caught:
            subject.create(account=poor)
        assert caught.value.insight["missing_required_body_fields"]["value"] == [f"remote_data.{need.path}"]
        assert subject.simulator.received == []
        meta = subject.verbs(account=poor).meta("pipelines", "create")["fields"]
        assert meta[f"remote_data.{need.path}"]["required"] is True
        assert subject.verbs().meta("pipelines", "create")["fields"][f"remote_data.{need.path}"]["required"] is False
        given: Any = account.settings[need.setting]
        for key in reversed(need.path.split(".")):
            given = {key: given}
        assert subject.create(account=poor, remote_data=given).outcome == "created"


# Ids


def test_an_id_that_can_be_none_is_a_404_without_a_call(subject: Subject) -> None:
    strange = "not-an-id"
    calls: list[Callable[[Verbs], Any]]
    if subject.provider.pipelines.id != r"[\s\S]+":
        calls = [
            lambda verbs: verbs.get_pipeline(strange),
            lambda verbs: verbs.delete_pipeline(strange),
            lambda verbs: verbs.update_pipeline(strange, {"name": "New"}),
            lambda verbs: verbs.create_stage({"name": "New", "pipeline": {"id": strange}}),
            lambda verbs: verbs.list_stages(strange, ListOptions()),
        ]
        for call in calls:
            with pytest.raises(NotFound):
                call(subject.verbs())
    if subject.provider.pipelines.stage_id != r"[\s\S]+":
        calls = [
            lambda verbs: verbs.get_stage(strange, None),
            lambda verbs: verbs.delete_stage(strange, None),
            lambda verbs: verbs.update_stage(strange, {"name": "New"}, None),
        ]
        for call in calls:
            with pytest.raises(NotFound):
                call(subject.verbs())
    assert subject.simulator.received == []


def test_every_id_in_an_answer_is_a_text_that_finds_its_thing_again(subject: Subject) -> None:
    held = subject.seed()
    listed = subject.verbs().list_pipelines(ListOptions()).items[0][0]
    assert listed["id"] == held["id"]
    for stage in listed["stages"]:
        assert isinstance(stage["id"], str)
        assert subject.verbs().get_stage(stage["id"], None).unified["name"] == stage["name"]


def test_two_pipelines_with_stages_of_the_same_names_are_not_mixed_up(subject: Subject) -> None:
    first, second = subject.seed("First"), subject.seed("Second")
    subject.verbs().update_stage(second["stages"][1]["id"], {"name": "Changed"}, None)
    assert subject.held(first["id"]) == first
    assert subject.names(subject.held(second["id"])) == ["One", "Changed", "Three"]
    with pytest.raises(NotFound):
        subject.verbs().get_stage(second["stages"][1]["id"], first["id"])


# Deals that a deletion would take along


@where(_looks)
@pytest.mark.parametrize("what", ["stage", "pipeline", "prune"])
def test_deals_are_looked_for_before_anything_is_deleted_and_force_goes_ahead(subject: Subject, what: str) -> None:
    held = subject.seed(stages=["A", {"name": "B", "records": 2}])
    ids = [each["id"] for each in held["stages"]]

    def delete(**options: Any) -> Any:
        verbs = subject.verbs(**options)
        if what == "stage":
            return verbs.delete_stage(ids[1], held["id"])
        if what == "pipeline":
            return verbs.delete_pipeline(held["id"])
        return verbs.update_pipeline(held["id"], {"name": "New", "stages": [{"id": ids[0]}]}, prune=True)

    with pytest.raises(UnifiedError) as caught:
        delete()
    assert caught.value.code == "in_use"
    if isinstance(caught.value, InUse):
        assert "truto_force_delete" in caught.value.message
        assert caught.value.status == 409
        assert {request.method for request in subject.simulator.received} == {"GET"}
    assert subject.held(held["id"]) == held
    if isinstance(caught.value, InUse):  # else the provider itself has the last word
        delete(force_delete=True)
        now = subject.held(held["id"])
        assert (now is None) if what == "pipeline" else (subject.names(now) == ["A"])


@where(_looks)
def test_where_the_look_fails_nothing_is_deleted(subject: Subject) -> None:
    held = subject.seed(stages=["A", "B"])
    subject.simulator.fault(Fault("status", method="GET", at=2, repeat=9, status=500))
    with pytest.raises(UnifiedError):
        subject.verbs().delete_stage(held["stages"][1]["id"], held["id"])
    assert {request.method for request in subject.simulator.received} == {"GET"}
    assert subject.held(held["id"]) == held


# Stages that a provider makes by itself


@where(lambda provider, _: not provider.pipelines.table("deals")["stages"].required)
def test_stages_that_a_new_pipeline_has_by_itself_and_that_nobody_asked_for_are_shown_with_a_warning_each(
    subject: Subject,
) -> None:
    result = subject.create({"name": "Sales"})
    (held,) = subject.simulator.pipelines()
    assert [stage["id"] for stage in result.unified["stages"]] == [stage["id"] for stage in held["stages"]]
    assert [each["field"] for each in result.warnings] == ["stages"] * len(held["stages"])
    for stage, warning in zip(held["stages"], result.warnings, strict=True):
        assert repr(stage["name"]) in warning["message"]


def test_stages_that_are_asked_for_come_without_a_warning(subject: Subject) -> None:
    values = subject.values()
    result = subject.create(values)
    assert result.warnings == []
    assert [stage["name"] for stage in result.unified["stages"]] == [stage["name"] for stage in values["stages"]]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_ready_made_stages_become_those_that_are_asked_for_however_many(subject: Subject, count: int) -> None:
    names = [f"Step {index}" for index in range(count)]
    result = subject.create({"name": "Sales", "stages": [{"name": name} for name in names]})
    (held,) = subject.simulator.pipelines()
    assert subject.names(held) == names == subject.names(result.unified)


@where(_keeps_stages)
def test_stages_that_stay_are_neither_deleted_nor_moved_and_the_answer_says_so(subject: Subject) -> None:
    held = subject.seed(stages=["A", "B"])
    fixed = [each["id"] for each in held["stages"] if each.get("fixed")]
    own = [each["id"] for each in held["stages"] if not each.get("fixed")]
    with pytest.raises(Unsupported, match="cannot be deleted"):
        subject.verbs().delete_stage(fixed[0], None)
    with pytest.raises(Unsupported, match="place"):
        subject.verbs().update_stage(fixed[0], {"position": 0}, None)
    with pytest.raises(Unsupported, match="places"):
        subject.verbs().update_pipeline(held["id"], {"stages": [{"id": fixed[0]}, {"id": own[0]}]})
    assert subject.held(held["id"]) == held
    result = subject.verbs().update_pipeline(held["id"], {"stages": [{"id": own[1]}, {"name": "C"}]}, prune=True)
    assert subject.names(subject.held(held["id"])) == ["B", "C"]
    assert [each["id"] for each in result.unified["stages"]][-len(fixed) :] == fixed
    assert len(result.warnings) == len(fixed)


def test_new_stages_stand_before_those_that_stay_at_the_end(subject: Subject) -> None:
    held = subject.seed(stages=["A"])
    for index in range(3):
        subject.verbs().create_stage({"name": f"New {index}", "pipeline": {"id": held["id"]}})
    now = subject.held(held["id"])
    assert subject.names(now) == ["A", "New 0", "New 1", "New 2"]
    assert now is not None
    assert [each.get("fixed") for each in now["stages"]] == sorted(
        (each.get("fixed") for each in now["stages"]), key=bool
    )


@where(lambda provider, _: any(row.with_pipeline for row in _stage(provider)))
def test_a_status_that_a_stage_has_only_from_its_pipelines_birth_is_refused_later(subject: Subject) -> None:
    statuses = [status for row in subject.stage if row.unified == "status" for status in row.with_pipeline]
    held = subject.seed()
    for status in statuses:
        with pytest.raises(Unsupported, match="along with its pipeline"):
            subject.verbs().create_stage({"name": "New", "status": status, "pipeline": {"id": held["id"]}})
        with pytest.raises(Unsupported, match="along with its pipeline"):
            subject.verbs().update_pipeline(held["id"], {"stages": [{"name": "New", "status": status}]})
    assert subject.simulator.received == []


# Order


@where(lambda provider, _: _editor(provider).orders)
def test_any_order_of_many_stages_is_reached(subject: Subject) -> None:
    held = subject.seed(stages=list("ABCDEF"))
    ids = {each["name"]: each["id"] for each in held["stages"]}
    for order in ("FEDCBA", "ABCDEF", "BADCFE", "CABFDE", "FABCDE", "BCDEAF"):
        result = subject.verbs().update_pipeline(held["id"], {"stages": [{"id": ids[each]} for each in order]})
        assert "".join(subject.names(subject.held(held["id"]))) == order == "".join(subject.names(result.unified))
    stages = [{"name": "X"}, {"id": ids["F"]}, {"name": "Y"}, {"name": "Z"}, {"id": ids["A"]}]
    subject.verbs().update_pipeline(held["id"], {"stages": stages}, prune=True)
    assert "".join(subject.names(subject.held(held["id"]))) == "XFYZA"


# Times


def test_a_time_that_is_not_exact_is_shown_and_not_chosen_by(subject: Subject) -> None:
    calls: list[tuple[Table, Callable[[ListOptions], Any]]] = [
        (subject.pipeline, lambda options: subject.verbs().list_pipelines(options)),
        (subject.stage, lambda options: subject.verbs().list_stages(None, options)),
    ]
    for table, call in calls:
        for name in ("created_at", "updated_at"):
            options = ListOptions(filters=(Filter(name, "gt", parse_time("2020-01-01")),))
            if name in table and table[name].filterable:
                call(options)
            else:
                before = len(subject.simulator.received)
                with pytest.raises(Unsupported, match=name):
                    call(options)
                assert len(subject.simulator.received) == before


# Pace


@where(lambda provider, _: provider.rate_limit.pace is not None)
def test_no_more_calls_of_an_account_begin_in_any_second_than_are_allowed(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = subject.provider.rate_limit.pace
    assert pace is not None
    monkeypatch.delenv("PROVIDER_CALLS_PER_SECOND")
    moments: list[float] = []
    clock = subject.simulator.clock
    handle = subject.simulator.handle

    def timed(request: Any) -> Any:
        moments.append(clock())
        return handle(request)

    monkeypatch.setattr(subject.simulator, "handle", timed)
    calls = pace + 3
    for index in range(calls):
        subject.verbs().list_pipelines(ListOptions(limit=1 + index))
    assert len(moments) == calls
    assert all(later - earlier > 1 for earlier, later in zip(moments, moments[pace:], strict=False))
    assert all(later - earlier < 0.9 for earlier, later in pairwise(moments[:pace]))
    # What would come too late is not begun.
    left = len(moments)
    late = [Verbs(subject.account(), Options(), Deadline(0.5)) for _ in range(pace + 1)]
    with pytest.raises(ProviderTimeout, match="no more calls") as caught:
        assert [each.list_pipelines(ListOptions()) for each in late] == []
    assert caught.value.may_have_acted is False
    assert len(moments) <= left + pace


# Reads that lag


def _lagging(subject: Subject, of: str) -> None:
    subject.simulator.world |= {"lag": 2, "lag_of": of}


@where(_lags)
def test_writes_that_follow_each_other_lose_nothing_while_lists_lag(subject: Subject) -> None:
    _lagging(subject, "list")
    held = subject.seed(stages=["A", "B"])
    ids = [each["id"] for each in held["stages"]]
    subject.verbs().create_stage({"name": "C", "pipeline": {"id": held["id"]}})
    subject.verbs().update_stage(ids[0], {"name": "Aye"}, None)
    subject.verbs().create_stage({"name": "D", "position": 0, "pipeline": {"id": held["id"]}})
    subject.verbs().delete_stage(ids[1], None)
    assert subject.names(subject.held(held["id"])) == ["D", "Aye", "C"]


@where(_lags)
@pytest.mark.parametrize("after", [True, False])
def test_what_is_put_back_is_put_back_though_reads_show_it_so_already(subject: Subject, after: bool) -> None:
    _lagging(subject, "all")
    held = subject.seed(stages=["A", "B"])
    ids = [each["id"] for each in held["stages"]]
    subject.simulator.fault(Fault("reset", method="PUT", after=after))
    stages = [{"id": ids[0], "name": "Aye"}, {"name": "C"}]
    with pytest.raises(UnifiedError) as caught:
        subject.verbs().update_pipeline(held["id"], {"name": "New", "stages": stages}, prune=True)
    now = subject.held(held["id"])
    assert now is not None
    assert (now["name"], subject.names(now)) == (held["name"], ["A", "B"]), caught.value.message


@where(_lags)
def test_a_change_is_never_built_on_a_read_from_before_the_last_one(subject: Subject) -> None:
    _lagging(subject, "all")
    held = subject.seed(stages=["A", "B"])
    for name in ("C", "D"):
        subject.verbs().create_stage({"name": name, "pipeline": {"id": held["id"]}})
    subject.verbs().update_pipeline(held["id"], {"name": "New"})
    assert subject.names(subject.held(held["id"])) == ["A", "B", "C", "D"]


@where(_lags)
@pytest.mark.parametrize("stages", [None, []])
def test_a_read_that_shows_no_stages_is_not_written_back(subject: Subject, stages: Any) -> None:
    held = subject.seed(stages=["A", "B"])
    body = {"id": held["id"], "name": "Sales", "stages": stages}
    subject.simulator.fault(Fault("status", method="GET", status=200, body=body))
    with pytest.raises(ProviderBadReply, match="stages"):
        subject.verbs().create_stage({"name": "C", "pipeline": {"id": held["id"]}})
    assert subject.held(held["id"]) == held


# What nobody may lose


def _colleague(subject: Subject, monkeypatch: pytest.MonkeyPatch, act: Callable[[Verbs], Any]) -> None:
    """Somebody else does something at the moment when our first write arrives."""
    handle, verbs = subject.simulator.handle, subject.verbs()
    waiting = [act]

    def meanwhile(request: Any) -> Any:
        if request.method != "GET" and waiting:
            waiting.pop()(verbs)
        return handle(request)

    monkeypatch.setattr(subject.simulator, "handle", meanwhile)


def test_a_stage_that_somebody_else_made_meanwhile_is_not_taken_back(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = subject.seed(stages=["A", "B"])
    ids = [each["id"] for each in held["stages"]]
    _colleague(
        subject, monkeypatch, lambda verbs: verbs.create_stage({"name": "Theirs", "pipeline": {"id": held["id"]}})
    )
    at = 2 if _editor(subject.provider).replace else 1  # theirs goes the same way there
    path = _own_path(subject, ids[0])
    subject.simulator.fault(Fault("status", method=_change_method(subject), status=500, path=path, at=at))
    with pytest.raises(UnifiedError):
        subject.verbs().update_pipeline(held["id"], {"stages": [{"id": ids[0], "name": "Aye"}, {"name": "Fresh"}]})
    assert subject.names(subject.held(held["id"])) == ["A", "B", "Theirs"]


def _change_method(subject: Subject) -> str:
    verbs = subject.verbs(dry_run=True)
    (held,) = subject.simulator.pipelines()
    plan = verbs.update_stage(held["stages"][0]["id"], {"name": "Else"}, held["id"]).plan or []
    subject.simulator._received.clear()
    return str(next(step["method"] for step in plan if not step["sent"]))


def _own_path(subject: Subject, stage_id: str) -> str:
    return "*" if _editor(subject.provider).replace else f"*{stage_id.rpartition(':')[2]}*"


@where(_looks)
@pytest.mark.parametrize("body", [{}, {"meta": []}, [], {"data": 1}])
def test_a_look_that_tells_nothing_is_no_leave_to_delete(subject: Subject, body: Any) -> None:
    held = subject.seed(stages=["A", "B"])
    plan = subject.verbs(dry_run=True).delete_stage(held["stages"][1]["id"], held["id"]).plan or []
    subject.simulator._received.clear()
    reads = next(index for index, step in enumerate(plan) if not step["sent"])
    subject.simulator.fault(Fault("status", method="GET", at=reads, status=200, body=body))
    with pytest.raises(UnifiedError):
        subject.verbs().delete_stage(held["stages"][1]["id"], held["id"])
    assert subject.held(held["id"]) == held


@where(lambda provider, _: not _editor(provider).orders)
def test_stages_that_come_back_at_another_place_are_not_said_to_be_put_back(subject: Subject) -> None:
    held = subject.seed(stages=["One", "Two", "Three"])
    subject.simulator.fault(Fault("status", method="DELETE", at=2, status=500))
    with pytest.raises(PartialFailure) as caught:
        subject.verbs(seconds=8).update_pipeline(held["id"], {"stages": [{"id": held["stages"][2]["id"]}]}, prune=True)
    assert caught.value.details["leftovers"]


@where(lambda provider, _: not _editor(provider).orders)
def test_an_order_that_cannot_be_told_is_left_out_with_a_warning_if_the_caller_says_so(subject: Subject) -> None:
    held = subject.seed(stages=["A", "B"])
    a, b = (each["id"] for each in held["stages"])
    verbs = subject.verbs(skip_unsupported=True)
    result = verbs.update_pipeline(held["id"], {"stages": [{"name": "C"}, {"id": b}, {"id": a, "name": "Aye"}]})
    assert subject.names(result.unified) == ["Aye", "B", "C"] == subject.names(subject.held(held["id"]))
    assert [each["field"] for each in result.warnings] == ["stages"]


@where(lambda provider, _: provider.pipelines.table("deals")["stages"].apart)
def test_a_pipeline_that_somebody_else_made_meanwhile_is_not_adopted_and_changed(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"name": "Sales", "stages": [{"name": "A"}, {"name": "B"}]}
    _colleague(subject, monkeypatch, lambda verbs: verbs.create_pipeline({"name": "Sales", "stages": [{"name": "A"}]}))
    subject.simulator.fault(
        Fault("reset", method="POST", path="*ipelines" if _plain_paths(subject) else "*Groups", at=2)
    )
    with pytest.raises(OutcomeUnknown):
        subject.create(values)
    (theirs,) = subject.simulator.pipelines()
    assert subject.names(theirs) == ["A"]


def _plain_paths(subject: Subject) -> bool:
    plan = subject.create(dry_run=True).plan or []
    return str(plan[0]["url"]).endswith("ipelines")


@where(lambda provider, _: bool(provider.pipelines.ready_made))
def test_a_stages_own_remote_data_is_sent_though_a_ready_made_one_has_its_name(subject: Subject) -> None:
    name, key = subject.provider.pipelines.ready_made[0], subject.stage.envelope
    own: dict[str, Any] = {"color": "ff0000"}
    subject.create({"name": "Sales", "stages": [{"name": name, "remote_data": {key: own} if key else own}]})
    assert any(b"ff0000" in request.body for request in subject.simulator.received)


@where(lambda provider, _: provider.pipelines.settles and provider.pipelines.table("deals")["stages"].apart)
def test_where_the_stages_that_are_there_cannot_be_seen_nothing_is_created(subject: Subject) -> None:
    """Where the create's answer does not show them, and no read does, what would be answered could be untrue."""
    subject.simulator.fault(Fault("status", method="GET", status=500, repeat=3))
    try:
        result = subject.create({"name": "Sales", "stages": [{"name": "A"}]}, seconds=8)
    except ProviderError:
        assert subject.simulator.pipelines() == []
    else:
        assert subject.names(result.unified) == subject.names(subject.held(result.unified["id"]))


def test_raw_of_a_create_shows_the_pipeline(subject: Subject) -> None:
    result = subject.create({"name": "Unmistakable", "stages": [{"name": "A"}]})
    assert "Unmistakable" in str(result.raw)
    assert str(result.unified["id"]) in str(result.raw)


@pytest.mark.parametrize("stages", [[{"name": "A"}], [], None])
def test_a_dry_run_says_truly_what_it_asked_for(subject: Subject, stages: Any) -> None:
    if not stages and subject.pipeline["stages"].required:
        stages = [{"name": "A"}, {"name": "B"}]
    plan = subject.create({"name": "Sales", "stages": stages}, dry_run=True).plan or []
    assert sum(step["sent"] for step in plan) == len(subject.simulator.received)
    assert not any("%7B" in str(step["url"]) for step in plan)


@where(lambda provider, _: _editor(provider).replace is None)
def test_what_a_deletion_is_answered_with_does_not_matter(subject: Subject) -> None:
    held = subject.seed(stages=["A", "B"])
    subject.simulator.fault(Fault("status", method="DELETE", status=200, after=True, body=[]))
    subject.verbs().delete_stage(held["stages"][1]["id"], held["id"])
    assert subject.names(subject.held(held["id"])) == ["A"]


@where(lambda provider, _: _editor(provider).orders)
def test_the_answer_is_in_the_order_that_was_asked_for_though_the_last_read_fails(subject: Subject) -> None:
    def change(held: dict[str, Any]) -> Any:
        a, b = (each["id"] for each in held["stages"] if not each.get("fixed"))
        return subject.verbs().update_pipeline(held["id"], {"stages": [{"id": b}, {"name": "X"}, {"id": a}]})

    change(subject.seed(stages=["A", "B"]))
    reads = sum(request.method == "GET" for request in subject.simulator.received)
    subject.simulator.reset()
    held = subject.seed(stages=["A", "B"])
    if reads > 1:
        subject.simulator.fault(Fault("status", method="GET", at=reads, status=500))
    assert subject.names(change(held).unified) == ["B", "X", "A"] == subject.names(subject.held(held["id"]))


@pytest.mark.parametrize("body", [{}, {"message": "Hello"}, {"id": "another", "name": "Else"}])
def test_a_read_that_is_of_something_else_is_no_answer(subject: Subject, body: Any) -> None:
    held = subject.seed()
    subject.simulator.fault(Fault("status", method="GET", status=200, body=body, repeat=2))
    with pytest.raises(ProviderBadReply):
        subject.verbs().get_pipeline(held["id"])


def test_a_provider_that_wants_fewer_calls_gets_none_at_once(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    held = subject.seed(stages=["A", "B"])
    plan = subject.verbs(dry_run=True).update_pipeline(held["id"], _two_changes(held)).plan or []
    writes = [step for step in plan if not step["sent"] and step["method"] != "GET"]
    moments: list[float] = []
    handle = subject.simulator.handle

    def timed(request: Any) -> Any:
        moments.append(subject.simulator.clock())
        return handle(request)

    monkeypatch.setattr(subject.simulator, "handle", timed)
    at = plan.index(writes[-1]) + 1
    subject.simulator.fault(Fault("rate_limit", at=at, retry_after=1, repeat=3))  # short waits are taken inside
    with pytest.raises(UnifiedError) as caught:
        subject.verbs().update_pipeline(held["id"], _two_changes(held))
    assert caught.value.code == "rate_limited"
    assert all(later - moments[at - 1] >= 0.95 for later in moments[at:])


def _two_changes(held: dict[str, Any]) -> dict[str, Any]:
    return {"name": "New", "stages": [{"id": held["stages"][0]["id"], "name": "Aye"}]}


@where(lambda provider, _: provider.rate_limit.pace is not None)
@pytest.mark.parametrize("stages", [4, 14])
def test_what_is_paced_and_runs_out_of_time_leaves_nothing_behind(
    subject: Subject, stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROVIDER_CALLS_PER_SECOND")
    values = {"name": "Sales", "stages": [{"name": f"Stage {index}"} for index in range(stages)]}
    try:
        result = subject.create(values, seconds=6)
    except ProviderError:
        assert subject.simulator.pipelines() == []
    else:
        assert subject.names(result.unified) == [f"Stage {index}" for index in range(stages)]
