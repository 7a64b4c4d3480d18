"""From a result, or an error, to an HTTP answer. The one place where an error becomes HTTP."""

from __future__ import annotations

import http.client
from typing import Any

from api.http import Response
from api.request import Parameters
from unified_crm.errors import ProviderBadReply, UnifiedError
from unified_crm.lists import as_json, escaped_size
from unified_crm.models import PIPELINE, STAGE
from unified_crm.verbs import ListResult, Result

MAX_BYTES = 5 * 1024 * 1024
"""A Lambda function may answer 6 MB."""

_FIELDS = {"pipelines": PIPELINE, "stages": STAGE}


def one(result: Result, parameters: Parameters, resource: str) -> Response:
    """A pipeline or a stage, in the format that was asked for."""
    if result.plan is not None:
        return _json(200, {"dry_run": True, "requests": result.plan})
    headers = {"Truto-Outcome": result.outcome} if result.outcome else {}
    if parameters.format == "raw":
        return _json(200, result.raw, headers)
    body = _item(result.unified, result.record, parameters, resource)
    if result.outcome and parameters.format == "unified":
        body["truto_outcome"] = result.outcome
    if result.warnings:
        body["truto_warnings"] = result.warnings
    if result.explain is not None and parameters.explain:
        body["explain"] = result.explain
    return _json(200, _without(body, parameters), headers)


def deleted(result: Result, parameters: Parameters) -> Response:
    """What a deletion answers: the id. `raw` is the provider's reply, if it said anything."""
    if result.plan is not None:
        return _json(200, {"dry_run": True, "requests": result.plan})
    if parameters.format == "raw" and result.raw:
        return _json(200, result.raw)
    return _json(200, {"id": result.unified["id"]})


def many(result: ListResult, parameters: Parameters, resource: str) -> Response:
    """The list envelope, from the items' own JSON where they are shown as they are."""
    if result.texts is not None and parameters.as_it_is:
        items = result.texts
    elif parameters.format == "raw":
        items = [as_json(record) for _, record in result.items]
    else:
        items = [as_json(_without(_item(*item, parameters, resource), parameters)) for item in result.items]
    rest = {"next_cursor": result.next_cursor, "prev_cursor": result.prev_cursor, "result_count": len(items)}
    # Some megabytes at most, so that each copy counts: this is the only one.
    head, tail = '{"result":[', f"],{as_json(rest)[1:]}"
    text = (
        ",".join([head + items[0], *items[1:-1], items[-1] + tail]) if len(items) > 1 else head + "".join(items) + tail
    )
    return _text(200, text)


def plain(body: Any) -> Response:
    """An answer that has one format only."""
    return _json(200, body)


def error(failure: UnifiedError, request_id: str) -> Response:
    """The error envelope."""
    body = {
        "statusCode": failure.status,
        "error": http.client.responses.get(failure.status, "Error"),
        "message": failure.message,
        "code": failure.code,
        "request_id": request_id,
        **failure.details,
    }
    if failure.insight:
        body["truto_error_insight"] = failure.insight
    return _json(failure.status, body, failure.headers)


def _item(unified: dict[str, Any], record: Any, parameters: Parameters, resource: str) -> dict[str, Any]:
    if parameters.format == "normalized":
        body = _complete(unified, _FIELDS[resource])
        if "explain" in unified:
            body["explain"] = unified["explain"]
        if resource == "pipelines":
            body["stages"] = [_complete(stage, STAGE) for stage in body["stages"]]
        return body
    return dict(unified) if parameters.ignore_remote_data else {**unified, "remote_data": record}


def _without(body: dict[str, Any], parameters: Parameters) -> dict[str, Any]:
    excluded = parameters.exclude_fields
    return {name: value for name, value in body.items() if name not in excluded} if excluded else body


def _complete(unified: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    """Every unified field, null where the provider has none."""
    return {name: unified.get(name) for name in fields}


def _json(status: int, body: Any, headers: dict[str, str] | None = None) -> Response:
    text = as_json(body)
    if _too_large(text) and isinstance(body, dict) and "remote_data" in body:
        warning = {"field": "remote_data", "message": "It is larger than can be answered, and was left out"}
        rest = {name: value for name, value in body.items() if name != "remote_data"}
        text = as_json({**rest, "truto_warnings": [*rest.get("truto_warnings", []), warning]})
    return _text(status, text, headers)


def _text(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    if _too_large(text):
        raise ProviderBadReply("What the provider answered is larger than can be passed on", may_have_acted=False)
    return Response(status_code=status, content_type="application/json", body=text, headers=dict(headers or {}))


def _too_large(text: str) -> bool:
    return 2 * len(text) > MAX_BYTES and escaped_size(text) > MAX_BYTES  # at worst each letter is escaped
