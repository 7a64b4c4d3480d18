"""Given and expected, in JSON: what providers really answer, and what is sent to them.

`cases/{provider}.json` holds, of each kind as many as there is something to say:

- `reads`: a provider's record and what it is to a caller.
- `writes`: what a caller writes and the requests that arrive, with the replies that the provider gives them.
- `changes`: the same for an update of the pipeline `id`, which is read first.
- `lists`: the requests of a list with their replies, and the pipelines that a caller sees.
- `errors`: a reply, and the error that it is to a caller, null where it is none.

A step that names no `reply` has no body. What `lists`, and `unified` in writes and changes, do not speak of may be
anything.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unified_crm import providers, reads, remote_errors, verbs
from unified_crm.edit import Edit
from unified_crm.provider import Call, Flow, Provider, Reply, Request
from unified_crm.settle import Settle

CASES = Path(__file__).parent / "cases"


def _cases(kind: str) -> list[Any]:
    return [
        pytest.param(path.stem, case, id=f"{path.stem}-{case['is']}")
        for path in sorted(CASES.glob("*.json"))
        for case in json.loads(path.read_text(encoding="utf-8")).get(kind, [])
    ]


def test_every_file_of_cases_is_a_providers() -> None:
    assert {path.stem for path in CASES.glob("*.json")} <= set(providers.names())


@pytest.mark.parametrize(("name", "case"), _cases("reads"))
def test_a_record_reads_as(name: str, case: dict[str, Any]) -> None:
    provider = providers.load(name)
    found = verbs.pipeline_to_unified(provider, _entity(provider, case), case["given"])
    assert {key: found[key] for key in case["expected"]} == case["expected"]


@pytest.mark.parametrize(("name", "case"), _cases("writes"))
def test_a_pipeline_is_written_as(name: str, case: dict[str, Any]) -> None:
    provider = providers.load(name)
    entity = _entity(provider, case)
    kept, _ = provider.pipelines.table(entity).check(case["given"], provider.label, whole=True)
    record = _driven(provider, _whole(provider, _call(provider, case, kept)), case["expected"])
    _assert_seen(provider, entity, [record], [case.get("unified", {})])


@pytest.mark.parametrize(("name", "case"), _cases("changes"))
def test_a_pipeline_is_changed_as(name: str, case: dict[str, Any]) -> None:
    provider = providers.load(name)
    entity = _entity(provider, case)
    kept, _ = provider.pipelines.table(entity).check(case["given"], provider.label, create=False)
    flow = _changed(provider, _call(provider, case, kept), case["id"], prune=case.get("prune", False))
    record = _driven(provider, flow, case["expected"])
    _assert_seen(provider, entity, [record], [case.get("unified", {})])


@pytest.mark.parametrize(("name", "case"), _cases("lists"))
def test_a_list_is_read_as(name: str, case: dict[str, Any]) -> None:
    provider = providers.load(name)
    entity = _entity(provider, case)
    assert provider.pipelines.list is not None
    records = _driven(provider, provider.pipelines.list(_call(provider, case, {})), case["replies"])
    _assert_seen(provider, entity, provider.pipelines.table(entity).sorted(records), case["expected"])


@pytest.mark.parametrize(("name", "case"), _cases("errors"))
def test_a_reply_is_the_error(name: str, case: dict[str, Any]) -> None:
    provider, reply, expected = providers.load(name), _reply(case), case["expected"]
    assert remote_errors.failed(provider, reply) is (expected is not None)
    if expected is not None:
        error = remote_errors.explain(provider, reply, case["method"])
        found = {**error.headers, "code": error.code, "status": error.status, "message": error.message}
        assert {key: found.get(key) for key in expected} == expected


def _entity(provider: Provider, case: dict[str, Any]) -> str:
    entity = provider.entities.to_remote(case.get("entity", "opportunity"))
    assert entity is not None
    return entity


def _call(provider: Provider, case: dict[str, Any], values: dict[str, Any]) -> Call:
    return Call(_entity(provider, case), values, settings=case.get("settings", {}))


def _whole(provider: Provider, call: Call) -> Flow:
    """All of a create, as the engine runs it."""
    assert provider.pipelines.create is not None
    record = yield from provider.pipelines.create(call)
    if provider.pipelines.settles:
        return (yield from Settle(provider, call, record, []).settle())
    return record


def _changed(provider: Provider, call: Call, id_: str, *, prune: bool) -> Flow:
    """All of an update, as the engine runs it."""
    values = dict(call.values)
    stages = values.pop("stages", None)
    pipeline = yield from reads.pipeline(provider, call, id_)
    return (yield from Edit(provider, call, pipeline, []).update(values, stages, prune=prune))


def _driven(provider: Provider, flow: Flow, steps: list[dict[str, Any]]) -> Any:
    """The flow's result. Its requests must be those of `steps`; each gets the reply that stands there."""
    request = next(flow)
    for number, step in enumerate(steps, start=1):
        assert _line(request) == step["request"]
        assert ([request.json] if request.as_list else request.json) == step.get("body")
        reply = _reply(step)
        assert not remote_errors.failed(provider, reply)
        try:
            request = flow.send(_created(reply, request.creates(reply)) if request.creates else reply)
        except StopIteration as stop:
            assert number == len(steps)
            return stop.value
    return pytest.fail(f"one more request: {_line(request)}")


def _line(request: Request) -> str:
    """`GET /path?key=value`, for people: nothing in the query is escaped."""
    query = "&".join(f"{key}={value}" for key, value in request.query)
    return f"{request.method} {request.path}" + (f"?{query}" if query else "")


def _reply(step: dict[str, Any]) -> Reply:
    body = step.get("reply", "")
    text = body if isinstance(body, str) else json.dumps(body)
    return Reply(step["status"], step.get("headers", {}), text.encode())


def _created(reply: Reply, record: dict[str, Any]) -> Reply:
    return Reply(reply.status, reply.headers, reply.body, record)


def _assert_seen(provider: Provider, entity: str, records: list[Any], expected: list[Any]) -> None:
    found = [verbs.pipeline_to_unified(provider, entity, each) for each in records]
    assert _part(found, expected) == expected


def _part(found: Any, expected: Any) -> Any:
    """Of `found` what `expected` speaks of, at any depth; lists of the same length item by item."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return {key: _part(found[key], value) for key, value in expected.items() if key in found}
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        return [_part(one, other) for one, other in zip(found, expected, strict=True)]
    return found
