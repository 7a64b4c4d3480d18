"""What `meta` says of each field of each provider is tried: it cannot disagree with what the code does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from tests.contract.conftest import Subject
from unified_crm import describe
from unified_crm.changes import PipelineUpdate, StageWrite
from unified_crm.errors import InvalidRequest, UnifiedError, Unsupported
from unified_crm.lists import ListOptions, parse_time
from unified_crm.models import PipelineWrite, Status, parse

MODELS: dict[tuple[str, str], Any] = {
    ("pipelines", "create"): PipelineWrite,
    ("pipelines", "update"): PipelineUpdate,
    ("stages", "create"): StageWrite,
    ("stages", "update"): StageWrite,
}
WRITES = list(MODELS)


def _fields(meta: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field with its claims, those of a pipeline's stages as `stages[].name`."""
    for name, claims in meta["fields"].items():
        yield name, {key: value for key, value in claims.items() if key != "fields"}
        for nested, more in claims.get("fields", {}).items():
            yield f"stages[].{nested}", more


def _body(resource: str, method: str, subject: Subject, held: dict[str, Any]) -> dict[str, Any]:
    """A whole body that the provider takes."""
    if resource == "stages":
        return {"name": "Fresh"} | ({"pipeline": {"id": held["id"]}} if method == "create" else {})
    if method == "create":
        return {"name": "Fresh", "stages": subject.values()["stages"][:1]}
    return {"name": "Fresh", "stages": [{"id": held["stages"][0]["id"], "name": "Fresh one"}]}


def _without(body: dict[str, Any], field: str) -> dict[str, Any]:
    if not field.startswith("stages[]."):
        return {name: value for name, value in body.items() if name != field}
    nested = field.removeprefix("stages[].")
    return {**body, "stages": [{k: v for k, v in stage.items() if k != nested} for stage in body["stages"]]}


