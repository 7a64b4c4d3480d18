"""The template and the functions speak of the same things: an alarm on a metric that nobody counts is never heard."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml  # type: ignore[import-untyped]

from api import access, telemetry  # noqa: F401 - the first is who listens, which a call imports: test_start.py
from local.simulators.base import Fault
from local.world import World
from tests.conftest import CLOSE, Answer
from tests.functions.conftest import an_event
from unified_crm import oauth

Api = Callable[..., Answer]
TOLD = {"RefreshTokenLost"}
"""What oauth.py tells of and no error code stands for."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """CloudFormation's tags as what stands behind them."""


def _plain(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_Loader.add_multi_constructor("!", _plain)
TEMPLATE = yaml.load((Path(__file__).parents[2] / "template.yaml").read_text(), _Loader)
RESOURCES: dict[str, Any] = TEMPLATE["Resources"]


def _of(kind: str) -> dict[str, Any]:
    return {name: each for name, each in RESOURCES.items() if each["Type"] == kind}


def test_each_metric_that_someone_should_hear_of_has_an_alarm() -> None:
    alarms = [each["Properties"] for each in _of("AWS::CloudWatch::Alarm").values()]
    ours = [each for each in alarms if each["Namespace"] == telemetry.NAMESPACE]
    assert {each["MetricName"] for each in ours} == {*telemetry.COUNTED.values(), *TOLD}
    for each in ours:
        assert each["Dimensions"] == [{"Name": "service", "Value": "AWS::StackName"}]
    assert TEMPLATE["Globals"]["Function"]["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] == "AWS::StackName"
    assert all(each["AlarmActions"] for each in alarms)


def test_what_a_new_version_can_cause_takes_it_back() -> None:
    """And nothing of the HTTP API, which waits for the alias."""
    function = RESOURCES["ApiFunction"]["Properties"]
    for name in function["DeploymentPreference"]["Alarms"]:
        alarm = RESOURCES[name]["Properties"]
        assert alarm["Namespace"] in ("AWS/Lambda", telemetry.NAMESPACE)
        assert alarm["Period"] <= 60, "a canary has minutes"
    assert function["AutoPublishAlias"]
    for layer in _of("AWS::Serverless::LayerVersion").values():
        assert layer["Properties"]["PublishLambdaVersion"] is True


def test_tables_are_kept() -> None:
    tables = _of("AWS::DynamoDB::Table")
    assert {"TokensTable", "IdempotencyTable"} == set(tables)
    for table in tables.values():
        assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")


def test_the_dashboard_is_json_and_shows_what_is_counted() -> None:
    body = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]
    text = json.dumps(json.loads(re.sub(r"\$\{[A-Za-z:]+\}", "x", body)))
    for metric in {*telemetry.COUNTED.values(), *TOLD, "Calls", "ProviderErrors", "ProviderLatency"}:
        assert metric in text


def _counted(text: str, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines() if '"_aws"' in line]
    return [line for line in lines if name in line]


def test_an_error_that_someone_should_hear_of_is_counted_by_service_alone(
    api: Api, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    account = str(uuid4())
    credentials = {"type": "api_key", "api_key": "refused"}
    world.add_account(account, {"provider": "close", "tenant": "demo", "credentials": credentials})
    assert api(an_event(query=f"integrated_account_id={account}")).status == 401
    (line,) = _counted(capsys.readouterr().out, "NeedsReauth")
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("UnifiedCRM", [["service"]])
    assert (line["service"], line["NeedsReauth"]) == ("unified-crm", [1.0])


def test_a_fault_of_ours_is_counted(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVIDER_BASE_URLS", "[]")
    assert api(an_event()).status == 500
    (line,) = _counted(capsys.readouterr().out, "InternalError")
    assert line["InternalError"] == [1.0]


def test_a_refusal_is_counted_as_nothing_but_a_call(api: Api, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.simulators["close"].fault(Fault("status", status=422, body={"message": "No."}))  # type: ignore[attr-defined]
    assert api(an_event()).status == 422
    text = capsys.readouterr().out
    assert not [name for name in (*telemetry.COUNTED.values(), *TOLD) if _counted(text, name)]


def test_a_refresh_token_that_is_lost_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    for listener in oauth.listeners:
        listener(oauth.Event("RefreshTokenLost", CLOSE, "close"))
    (line,) = _counted(capsys.readouterr().out, "RefreshTokenLost")
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]
