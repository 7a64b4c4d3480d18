"""What the field tables say about a provider, as answers: `meta` and `explain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from unified_crm.mapping import Field, Table
from unified_crm.models import PIPELINE, STAGE, Status
from unified_crm.provider import Provider, Request

METHODS = ("list", "get", "create", "update", "delete")
RESOURCES = ("pipelines", "stages")


def supports(provider: Provider, resource: str, method: str) -> bool:
    """Whether a provider has this verb. Verbs on stages are made of those on pipelines and of its editor."""
    pipelines, editor = provider.pipelines, provider.pipelines.editor
    if method == "list":
        return pipelines.list is not None
    if method == "get":
        return pipelines.get is not None
    if method == "create" and resource == "pipelines":
        return pipelines.create is not None
    if method == "delete" and resource == "pipelines":
        return editor is not None and editor.delete is not None
    return editor is not None


def meta(
    provider: Provider, entity: str, resource: str, method: str, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `method` on `resource` takes and answers at this provider, for its object type `entity`.

    `settings` are the account's, which can stand for a field that is required otherwise.
    """
    table = provider.pipelines.table(entity)
    return {
        "provider": provider.name,
        "resource": resource,
        "method": method,
        "supported": supports(provider, resource, method),
        "entity": provider.entities.to_unified(entity),
        "fields": {
            **_fields(provider, table, resource, method),
            **(_needs(provider, settings or {}) if (resource, method) == ("pipelines", "create") else {}),
        },
    }


def _needs(provider: Provider, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"remote_data.{each.path}": _said(required=not settings.get(each.setting), remote=each.path)
        for each in provider.pipelines.needs
    }


def _fields(provider: Provider, table: Table, resource: str, method: str) -> dict[str, Any]:
    stage = table["stages"].each
    writes = method in ("create", "update")
    if resource == "stages":
        fields = {name: _field(stage, name, method) for name in STAGE} if stage else {}
        if stage and writes:
            fields["status"] = _later(stage, fields["status"])
        fields["pipeline"] = _said(required=method == "create", read_only=method != "create")
        fields["position"] = {**_position(provider, table), **({} if writes else {"read_only": True})}
        return fields
    fields = {name: _field(table, name, method) for name in PIPELINE}
    fields["entity"] = {
        **_said(),
        "values": [*provider.entities.names] + (["…"] if provider.entities.others else []),
    }
    if stage is not None:
        nested = {name: _field(stage, name, "create" if writes else method) for name in STAGE}
        for name in ("position", "pipeline"):
            nested[name] = _said(read_only=True)
        if method == "update":  # stages with an id are changed, those without are new
            nested["id"] = _said(remote=_path(stage["id"]))
            nested["status"] = _later(stage, nested["status"])
            for name, claims in nested.items():
                claims["required_for_new"] = claims.pop("required")
                claims["required"] = False
                claims["only_for_new"] = name in stage and stage[name].fixed
        fields["stages"]["fields"] = nested
    return fields


def _field(table: Table, name: str, method: str) -> dict[str, Any]:
    if name not in table:
        return {"supported": False, "required": False, "read_only": True, "remote_field": None}
    row = table[name]
    remote = _path(row) if row.remote is not None or row.derive is None else None
    read_only = row.read_only or method not in ("create", "update") or (row.fixed and method == "update")
    said = _said(required=row.required and method == "create", read_only=read_only, remote=remote)
    if name == "status":
        said["values"] = [status for status in get_args(Status) if status in (row.values or {})]
    return said


def _later(stage: Table, claims: dict[str, Any]) -> dict[str, Any]:
    """Of a status where its pipeline is there already: without those that it can only have been made with."""
    if "values" not in claims:
        return claims
    return {**claims, "values": [each for each in claims["values"] if each not in stage["status"].with_pipeline]}


def _said(*, required: bool = False, read_only: bool = False, remote: str | None = None) -> dict[str, Any]:
    return {"supported": True, "required": required, "read_only": read_only, "remote_field": remote}


def _position(provider: Provider, table: Table) -> dict[str, Any]:
    editor = provider.pipelines.editor
    stage = table["stages"].each
    writable = editor is not None and editor.orders
    remote = _path(stage["position"]) if stage is not None and "position" in stage else None
    return _said(read_only=not writable, remote=remote)


def _path(row: Field) -> str:
    return ".".join(row.path)


def explain(table: Table, record: Any, request: Request | None) -> dict[str, Any]:
    """Each unified field: the provider's field and the call that it came from, and what was done to it.

    `how` is `copied`, `converted`, or `defaulted` where the provider says nothing.
    """
    call = f"{request.method} {request.path}" if request else None
    # These no provider keeps as such: what was asked for, and the place in the list.
    derived = {"remote_field": None, "request": call, "how": "converted"}
    found: dict[str, Any] = {"entity": derived} if "stages" in table else {"position": derived, "pipeline": derived}
    for row in table:
        if row.each is not None:
            items = row.items(record)
            found[row.unified] = {"remote_field": _path(row), "request": call, "how": "converted"}
            found[f"{row.unified}[]"] = [explain(row.each, item, request) for item in items]
            continue
        if row.derive is not None:
            how = "defaulted" if row.remote is None else "converted"
        elif row.remote_value(record) is None:
            how = "defaulted"
        elif row.read or row.values is not None:
            how = "converted"
        else:
            how = "copied"
        found[row.unified] = {"remote_field": _path(row), "request": call, "how": how}
    return found
