"""From a result, or an error, to an HTTP answer. The one place where an error becomes HTTP."""

from __future__ import annotations

import http.client
import json
from typing import Any

from aws_lambda_powertools.event_handler import Response

from api.request import Parameters
from unified_crm.engine import Result
from unified_crm.errors import UnifiedError
from unified_crm.models import Pipeline, StageInPipeline


def pipeline(result: Result, parameters: Parameters) -> Response[str]:
    """A pipeline in the format that was asked for."""
    headers = {"Truto-Outcome": result.outcome}
    if parameters.format == "raw":
        return _json(200, result.raw, headers)
    if parameters.format == "normalized":
        body = _complete(result.unified, Pipeline)
        body["stages"] = [_complete(stage, StageInPipeline) for stage in body["stages"]]
    else:
        body = {**result.unified, "truto_outcome": result.outcome}
        if not parameters.ignore_remote_data:
            body["remote_data"] = result.record
    if result.warnings:
        body["truto_warnings"] = result.warnings
    return _json(200, {name: value for name, value in body.items() if name not in parameters.exclude_fields}, headers)


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


def _complete(unified: dict[str, Any], model: type[Pipeline | StageInPipeline]) -> dict[str, Any]:
    """Every unified field, null where the provider has none."""
    return {name: unified.get(name) for name in model.model_fields}


def _json(status: int, body: Any, headers: dict[str, str]) -> Response[str]:
    return Response(
        status_code=status,
        content_type="application/json",
        body=json.dumps(body, separators=(",", ":")),
        headers=dict(headers),
    )
