"""`Idempotency-Key`: the same call again is answered again and not carried out again."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto.dynamodb.models import DynamoDBBackend

from local.simulators.base import Fault, closed_port
from local.world import IDEMPOTENCY_TABLE, ROOT, World
from tests.conftest import CLOSE, HUBSPOT, SECRETS, Answer, Http
from tests.functions.conftest import PATH, PIPELINE, STAGES, Event, Log, Place, an_event
from tests.unit.servers import Exchange, ok, serving

Api = Callable[..., Answer]
Keyed = Callable[..., Answer]
OTHER = {"name": "Another", "stages": STAGES}
TOO_LONG = 400 * 1024


@pytest.fixture
def key() -> str:
    return str(uuid4())


@pytest.fixture
def call(api: Api, key: str) -> Keyed:
    """Create `body` under the test's key; anything else of the event by name."""

    def call(body: Any = PIPELINE, query: str = "", *, key: str = key, account: str = CLOSE, **more: Any) -> Answer:
        seconds = more.pop("seconds", 29)
        headers = {"content-type": "application/json", "idempotency-key": key}
        query = f"integrated_account_id={account}{query}"
        return api(an_event(body, query, headers=headers, **more), seconds=seconds)

    return call


@pytest.fixture
def table(world: World) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """All that is in the table now; it is empty at first."""
    client = boto3.client("dynamodb", endpoint_url=world.aws_url)
    for item in client.scan(TableName=IDEMPOTENCY_TABLE)["Items"]:
        client.delete_item(TableName=IDEMPOTENCY_TABLE, Key={"id": item["id"]})
    yield lambda: list(client.scan(TableName=IDEMPOTENCY_TABLE)["Items"])
    client.close()


@pytest.fixture
def dynamodb_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sends the functions to another DynamoDB."""
    store = importlib.import_module("api.idempotency")._store

    def at(url: str) -> None:
        store.cache_clear()
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)

    yield at
    store.cache_clear()


@pytest.fixture
def atomic(monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB checks a condition and writes in one step. moto's server has threads and no lock for that."""
    lock = threading.Lock()
    put_item = DynamoDBBackend.put_item

    def put(*arguments: Any, **named: Any) -> Any:
        with lock:
            return put_item(*arguments, **named)

    monkeypatch.setattr(DynamoDBBackend, "put_item", put)


def _is_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["code"]) == (status, code), answer.text
    assert "idempotent-replayed" not in answer.headers


def _is_replay(answer: Answer, first: Answer) -> None:
    assert "idempotent-replayed" not in first.headers
    assert answer == Answer(first.status, {**first.headers, "idempotent-replayed": "true"}, first.text)


# Replays


@pytest.mark.parametrize("format_", ["unified", "raw", "normalized"])
@pytest.mark.parametrize("name", ["close", "hubspot"])
def test_the_same_call_is_answered_the_same_and_sent_once(world: World, call: Keyed, name: str, format_: str) -> None:
    account, simulator = {"close": CLOSE, "hubspot": HUBSPOT}[name], world.simulators[name]
    query = f"&truto_response_format={format_}"
    first = call(account=account, query=query)
    assert first.status == 200
    sent = len(simulator.received)  # type: ignore[attr-defined]
    _is_replay(call(account=account, query=query), first)
    _is_replay(call(account=account, query=query), first)
    assert len(simulator.received) == sent  # type: ignore[attr-defined]


def test_over_http_too(close: Place, key: str) -> None:
    first, again = (close.create(headers={"idempotency-key": key}) for _ in range(2))
    assert (first.status, again.status, again.text) == (200, 200, first.text)
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    assert again.headers["truto-outcome"] == "created"
    assert len(close.simulator.pipelines()) == 1


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"name": "New"}), ("DELETE", None)])
def test_changes_and_deletions_too(close: Place, call: Keyed, method: str, body: Any) -> None:
    path = f"{PATH}/{close.simulator.seed('Sales', ['One'])['id']}"
    first = call(body, method=method, path=path)
    assert first.status == 200
    sent = len(close.simulator.received)
    _is_replay(call(body, method=method, path=path), first)
    assert len(close.simulator.received) == sent


def test_the_same_call_may_be_written_otherwise(call: Keyed) -> None:
    first = call({"name": "Sales", "stages": STAGES}, "&remote_query[a]=b c&truto_unsupported=fail&unknown=1")
    body = json.dumps({"stages": STAGES, "name": "Sales"}, indent=3)
    _is_replay(call(body, "&truto_unsupported=fail&remote_query%5Ba%5D=b+c&unknown=2"), first)


