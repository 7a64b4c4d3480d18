"""Functions that start in a process of their own: what a start makes, and what only a call does.

A fork of a process that has been at work stands for a snapshot of SnapStart, each child for a restore.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functions.conftest import an_event
from tests.unit.servers import Exchange, Server, ok, serving

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
SECRET = {"provider": "hubspot", "tenant": "demo", "credentials": {"type": "bearer", "token": "pat-of-a-snapshot"}}
OAUTH = {"type": "oauth2", "refresh_token": "a-refresh-token", "client_id": "c", "client_secret": "a-client-secret"}
RECORD = {"id": "1", "label": "Sales", "displayOrder": 0, "stages": []}
RESTORES = 3
_FORKS = f"""
for number in range({RESTORES}):
    if os.fork() == 0:
        os.environ["AWS_ACCESS_KEY_ID"] = f"RESTORED{{number}}"
        after_restore()
        os._exit(0)
    os.wait()
"""
_CREATE = """
import json, os, random, sys
from api.app import handler

class Context:
    aws_request_id, function_name, invoked_function_arn, memory_limit_in_mb = "id", "f", "arn", 512
    get_remaining_time_in_millis = staticmethod(lambda: 20_000)

def create():
    return handler(json.loads(sys.argv[1]), Context())["statusCode"]
"""
_MADE = """
from unified_crm import accounts, changes, credentials, models

MODELS = (models.PipelineWrite, changes.PipelineUpdate, changes.StageWrite, accounts.Stored, credentials.OAuth2)

def made():
    return json.dumps({"modules": list(sys.modules), "built": [each.__pydantic_complete__ for each in MODELS]})
"""
CALL = f"{_CREATE}\nprint(json.dumps({{'status': create()}}))"
PROVISIONED = f"{_CREATE}{_MADE}\nprint(made())"
SCRIPT = f"""
{_CREATE}{_MADE}
from snapshot_restore_py import get_after_restore, get_before_snapshot
from unified_crm import oauth, recent

def state():
    return {{"random": random.random(), "spread": oauth._memory().spread, "recent": len(recent._WRITTEN)}}

random.seed(1)
recent.remember(("a",), {{}})
print(json.dumps({{"status": create(), **state()}}), flush=True)
for hook, arguments, options in reversed(get_before_snapshot()):
    hook(*arguments, **options)
print(made(), flush=True)
frozen = random.getstate()

def after_restore():
    random.setstate(frozen)  # unlike a snapshot, a fork gives each child another
    for hook, arguments, options in get_after_restore():
        hook(*arguments, **options)
    print(json.dumps({{"status": create(), **state()}}), flush=True)
{_FORKS}"""
AUTHORIZER = f"""
import json, os, random, sys
from authorizer.app import handler
from snapshot_restore_py import get_after_restore, get_before_snapshot

class Context:
    aws_request_id = "id"

def ask():
    answer = handler({{"headers": {{"authorization": "Bearer a-token"}}}}, Context())
    print(json.dumps({{**answer, "random": random.random()}}), flush=True)

random.seed(1)
ask()
for hook, arguments, options in reversed(get_before_snapshot()):
    hook(*arguments, **options)
print(json.dumps({{"traces": "aws_xray_sdk.core" in sys.modules}}), flush=True)
frozen = random.getstate()

