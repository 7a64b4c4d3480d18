"""From a result, or an error, to an HTTP answer. The one place where an error becomes HTTP."""

from __future__ import annotations

import http.client
import json
from typing import Any

from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel

from api.request import Parameters
from unified_crm.errors import ProviderBadReply, UnifiedError
from unified_crm.lists import escaped_size
from unified_crm.models import Pipeline, Stage, StageInPipeline
from unified_crm.verbs import ListResult, Result

MAX_BYTES = 5 * 1024 * 1024
"""A Lambda function may answer 6 MB."""

_MODELS: dict[str, type[BaseModel]] = {"pipelines": Pipeline, "stages": Stage}


def one(result: Result, parameters: Parameters, resource: str) -> Response[str]:
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


def deleted(result: Result, parameters: Parameters) -> Response[str]:
    """What a deletion answers: the id. `raw` is the provider's reply, if it said anything."""
    if result.plan is not None:
        return _json(200, {"dry_run": True, "requests": result.plan})
    if parameters.format == "raw" and result.raw:
        return _json(200, result.raw)
    return _json(200, {"id": result.unified["id"]})


def many(result: ListResult, parameters: Parameters, resource: str) -> Response[str]:
    """The list envelope."""
    if parameters.format == "raw":
        items = [record for _, record in result.items]
    else:
        items = [_without(_item(*item, parameters, resource), parameters) for item in result.items]
    envelope = {
        "result": items,
        "next_cursor": result.next_cursor,
        "prev_cursor": result.prev_cursor,
        "result_count": len(items),
    }
    return _json(200, envelope)


def plain(body: Any) -> Response[str]:
    """An answer that has one format only."""
    return _json(200, body)


def error(failure: UnifiedError, request_id: str) -> Response[str]:
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
        body = _complete(unified, _MODELS[resource])
        if "explain" in unified:
            body["explain"] = unified["explain"]
        if resource == "pipelines":
            body["stages"] = [_complete(stage, StageInPipeline) for stage in body["stages"]]
        return body
    return dict(unified) if parameters.ignore_remote_data else {**unified, "remote_data": record}


def _without(body: dict[str, Any], parameters: Parameters) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in parameters.exclude_fields}


def _complete(unified: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """Every unified field, null where the provider has none."""
    return {name: unified.get(name) for name in model.model_fields}


def _json(status: int, body: Any, headers: dict[str, str] | None = None) -> Response[str]:
    text = _dump(body)
    if escaped_size(text) > MAX_BYTES and isinstance(body, dict) and "remote_data" in body:
        warning = {"field": "remote_data", "message": "It is larger than can be answered, and was left out"}
        rest = {name: value for name, value in body.items() if name != "remote_data"}
        text = _dump({**rest, "truto_warnings": [*rest.get("truto_warnings", []), warning]})
    if escaped_size(text) > MAX_BYTES:
        raise ProviderBadReply("What the provider answered is larger than can be passed on", may_have_acted=False)
    return Response(status_code=status, content_type="application/json", body=text, headers=dict(headers or {}))


def _dump(body: Any) -> str:
    return json.dumps(body, separators=(",", ":"))