def _with(body: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    if not field.startswith("stages[]."):
        return {**body, field: value}
    first, *rest = body["stages"]
    return {**body, "stages": [{**first, field.removeprefix("stages[]."): value}, *rest]}


def _write(subject: Subject, resource: str, method: str, held: dict[str, Any], body: dict[str, Any]) -> Any:
    """As over HTTP: the model first, then the verb."""
    values = parse(MODELS[resource, method], body).model_dump(exclude_unset=True)
    remote_data = values.pop("remote_data", None) or {}
    verbs = subject.verbs(remote_data=remote_data, entity=values.pop("entity", None))
    if (resource, method) == ("pipelines", "create"):
        return verbs.create_pipeline(values)
    if resource == "pipelines":
        return verbs.update_pipeline(held["id"], values)
    if method == "create":
        return verbs.create_stage(values)
    return verbs.update_stage(held["stages"][0]["id"], values, held["id"])


def _meta(subject: Subject, resource: str, method: str) -> dict[str, Any]:
    return subject.verbs().meta(resource, method)


@pytest.mark.parametrize("method", describe.METHODS)
@pytest.mark.parametrize("resource", describe.RESOURCES)
def test_a_method_that_is_said_to_be_supported_is(subject: Subject, resource: str, method: str) -> None:
    meta = _meta(subject, resource, method)
    held = subject.seed()
    verbs, stage = subject.verbs(), held["stages"][0]["id"]
    calls: dict[tuple[str, str], Any] = {
        ("pipelines", "list"): lambda: verbs.list_pipelines(ListOptions()),
        ("pipelines", "get"): lambda: verbs.get_pipeline(held["id"]),
        ("pipelines", "delete"): lambda: verbs.delete_pipeline(held["id"]),
        ("stages", "list"): lambda: verbs.list_stages(None, ListOptions()),
        ("stages", "get"): lambda: verbs.get_stage(stage, None),
        ("stages", "delete"): lambda: verbs.delete_stage(stage, None),
    }
    call = calls.get(
        (resource, method), lambda: _write(subject, resource, method, held, _body(resource, method, subject, held))
    )
    if meta["supported"]:
        call()
    else:
        with pytest.raises(Unsupported):
            call()


@pytest.mark.parametrize(("resource", "method"), WRITES)
def test_what_is_said_to_be_required_is(subject: Subject, resource: str, method: str) -> None:
    held = subject.seed()
    body = _body(resource, method, subject, held)
    for field, claims in _fields(_meta(subject, resource, method)):
        if field in body or (field.startswith("stages[].") and body.get("stages")):
            less = _without(body, field)
            if claims["required"]:
                with pytest.raises(InvalidRequest, match="required"):
                    _write(subject, resource, method, held, less)
            else:
                subject.simulator.reset()
                held = subject.seed()
                body = _body(resource, method, subject, held)
                _write(subject, resource, method, held, _without(body, field))


VALUES: dict[str, Any] = {
    "id": "x",
    "name": "Other",
    "entity": "opportunity",
    "created_at": "2020-01-01T00:00:00Z",
    "updated_at": "2020-01-01T00:00:00Z",
    "position": 1,
    "stages": [],
}


@pytest.mark.parametrize(("resource", "method"), WRITES)
def test_what_is_said_to_be_read_only_is_refused_and_the_rest_taken(
    subject: Subject, resource: str, method: str
) -> None:
    for field, claims in _fields(_meta(subject, resource, method)):
        subject.simulator.reset()
        held = subject.seed(stages=[{"name": "One", "status": subject.statuses()[0]}, "Two", "Three"])
        body = _body(resource, method, subject, held)
        name = field.rpartition(".")[2]
        if name in ("pipeline", "stages") or (name == "id" and not claims["read_only"]):
            continue
        if field.startswith("remote_data."):
            continue
        if name == "status":
            # Another one than it has, so that a status that cannot be changed shows.
            statuses = claims.get("values") or ["active"]
            value: Any = statuses[-1] if method == "create" else statuses[min(1, len(statuses) - 1)]
            if method == "update" and len(statuses) < 2:
                continue
        else:
            value = VALUES[name]
        before = subject.simulator.snapshot()
        if claims["read_only"] or not claims["supported"] or claims.get("only_for_new"):
            with pytest.raises((InvalidRequest, Unsupported)):
                _write(subject, resource, method, held, _with(body, field, value))
            assert subject.simulator.snapshot() == before, field
        else:
            _write(subject, resource, method, held, _with(body, field, value))


@pytest.mark.parametrize(("resource", "method"), WRITES)
def test_each_value_of_an_enumeration_is_taken_and_a_stray_one_refused(
    subject: Subject, resource: str, method: str
) -> None:
    for field, claims in _fields(_meta(subject, resource, method)):
        if not field.endswith("status") or claims["read_only"]:
            continue
        for status in (*get_args(Status), "hot", ""):
            subject.simulator.reset()
            held = subject.seed()
            body = _with(_body(resource, method, subject, held), field, status)
            if claims.get("only_for_new") and status in claims["values"] and status != held["stages"][0]["status"]:
                with pytest.raises(Unsupported):
                    _write(subject, resource, method, held, body)
                body = {"stages": [{"name": "Fresh", "status": status}]}
            if status in claims["values"]:
                _write(subject, resource, method, held, body)
            else:
                with pytest.raises(InvalidRequest):
                    _write(subject, resource, method, held, body)


def test_each_entity_that_is_said_to_be_is_taken_and_no_other(subject: Subject) -> None:
    said = _meta(subject, "pipelines", "list")["fields"]["entity"]["values"]
    for entity in ("contact", "account", "opportunity", "tickets"):
        try:
            subject.verbs(entity=entity).list_pipelines(ListOptions())
            taken = True
        except UnifiedError as error:
            assert isinstance(error, Unsupported)
            taken = False
        assert taken is (entity in said or "…" in said), entity


@pytest.mark.parametrize("resource", describe.RESOURCES)
def test_the_providers_own_field_is_where_the_value_comes_from(subject: Subject, resource: str) -> None:
    held = subject.seed()
    verbs = subject.verbs()
    result = (
        verbs.get_pipeline(held["id"]) if resource == "pipelines" else verbs.get_stage(held["stages"][0]["id"], None)
    )
    for field, claims in _meta(subject, resource, "get")["fields"].items():
        if field in ("stages", "status") or not claims["remote_field"]:
            continue
        table = subject.pipeline if resource == "pipelines" else subject.stage
        if field in table and table[field].derive is not None:
            continue
        value: Any = result.record
        for key in claims["remote_field"].split("."):
            value = value[key]
        unified = result.unified[field]
        if field.endswith("_at") and value is not None:
            assert parse_time(unified) == parse_time(value), field  # the same moment, in whatever zone it is told
        else:
            assert str(unified) == str(value), field
