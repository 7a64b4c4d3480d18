"""What the logs and metrics tell, and what they never do."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from api import telemetry
from local import simulators
from local.simulators.base import Fault, closed_port
from local.world import World
from tests.conftest import Answer
from tests.functions.conftest import ACCOUNTS, PIPELINE, Log, an_event
from unified_crm import accounts

Api = Callable[..., Answer]
Create = Callable[..., Answer]
REQUEST_ID = "zWLGlF+z3Nhu2zE="


@pytest.fixture(params=ACCOUNTS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def create(api: Api, name: str) -> Create:
    def call(body: Any = PIPELINE, **more: Any) -> Answer:
        return api(an_event(body, f"integrated_account_id={ACCOUNTS[name]}", **more))

    return call


@pytest.fixture
def simulator(world: World, name: str) -> Any:
    return world.simulators[name]


@pytest.fixture
def debugging() -> Iterator[None]:
    level = telemetry.logger.log_level
    telemetry.logger.setLevel("DEBUG")
    yield
    telemetry.logger.setLevel(level)


@pytest.fixture(autouse=True)
def _nothing_leaks(log: Log, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    yield
    shown = log.text + "".join(capsys.readouterr())
    assert not [secret for secret in (*simulators.demo_secrets(), "demo-token") if secret in shown]


def _metrics(log: Log) -> list[dict[str, Any]]:
    """The lines that hold metrics, as CloudWatch finds them: each dimension and metric that is named is there."""
    lines = [line for line in log.lines if "_aws" in line]
    for line in lines:
        (directive,) = line["_aws"]["CloudWatchMetrics"]
        assert abs(line["_aws"]["Timestamp"] / 1000 - time.time()) < 60
        for name in (*directive["Dimensions"][0], *(each["Name"] for each in directive["Metrics"])):
            assert line[name]
    return lines


# Logs


def test_every_line_says_whose_call_it_is(create: Create, name: str, log: Log) -> None:
    assert create().status == 200
    assert [line["message"] for line in log.lines] == ["Answered"]
    for line in log.lines:
        assert line["correlation_id"] == REQUEST_ID
        assert (line["tenant"], line["provider"], line["account"]) == ("demo", name, ACCOUNTS[name])
        assert line["function_request_id"]
        assert line["service"] == "unified-crm"


@pytest.mark.usefixtures("debugging")
def test_a_call_to_the_provider_is_logged_without_its_query_and_body(create: Create, log: Log) -> None:
    create({**PIPELINE, "name": "Private name"})
    line = log.line("Called the provider")
    assert (line["method"], line["status"]) == ("POST", 201)
    assert "error" not in line
    assert line["path"].startswith("/")
    assert "?" not in line["path"]
    assert line["milliseconds"] >= 0
    assert "Private name" not in log.text


def test_the_answer_is_logged_with_its_status(create: Create, log: Log) -> None:
    create()
    line = log.line("Answered")
    assert (line["method"], line["path"], line["status"]) == ("POST", "/unified/crm/pipelines", 200)
    assert line["milliseconds"] > line["provider_milliseconds"] > 0
    assert line["provider_calls"] == 1


def test_what_the_provider_took_is_told_of_each_call_alone(create: Create, log: Log, simulator: Any) -> None:
    simulator.fault(Fault("status", status=503, body="x"))
    for body in (PIPELINE, {**PIPELINE, "name": "Other"}, {"name": 5}):
        create(body)
    answered = [line for line in log.lines if line["message"] == "Answered"]
    assert [line["provider_calls"] for line in answered][1:] == [1, 0]
    assert answered[2]["provider_milliseconds"] == 0


def test_only_failed_calls_to_the_provider_have_a_line_of_their_own(create: Create, log: Log, simulator: Any) -> None:
    simulator.fault(Fault("status", status=400, body="x"))
    assert create().status == 400
    assert create().status == 200
    assert log.line("Called the provider")["status"] == 400


def test_a_call_that_never_came_back_is_logged_with_its_error(
    create: Create, name: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({name: closed_port()}))
    assert create().status == 502
    line = [each for each in log.lines if each["message"] == "Called the provider"][-1]
    assert line["error"] == "provider_unreachable"
    assert "status" not in line
    failure = next(each for each in log.lines if each["level"] == "ERROR")
    assert (failure["code"], failure["status"]) == ("provider_unreachable", 502)


def test_a_callers_mistake_is_no_error_in_the_log(create: Create, log: Log) -> None:
    assert create({"name": 5}).status == 400
    assert {line["level"] for line in log.lines} == {"INFO"}
    line = next(each for each in log.lines if each.get("code"))
    assert (line["code"], line["status"], line["correlation_id"]) == ("invalid_request", 400, REQUEST_ID)
    assert "exception" not in line


def test_a_fault_of_ours_is_logged_with_its_trace(create: Create, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any, **__: Any) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(accounts, "load", explode)
    answer = create()
    assert answer.status == 500
    line = next(each for each in log.lines if each["level"] == "ERROR")
    assert line["exception_name"] == "RuntimeError"
    assert line["correlation_id"] == answer.json["request_id"]


def test_what_one_call_logs_is_not_in_the_next(api: Api, log: Log) -> None:
    for account in ACCOUNTS.values():
        api(an_event(query=f"integrated_account_id={account}"))
    before = len(log.lines)
    assert api(an_event(path="/nowhere")).status == 404
    for line in log.lines[before:]:
        assert not {"provider", "account"} & line.keys()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=500, body="x"),
        Fault("status", status=401, body="x"),
        Fault("cut"),
        Fault("redirect"),
        Fault("rate_limit", repeat=3),
    ],
    ids=lambda fault: f"{fault.kind}{fault.status}",
)
def test_no_fault_makes_a_credential_appear(create: Create, simulator: Any, fault: Fault) -> None:
    """The check itself is in the fixture."""
    simulator.fault(fault)
    assert (create().status == 200) is (fault.kind == "cut")


def test_a_credential_that_the_provider_echoes_is_shown_nowhere(create: Create, simulator: Any) -> None:
    secret = simulator.demo_account["credentials"]
    echoed = secret.get("api_key") or secret["token"]
    simulator.fault(Fault("status", status=400, body={"message": f"bad key {echoed}", "request": {"key": echoed}}))
    answer = create()
    assert (answer.status, answer.json["message"]) == (400, "bad key [redacted]")
    assert echoed not in answer.text


def test_a_malformed_account_shows_nothing_of_itself(api: Api, world: World, log: Log) -> None:
    account = str(uuid4())
    stored = {"provider": "close", "tenant": "demo", "credentials": {"type": "api_key", "api_key": "sesame\nrasputin"}}
    world.add_account(account, stored)
    assert api(an_event(query=f"integrated_account_id={account}")).status == 503
    assert "sesame" not in log.text
    assert "rasputin" not in log.text


# Metrics


def test_a_call_is_counted_with_its_provider_and_latency(create: Create, name: str, log: Log) -> None:
    create()
    (line,) = _metrics(log)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "UnifiedCRM"
    assert {"provider", "service"} <= set(directive["Dimensions"][0])
    units = {each["Name"]: each["Unit"] for each in directive["Metrics"]}
    assert units == {"Calls": "Count", "ProviderLatency": "Milliseconds"}
    assert (line["provider"], line["Calls"]) == (name, [1.0])
    assert len(line["ProviderLatency"]) == 1
    assert line["ProviderLatency"][0] > 0


def test_each_request_to_the_provider_has_its_latency_and_each_failure_is_counted(
    create: Create, simulator: Any, name: str, log: Log
) -> None:
    simulator.fault(Fault("status", status=500, body={"message": "broken"}))
    assert create().status == 502
    (line,) = _metrics(log)
    assert (line["provider"], line["ProviderErrors"]) == (name, [1.0])
    assert len(line["ProviderLatency"]) == len(simulator.received) == 2, "the create, and the look whether it happened"


def test_a_provider_that_cannot_be_reached_is_counted(
    create: Create, name: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({name: closed_port()}))
    create()
    (line,) = _metrics(log)
    assert line["ProviderErrors"] == [1.0, 1.0]  # what surely did not happen is sent once more


def test_a_call_that_fails_before_any_provider_is_counted_too(api: Api, log: Log) -> None:
    api(an_event(query=""))
    (line,) = _metrics(log)
    assert line["Calls"] == [1.0]
    assert "ProviderErrors" not in line
    assert "provider" not in line


def test_the_dimension_of_one_call_is_not_in_the_next(api: Api, log: Log) -> None:
    for account in ACCOUNTS.values():
        api(an_event(query=f"integrated_account_id={account}"))
    api(an_event(query=""))
    assert [line.get("provider") for line in _metrics(log)] == ["close", "hubspot", None]


def test_metrics_are_written_where_the_log_level_leaves_the_line_out(
    create: Create, name: str, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    level = telemetry.logger.log_level
    telemetry.logger.setLevel("ERROR")
    try:
        create()
    finally:
        telemetry.logger.setLevel(level)
    assert log.lines == []
    (line,) = [json.loads(each) for each in capsys.readouterr().out.splitlines() if "ProviderLatency" in each]
    assert (line["Calls"], line["provider"], line["service"]) == ([1.0], name, "unified-crm")
    assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "UnifiedCRM"


def test_a_line_is_as_powertools_writes_it() -> None:
    record = logging.LogRecord("x", logging.INFO, "app.py", 7, "Said", (), None, "work")
    vars(record).update({"status": 200, "nothing": None, "path": "/é", "values": [1.5]})
    formatter = telemetry.Formatter(service="s")
    formatter.append_keys(tenant="demo", account=None)
    short, own = formatter.format(record), LambdaPowertoolsFormatter.format(formatter, record)
    assert json.loads(short) == json.loads(own)
    assert "é" in short