def after_restore():
    random.setstate(frozen)  # as above
    for hook, arguments, options in get_after_restore():
        hook(*arguments, **options)
    ask()
{_FORKS}"""


@pytest.fixture
def secrets_manager() -> Iterator[Server]:
    def talk(exchange: Exchange) -> bool:
        exchange.send(ok(json.dumps({"Name": "x", "SecretString": json.dumps(SECRET)}).encode()))
        return True

    with serving(talk) as server:
        yield server


@pytest.fixture
def hubspot() -> Iterator[Server]:
    def talk(exchange: Exchange) -> bool:
        exchange.send(ok(json.dumps(RECORD).encode()))
        return True

    with serving(talk) as server:
        yield server


def _ran(script: str, aws: Server, *arguments: str, **more: str) -> list[dict[str, Any]]:
    """What a function told, line by line, started as with SnapStart where `more` says nothing else."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(str(ROOT / each) for each in ("functions", "layers/crm")),
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
        "AWS_ENDPOINT_URL": aws.url,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "BEFORE",
        "AWS_SECRET_ACCESS_KEY": "x",
        **more,
    }
    command = [sys.executable, "-c", script, *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.fixture
def told(secrets_manager: Server, hubspot: Server) -> list[dict[str, Any]]:
    """What the process told before the snapshot, what it had imported then, and what each restored one told."""
    event = an_event({"name": "Sales", "stages": [{"name": "New"}]}, f"integrated_account_id={ACCOUNT}")
    origins = json.dumps({"hubspot": hubspot.url})
    lines = _ran(SCRIPT, secrets_manager, json.dumps(event), PROVIDER_BASE_URLS=origins)
    return [line for line in lines if ("status" in line and "message" not in line) or "modules" in line]


def _signers(server: Server) -> list[str]:
    """The access keys by which requests to AWS were signed."""
    return [re.findall(rb"Credential=(\w+)/", request)[0].decode() for request in server.requests]


def test_no_connection_credential_secret_or_chance_comes_out_of_a_snapshot(
    told: list[dict[str, Any]], secrets_manager: Server, hubspot: Server
) -> None:
    before, _, *restored = told
    assert [each["status"] for each in (before, *restored)] == [200] * (1 + RESTORES)
    assert _signers(secrets_manager) == ["BEFORE", *(f"RESTORED{number}" for number in range(RESTORES))]
    assert secrets_manager.connections == 1 + RESTORES
    assert hubspot.connections == len(hubspot.requests) == 1 + RESTORES
    for name in ("random", "spread"):
        assert len({each[name] for each in (before, *restored)}) == 1 + RESTORES
    assert [each["recent"] for each in (before, *restored)] == [1, 0, 0, 0]


NEEDED_BY_SOME = {
    *("aws_xray_sdk.core", "api.idempotency", "api.access", "unified_crm.breaker", "unified_crm.edit"),
    *("unified_crm.settle", "unified_crm.providers.kommo"),
}


def test_what_only_some_calls_need_is_in_the_snapshot(told: list[dict[str, Any]]) -> None:
    assert set(told[1]["modules"]) >= NEEDED_BY_SOME
    assert told[1]["built"] == [True] * 5


def test_a_start_ahead_of_its_time_makes_it_too(secrets_manager: Server) -> None:
    (told,) = _ran(PROVISIONED, secrets_manager, AWS_LAMBDA_INITIALIZATION_TYPE="provisioned-concurrency")
    assert set(told["modules"]) >= NEEDED_BY_SOME
    assert told["built"] == [True] * 5
    assert not secrets_manager.requests


def test_a_renewed_token_is_told_by_the_call_that_needed_one() -> None:
    """In a process that nobody else has prepared: whoever listens to such events was imported by the call."""
    stored = {**SECRET, "credentials": {**OAUTH, "access_token": "an-old-token", "expires_at": "2020-01-01T00:00:00Z"}}

    def aws(exchange: Exchange) -> bool:
        exchange.send(ok(json.dumps({"Name": "x", "SecretString": json.dumps(stored)}).encode()))
        return True

    def talk(exchange: Exchange) -> bool:
        tokens = {"access_token": "a-new-token", "refresh_token": "another", "expires_in": 1800}
        exchange.send(ok(json.dumps(tokens if b"grant_type" in exchange.request else RECORD).encode()))
        return True

    event = json.dumps(an_event(query=f"integrated_account_id={ACCOUNT}"))
    with serving(aws) as manager, serving(talk) as provider:
        origins = json.dumps({"hubspot": provider.url})
        lines = _ran(CALL, manager, event, PROVIDER_BASE_URLS=origins, AWS_LAMBDA_INITIALIZATION_TYPE="on-demand")
    assert lines[-1] == {"status": 200}
    assert [line["account"] for line in lines if line.get("message") == "TokenRefreshed"] == [ACCOUNT]
    assert [line["TokenRefreshed"] for line in lines if "TokenRefreshed" in line] == [[1.0]]


def test_the_authorizer_takes_no_connection_credential_or_chance_out_of_a_snapshot() -> None:
    item = {"Item": {"tenant": {"S": "demo"}}}

    def talk(exchange: Exchange) -> bool:
        exchange.send(ok(json.dumps(item).encode()))
        return True

    with serving(talk) as dynamodb:
        before, prepared, *restored = _ran(AUTHORIZER, dynamodb, TOKENS_TABLE="tokens")
        signers, connections = _signers(dynamodb), dynamodb.connections
    assert before["isAuthorized"]
    # DynamoDB's client takes its pauses between tries from the same generator.
    assert len({each.pop("random") for each in (before, *restored)}) == 1 + RESTORES
    assert restored == [before] * RESTORES
    assert prepared == {"traces": True}
    assert signers == ["BEFORE", *(f"RESTORED{number}" for number in range(RESTORES))]
    assert connections == 1 + RESTORES
