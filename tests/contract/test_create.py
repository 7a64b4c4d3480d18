"""Creating a pipeline, the same for every provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from local.simulators.base import Fault, Kind, closed_port
from tests.contract.conftest import Subject, first_world, where
from unified_crm.errors import (
    InvalidRequest,
    OutcomeUnknown,
    PartialFailure,
    ProviderBadReply,
    ProviderError,
    ProviderUnreachable,
    RemoteError,
    UnifiedError,
    Unsupported,
)


def _same(subject: Subject, values: dict[str, Any], *pipelines: dict[str, Any]) -> None:
    """Each of `pipelines` is what `values` asked for, but for what the provider keeps in every pipeline."""
    wanted = [stage["name"] for stage in values["stages"]]
    for pipeline in pipelines:
        assert (pipeline["name"], subject.names(pipeline, wanted)) == (values["name"], wanted)


def test_what_was_written_is_what_is_read(subject: Subject) -> None:
    values = subject.values()
    result = subject.create(values)
    (held,) = subject.simulator.pipelines()
    _same(subject, values, held, result.unified)
    assert [stage["status"] for stage in held["stages"]] == [stage.get("status") for stage in values["stages"]]
    assert [(s["id"], s["status"]) for s in result.unified["stages"]] == [
        (s["id"], s["status"]) for s in held["stages"]
    ]
    assert [stage["position"] for stage in result.unified["stages"]] == list(range(len(values["stages"])))
    assert {stage["pipeline"]["id"] for stage in result.unified["stages"]} == {held["id"]} == {result.unified["id"]}
    assert result.unified["entity"] == "opportunity"
    assert (result.outcome, result.warnings) == ("created", [])


def test_twenty_stages_keep_their_order(subject: Subject) -> None:
    values = {"name": "Long", "stages": [{"name": f"Stage {index:02}", "status": "active"} for index in range(20)]}
    result = subject.create(values)
    _same(subject, values, subject.simulator.pipelines()[0], result.unified)


def test_every_kind_of_credentials_gets_in(subject: Subject) -> None:
    for index, secret in enumerate((subject.simulator.demo_account, *subject.simulator.accounts)):
        assert subject.create(subject.values(f"Sales {index}"), account=subject.account(secret)).outcome == "created"


def test_wrong_credentials_mean_that_the_account_must_be_authorized_again(subject: Subject) -> None:
    secret = subject.simulator.demo_account
    wrong = {key: "wrong-credential" if key != "type" else value for key, value in secret["credentials"].items()}
    with pytest.raises(RemoteError) as caught:
        subject.create(account=subject.account({**secret, "credentials": wrong}))
    assert caught.value.code == "needs_reauth"
    assert subject.simulator.pipelines() == []


def test_what_the_provider_requires_is_asked_for_before_any_call(subject: Subject) -> None:
    for row in subject.pipeline:
        if row.required:
            values = {key: value for key, value in subject.values().items() if key != row.unified}
            with pytest.raises(
                InvalidRequest, match=f"{row.unified} is required by {subject.provider.label}"
            ) as caught:
                subject.create(values)
            assert caught.value.insight["missing_required_body_fields"]["value"] == [row.unified]
    with pytest.raises(InvalidRequest, match=r"stages\[1\]\.name is required"):
        subject.create({"name": "Sales", "stages": [{"name": "One"}, {"status": "active"}]})
    assert subject.simulator.received == []


def test_a_status_that_the_provider_cannot_express_is_refused_before_any_call(subject: Subject) -> None:
    strange = next(s for s in ("closed", "won", "lost", "active") if s not in subject.statuses())
    values = {"name": "Sales", "stages": [{"name": "One"}, {"name": "Two", "status": strange}]}
    with pytest.raises(Unsupported, match=rf"stages\[1\]\.status: {subject.provider.label} cannot express '{strange}'"):
        subject.create(values)
    assert subject.simulator.received == []


def test_what_cannot_be_expressed_is_left_out_with_a_warning_if_the_caller_says_so(subject: Subject) -> None:
    strange = next(s for s in ("closed", "won", "lost", "active") if s not in subject.statuses())
    values = {"name": "Sales", "stages": [{"name": "One"}, {"name": "Two", "status": strange}]}
    result = subject.create(values, skip_unsupported=True)
    assert [each["field"] for each in result.warnings if "by itself" not in each["message"]] == ["stages[1].status"]
    assert subject.provider.label in result.warnings[0]["message"]
    _same(subject, values, subject.simulator.pipelines()[0])


def test_what_is_required_is_never_skipped(subject: Subject) -> None:
    with pytest.raises(InvalidRequest, match="is required by"):
        subject.create({"stages": [{"name": "One"}]}, skip_unsupported=True)
    assert subject.simulator.received == []


def test_remote_query_and_remote_data_reach_the_main_call_last(subject: Subject) -> None:
    remote_data = {**subject.remote_data(subject.pipeline, {"name": "Mine"}), "x": {"y": [1]}}
    result = subject.create(remote_query=(("a[b][]", "c d"), ("é", "&=")), remote_data=remote_data)
    main = subject.simulator.received[0]
    assert main.query[-2:] == [("a[b][]", "c d"), ("é", "&=")]
    sent = main.json[0] if isinstance(main.json, list) else main.json
    assert sent["x"] == {"y": [1]}
    assert result.unified["name"] == "Mine"
    rest = [key for request in subject.simulator.received[1:] for key, _ in request.query]
    assert not {"a[b][]", "é"} & set(rest)


def test_remote_data_may_stand_for_a_required_field(subject: Subject) -> None:
    values = subject.values()
    del values["name"]
    remote = subject.remote_data(subject.pipeline, {"name": "From remote data"})
    assert subject.create(values, remote_data=remote).unified["name"] == "From remote data"


def test_a_stages_own_remote_data_is_merged_into_that_stage(subject: Subject) -> None:
    values = subject.values()
    own = {subject.stage["name"].path[0]: "Renamed", "extra": {"deep": True}}
    values["stages"][0]["remote_data"] = {subject.stage.envelope: own} if subject.stage.envelope else own
    result = subject.create(values)
    assert result.unified["stages"][0]["name"] == "Renamed"
    assert '"extra": {"deep": true}' in b" ".join(r.body for r in subject.simulator.received).decode().replace(
        '":', '": '
    )


def test_a_credential_in_remote_query_is_refused_before_any_call(subject: Subject) -> None:
    for name in subject.provider.query_credentials:
        for key in (name, name.upper(), f"{name}[]"):
            with pytest.raises(InvalidRequest, match="credential"):
                subject.create(remote_query=((key, "x"),))
    assert subject.simulator.received == []


def test_a_connection_that_is_refused_is_certain_to_have_done_nothing(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVIDER_BASE_URLS", f'{{"{subject.provider.name}": "{closed_port()}"}}')
    with pytest.raises(ProviderUnreachable, match="nothing was sent"):
        subject.create()


def test_a_redirect_is_not_followed(subject: Subject) -> None:
    subject.simulator.fault(Fault("redirect"))
    with pytest.raises(ProviderBadReply, match="redirect"):
        subject.create()
    assert len(subject.simulator.received) == 1


@pytest.mark.parametrize("retry_after", [7, None])
def test_a_rate_limit_says_how_long_to_wait(subject: Subject, retry_after: int | None) -> None:
    subject.simulator.fault(Fault("rate_limit", retry_after=retry_after, repeat=3))  # a short wait is taken
    with pytest.raises(RemoteError) as caught:
        subject.create()
    error = caught.value
    assert (error.code, error.status) == ("rate_limited", 429)
    assert int(error.headers["retry-after"]) >= 1
    assert retry_after in (None, int(error.headers["retry-after"]))
    assert {name: value.isdigit() for name, value in error.headers.items()} == {
        "retry-after": True,
        "ratelimit-limit": True,
        "ratelimit-remaining": True,
        "ratelimit-reset": True,
    }
    assert subject.simulator.pipelines() == []


FAULTS: dict[str, Fault] = {
    "500": Fault("status", status=500, body={"message": "broken"}),
    "400": Fault("status", status=400, body={"message": "no"}),
    "429": Fault("rate_limit", retry_after=0),
    "502-after-commit": Fault("status", status=502, after=True),
    "reset": Fault("reset"),
    "reset-after-commit": Fault("reset", after=True),
    "cut": Fault("cut"),
    "html": Fault("html"),
    "html-after-commit": Fault("html", after=True),
    "empty": Fault("empty"),
    "truncated": Fault("truncated"),
    "wrong-type": Fault("wrong_type"),
    "wrong-type-after-commit": Fault("wrong_type", after=True),
}


SLOW: dict[str, Fault] = {
    "hang": Fault("hang"),
    "hang-after-commit": Fault("hang", after=True),
    "drip": Fault("drip", every=0.2),
}


def _steps(subject: Subject) -> int:
    subject.create()
    steps = len(subject.simulator.received)
    subject.simulator.reset()
    return steps


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_step_leaves_all_or_nothing_and_the_caller_is_told_which(subject: Subject, fault: str) -> None:
    _break_each_step(subject, FAULTS[fault])


@where(first_world)
@pytest.mark.parametrize("fault", SLOW)
def test_an_answer_that_does_not_come_leaves_all_or_nothing(subject: Subject, fault: str) -> None:
    _break_each_step(subject, SLOW[fault])


def _break_each_step(subject: Subject, fault: Fault) -> None:
    for step in range(1, _steps(subject) + 1):
        subject.simulator.reset()
        before = subject.simulator.seed("Older", ["One"])
        subject.simulator.fault(_at(fault, step))
        slow = fault.kind in ("hang", "drip")
        try:
            result = subject.create(seconds=1.2 if slow else 10)
        except UnifiedError as error:
            assert isinstance(error, ProviderError | OutcomeUnknown), f"step {step}: {error!r}"
            if isinstance(error, ProviderError):
                assert subject.simulator.pipelines() == [before], f"step {step}: left behind after {error!r}"
            else:
                assert len(subject.simulator.pipelines()) <= 2, f"step {step}: a duplicate"
            if step > 1:
                assert error.details["rolled_back"][0]["resource"] == "pipeline"
                failed = int(error.message.partition("Step ")[2].split()[0])
                assert failed >= step  # what was settled by a look can leave too little time for the rest
                assert "Nothing is left behind" in error.message
        else:
            held = [each for each in subject.simulator.pipelines() if each["id"] != before["id"]]
            assert len(held) == 1, f"step {step}"
            _same(subject, subject.values(), held[0], result.unified)
        assert subject.simulator.pending == [], f"step {step} was not reached"


def _at(fault: Fault, step: int) -> Fault:
    return Fault(**{**vars(fault), "at": step})


@pytest.mark.parametrize("kind", ["reset", "cut", "html"])
def test_a_create_whose_answer_was_lost_is_found_and_adopted(subject: Subject, kind: Kind) -> None:
    subject.simulator.seed("Other", ["One"])
    subject.simulator.fault(Fault(kind, after=True))
    born_with = subject.simulator.world.get("ready_made")
    strange = isinstance(born_with, tuple) and not {*born_with} <= {*subject.provider.pipelines.ready_made}
    if "created_at" not in subject.pipeline or strange:
        with pytest.raises(OutcomeUnknown, match="cannot be told"):  # nothing tells it from an older one
            subject.create()
        assert len(subject.simulator.pipelines()) == 2
        return
    result = subject.create()
    assert result.outcome == "adopted"
    _same(subject, subject.values(), result.unified)
    assert len(subject.simulator.pipelines()) == 2


def test_a_create_that_the_provider_did_not_carry_out_may_be_sent_again(subject: Subject) -> None:
    subject.simulator.fault(Fault("status", status=500, body={"message": "broken"}))
    with pytest.raises(RemoteError, match="broken") as caught:
        subject.create()
    assert (caught.value.status, caught.value.retryable) == (502, True)
    assert subject.create().outcome == "created"
    assert len(subject.simulator.pipelines()) == 1


def test_where_nobody_can_tell_the_outcome_is_unknown(subject: Subject) -> None:
    subject.simulator.fault(Fault("reset", after=True), Fault("status", at=2, status=500, repeat=9))
    with pytest.raises(OutcomeUnknown, match="List the pipelines") as caught:
        subject.create()
    assert (caught.value.status, caught.value.retryable) == (500, False)


@where(lambda provider, simulator: provider.pipelines.settles and not simulator.world.get("inline_statuses"))
def test_what_cannot_be_cleaned_up_is_named(subject: Subject) -> None:
    assert _steps(subject) > 1
    subject.simulator.fault(
        Fault("status", at=2, status=500, body={"message": "broken"}),
        Fault("status", method="DELETE", status=503, repeat=99),
    )
    with pytest.raises(PartialFailure, match="broken") as caught:
        subject.create(seconds=5)
    (left,) = subject.simulator.pipelines()
    assert caught.value.status == 500
    leftovers = caught.value.details["leftovers"]
    assert leftovers[0] == {"resource": "pipeline", "id": left["id"], "name": left["name"]}
    assert [each["id"] for each in leftovers[1:]] == [stage["id"] for stage in left["stages"]]


@pytest.fixture(autouse=True)
def _no_credentials_in_errors(subject: Subject) -> Iterator[None]:
    yield
    for request in subject.simulator.received:
        assert not any(secret in request.raw_query for secret in subject.simulator.secrets())