def test_on_reads_the_key_is_ignored(close: Place, call: Keyed, table: Any) -> None:
    for key in ("k", "", "x" * 999, "é"):
        answer = call(None, method="GET", key=key)
        assert (answer.status, answer.json["result_count"]) == (200, 0)
        close.simulator.seed("Sales", ["One"])
        assert call(None, method="GET", key=key).json["result_count"] == 1
        close.simulator.reset()
    assert table() == []


def test_dry_runs_are_not_stored(close: Place, call: Keyed, table: Any) -> None:
    assert call(query="&truto_dry_run=true").json["dry_run"] is True
    assert table() == []
    answer = call()
    assert (answer.status, "idempotent-replayed" in answer.headers) == (200, False)
    assert len(close.simulator.pipelines()) == 1


def test_a_record_lasts_a_day(call: Keyed, table: Any) -> None:
    call()
    (item,) = table()
    assert abs(int(item["expiration"]["N"]) - time.time() - 24 * 3600) < 10
    assert item["id"]["S"].startswith("call#")


# The key


@pytest.mark.parametrize("wrong", ["", "  ", "x" * 256, "é", "a\tb", "a\x7fb", "a\nb"])
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_a_key_that_is_none_is_refused(close: Place, call: Keyed, wrong: str, method: str) -> None:
    path = PATH if method == "POST" else f"{PATH}/pipe_1"
    answer = call(key=wrong, method=method, path=path)
    _is_refused(answer, 400, "invalid_request")
    assert "Idempotency-Key" in answer.json["message"]
    assert close.simulator.received == []


@pytest.mark.parametrize("good", ["x", "x" * 255, '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "a b", "!~"])
def test_any_printable_text_is_a_key(call: Keyed, good: str, table: Any) -> None:
    first = call(key=good)
    _is_replay(call(key=f" {good} "), first)
    assert len(table()) == 1


def test_another_tenants_key_is_another(world: World, call: Keyed, close: Place) -> None:
    account = str(uuid4())
    world.add_account(account, {**close.simulator.demo_account, "tenant": "other"})
    assert call().status == 200
    answer = call(account=account, context={"tenant": "other", "accounts": "*"})
    assert (answer.status, "idempotent-replayed" in answer.headers) == (200, False)
    assert len(close.simulator.pipelines()) == 2
    refused = call(context={"tenant": "other", "accounts": "*"})
    _is_refused(refused, 404, "not_found")


def test_a_token_that_may_not_use_the_account_is_shown_no_stored_answer(call: Keyed) -> None:
    assert call().status == 200
    _is_refused(call(context={"tenant": "demo", "accounts": HUBSPOT}), 404, "not_found")
    assert call(context={"tenant": "demo", "accounts": f"{HUBSPOT},{CLOSE}"}).headers["idempotent-replayed"] == "true"


def test_another_account_path_or_method_has_its_own_keys(world: World, close: Place, call: Keyed) -> None:
    account = str(uuid4())
    world.add_account(account, close.simulator.demo_account)
    made = [call(), call(account=account), call(account=HUBSPOT)]
    paths = [f"{PATH}/{each.json['id']}" for each in made[:2]]
    changed = [call({"name": "New"}, method="PATCH", path=path) for path in paths]
    deleted = [call(None, method="DELETE", path=path) for path in paths]
    for answer in made + changed + deleted:
        assert (answer.status, "idempotent-replayed" in answer.headers) == (200, False)
    assert len({each.json["id"] for each in made}) == 3


# Another call with the key


@pytest.mark.parametrize(
    ("body", "query"),
    [
        (OTHER, ""),
        ({"name": "Sales", "stages": STAGES[:1]}, ""),
        (PIPELINE, "&truto_response_format=raw"),
        (PIPELINE, "&truto_unsupported=skip"),
        (PIPELINE, "&remote_query[a]=b"),
        (PIPELINE, "&entity=opportunity"),
        (PIPELINE, "&truto_exclude_fields=name"),
    ],
)
def test_another_call_with_the_key_is_refused(close: Place, call: Keyed, body: Any, query: str) -> None:
    first = call()
    _is_refused(call(body, query), 422, "idempotency_mismatch")
    assert len(close.simulator.received) == 1
    _is_replay(call(), first)


# Failures


def test_a_failure_without_effect_does_not_use_up_the_key(place: Place, call: Keyed, table: Any) -> None:
    faults = [
        Fault("status", status=400, body={"message": "no"}),
        Fault("status", status=401, body={"message": "no"}),
        Fault("rate_limit", retry_after=20),
        Fault("status", status=500, body="no"),
    ]
    for fault in faults:
        place.simulator.fault(fault)
        answer = call(account=place.account)
        assert answer.status in (400, 401, 429, 502), answer.text
        assert table() == []
    for body, query in [({"nam": 1}, ""), (PIPELINE, "&truto_explain=x"), ("{", ""), ({"stages": STAGES}, "")]:
        _is_refused(call(body, query, account=place.account), 400, "invalid_json" if body == "{" else "invalid_request")
        assert table() == []
    answer = call(account=place.account)
    assert (answer.status, "idempotent-replayed" in answer.headers) == (200, False)
    assert len(place.simulator.pipelines()) == 1


def test_what_was_rolled_back_does_not_use_up_the_key(
    close: Place, call: Keyed, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(close.simulator.world, "inline_statuses", False)
    close.simulator.fault(Fault("status", at=2, status=400, body={"error": "broken"}))
    assert call().json["rolled_back"]
    assert (table(), close.simulator.pipelines()) == ([], [])
    assert call().status == 200


def test_a_deletion_that_was_refused_does_not_use_up_the_key(close: Place, call: Keyed, table: Any) -> None:
    seeded = close.simulator.seed("Sales", [{"name": "One", "records": 1}])
    path = f"{PATH}/{seeded['id']}"
    assert call(None, method="DELETE", path=path).json["code"] == "in_use"
    assert table() == []
    close.simulator.reset()
    assert "idempotent-replayed" not in call(None, method="DELETE", path=path).headers


def test_something_left_behind_is_told_again(close: Place, call: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _partial_failure(close, call, monkeypatch)
    sent = len(close.simulator.received)
    _is_replay(call(), first)
    assert len(close.simulator.received) == sent


def _partial_failure(close: Place, call: Keyed, monkeypatch: pytest.MonkeyPatch, text: str = "broken") -> Answer:
    monkeypatch.setitem(close.simulator.world, "inline_statuses", False)
    close.simulator.fault(
        Fault("status", at=2, status=400, body={"error": text}), Fault("status", method="DELETE", repeat=9)
    )
    answer = call(seconds=5)
    assert (answer.status, answer.json["code"]) == (500, "partial_failure")
    return answer


def test_an_unknown_outcome_is_told_again(place: Place, call: Keyed) -> None:
    place.simulator.fault(Fault("reset", after=True), Fault("status", method="GET", status=500, repeat=9))
    first = call(account=place.account)
    assert (first.status, first.json["code"]) == (500, "outcome_unknown")
    _is_replay(call(account=place.account), first)
    assert len(place.simulator.pipelines()) == 1


def test_a_fault_of_ours_is_told_again(call: Keyed, close: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    response = importlib.import_module("api.response")
    with monkeypatch.context() as broken:
        broken.delattr(response, "_item")
        first = call()
    assert (first.status, first.json["code"]) == (500, "internal_error")
    _is_replay(call(), first)
    assert len(close.simulator.pipelines()) == 1


# What is stored


def test_no_record_holds_a_credential(
    close: Place, hubspot: Place, call: Keyed, table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (close, hubspot):
        secret = place.simulator.demo_account["credentials"]
        echoed = secret.get("api_key") or secret["token"]
        for format_ in ("unified", "raw", "normalized"):
            name = f"Sales {echoed} {format_}"
            query = f"&truto_response_format={format_}&truto_explain=true"
            made = call({"name": name, "stages": STAGES}, query, key=format_, account=place.account)
            assert made.status == 200
            assert call({"name": name, "stages": STAGES}, query, key=format_, account=place.account).text == made.text
        place.simulator.fault(
            Fault("status", status=500, after=True, body={"message": f"bad {echoed}"}),
            Fault("status", method="GET", status=500, repeat=9, body={"message": f"bad {echoed}"}),
        )
        assert call(key="lost", account=place.account).json["code"] == "outcome_unknown"
        place.simulator.reset()
    secret = close.simulator.demo_account["credentials"]["api_key"]
    _partial_failure(close, call, monkeypatch, f"bad {secret}")
    items = table()
    assert len(items) == 9
    text = json.dumps(items)
    assert "[redacted]" in text
    assert not [each for each in (*SECRETS, "demo-token", "Bearer", "authorization") if each in text]


def test_a_large_answer_is_stored_without_the_providers_own_data(close: Place, call: Keyed, table: Any) -> None:
    close.simulator.seed("Sales", STAGES)
    (record,) = close.simulator.snapshot()["pipelines"]
    close.simulator.fault(Fault("status", status=201, body={**record, "note": "x" * TOO_LONG}))
    first = call()
    assert first.status == 200
    assert len(first.text) > TOO_LONG
    again = call()
    assert (again.status, again.headers["idempotent-replayed"]) == (200, "true")
    left_out = {name: value for name, value in first.json.items() if name != "remote_data"}
    assert again.json == {**left_out, "truto_warnings": again.json["truto_warnings"]}
    assert "too large" in again.json["truto_warnings"][0]["message"]
    assert len(json.dumps(table())) < 310 * 1024
    assert len(close.simulator.received) == 1


@pytest.mark.parametrize("format_", ["unified", "raw"])
def test_a_larger_one_as_a_note(close: Place, call: Keyed, format_: str) -> None:
    body = {"name": "Sales", "stages": [{"name": "x" * TOO_LONG, "status": "active"}]}
    first = call(body, f"&truto_response_format={format_}")
    again = call(body, f"&truto_response_format={format_}")
    assert (again.status, again.headers["truto-outcome"]) == (200, "created")
    assert again.json.keys() == {"id", "truto_warnings"}
    assert again.json["id"] == first.json["id"]
    assert len(close.simulator.pipelines()) == 1


# DynamoDB down


def test_without_dynamodb_writes_with_a_key_are_refused_and_all_else_works(
    close: Place, call: Keyed, api: Api, dynamodb_at: Callable[[str], None]
) -> None:
    dynamodb_at(closed_port())
    path = f"{PATH}/{close.simulator.seed('Sales', ['One'])['id']}"
    for event in ({}, {"method": "PATCH", "path": path}, {"method": "DELETE", "path": path}):
        answer = call({"name": "New", **({} if event else {"stages": STAGES})}, **event)
        _is_refused(answer, 503, "idempotency_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
    assert close.simulator.received == []
    assert call(None, method="GET").json["result_count"] == 1
    assert call(query="&truto_dry_run=true").status == 200
    assert api(an_event()).status == 200


def test_a_dynamodb_that_does_not_answer_is_given_up_soon(
    close: Place, call: Keyed, dynamodb_at: Callable[[str], None]
) -> None:
    def hang(exchange: Exchange) -> bool:
        exchange.hang()
        return False

    with serving(hang) as server:
        dynamodb_at(server.url)
        began = time.monotonic()
        _is_refused(call(), 503, "idempotency_unavailable")
        assert time.monotonic() - began < 8
        assert len(server.requests) == 2
    assert close.simulator.received == []


def test_without_a_table_a_key_is_refused(close: Place, call: Keyed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IDEMPOTENCY_TABLE")
    _is_refused(call(), 503, "idempotency_unavailable")
    assert close.simulator.received == []


def _dies_after_the_put(exchange: Exchange) -> bool:
    if b"DynamoDB_20120810.PutItem" in exchange.request:
        exchange.send(ok())
        return True
    body = b'{"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError"}'
    exchange.send(b"HTTP/1.1 500 Error\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    return True


def test_an_answer_that_cannot_be_stored_is_still_given(
    close: Place, call: Keyed, log: Log, dynamodb_at: Callable[[str], None]
) -> None:
    with serving(_dies_after_the_put) as server:
        dynamodb_at(server.url)
        answer = call()
    assert (answer.status, answer.json["name"]) == (200, "Sales")
    assert len(close.simulator.pipelines()) == 1
    line = log.line("The answer could not be stored for its idempotency key")
    assert (line["level"], line["tenant"]) == ("ERROR", "demo")


def test_a_failure_whose_record_cannot_be_deleted_is_still_told(
    close: Place, call: Keyed, log: Log, dynamodb_at: Callable[[str], None]
) -> None:
    close.simulator.fault(Fault("status", status=400, body={"error": "no"}))
    with serving(_dies_after_the_put) as server:
        dynamodb_at(server.url)
        answer = call()
    assert (answer.status, answer.json["truto_is_remote_error"]) == (400, True)
    assert log.line("The record of an idempotency key could not be deleted")["level"] == "ERROR"


# Many at once


WORKER = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever the function prints
from api.app import handler
from local.gateway import LambdaContext
print("ready", file=answers)
for line in sys.stdin:
    event, seconds = json.loads(line)
    print(json.dumps(handler(event, LambdaContext("unified-crm-api", seconds))), file=answers)
"""


class Worker:
    """Another Lambda environment: a process of its own that has loaded the handler."""

    def __init__(self) -> None:
        path = os.pathsep.join(str(ROOT / each) for each in ("functions", "layers/crm", "."))
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def ask(self, event: Event, seconds: float = 29) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([event, seconds]) + "\n")

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def answer(self) -> Answer:
        found = json.loads(self.read())
        return Answer(found["statusCode"], {k.lower(): v for k, v in found["headers"].items()}, found["body"])

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def workers(world: World) -> Iterator[Callable[[int], list[Worker]]]:  # noqa: ARG001 - the environment is the world's
    """So many workers, which are ready."""
    started: list[Worker] = []

    def start(count: int) -> list[Worker]:
        started.extend(Worker() for _ in range(count))
        assert [each.read() for each in started] == ["ready\n"] * count
        return started

    yield start
    for each in started:
        each.end()


def _keyed(key: str, body: Any = PIPELINE) -> Event:
    return an_event(body, headers={"content-type": "application/json", "idempotency-key": key})


def test_a_call_at_work_is_told_to_wait(
    close: Place, call: Keyed, key: str, workers: Callable[[int], list[Worker]]
) -> None:
    (worker,) = workers(1)
    close.simulator.fault(Fault("hang", seconds=2, after=True))
    worker.ask(_keyed(key))
    _until(lambda: close.simulator.received)
    waiting = call()
    _is_refused(waiting, 409, "idempotency_in_progress")
    assert int(waiting.headers["retry-after"]) >= 1
    _is_refused(call(OTHER), 422, "idempotency_mismatch")
    first = worker.answer()
    assert (first.status, first.json["truto_outcome"]) == (200, "adopted")
    _is_replay(call(), first)
    assert len(close.simulator.pipelines()) == 1


def test_a_call_that_was_cut_off_blocks_its_key_no_longer_than_it_could_have_lived(
    close: Place, call: Keyed, key: str, workers: Callable[[int], list[Worker]]
) -> None:
    (worker,) = workers(1)
    close.simulator.fault(Fault("hang"))
    began = time.time()
    worker.ask(_keyed(key), seconds=6)
    _until(lambda: close.simulator.received)
    worker.end()
    _is_refused(call(), 409, "idempotency_in_progress")
    time.sleep(max(0.0, began + 6.3 - time.time()))
    answer = call(OTHER)
    assert (answer.status, "idempotent-replayed" in answer.headers) == (200, False)
    assert len(close.simulator.pipelines()) == 1


def _until(happened: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


@pytest.mark.usefixtures("atomic")
def test_fifty_equal_calls_at_once_make_one_pipeline(place: Place, world: World, key: str) -> None:
    def create(_: int) -> Answer:
        client = Http(world.url)
        try:
            return client.create(place.account, PIPELINE, headers={"idempotency-key": key})
        finally:
            client.close()

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(create, range(50)))
    _one_was_carried_out(answers)
    assert len(place.simulator.pipelines()) == 1


@pytest.mark.usefixtures("atomic")
def test_fifty_equal_calls_in_five_processes_make_one_pipeline(
    close: Place, call: Keyed, key: str, workers: Callable[[int], list[Worker]]
) -> None:
    running = workers(5)
    for _ in range(10):
        for worker in running:
            worker.ask(_keyed(key))
    answers = [worker.answer() for _ in range(10) for worker in running]
    _one_was_carried_out(answers)
    assert len(close.simulator.pipelines()) == 1
    assert [each.method for each in close.simulator.received] == ["POST"]
    assert call().headers["idempotent-replayed"] == "true"


def _one_was_carried_out(answers: list[Answer]) -> None:
    assert len(answers) == 50
    assert {each.status for each in answers} <= {200, 409}
    done = [each for each in answers if each.status == 200]
    assert len({each.text for each in done}) == 1
    assert len([each for each in done if "idempotent-replayed" not in each.headers]) == 1
    for each in answers:
        if each.status == 409:
            _is_refused(each, 409, "idempotency_in_progress")
            assert int(each.headers["retry-after"]) >= 1
