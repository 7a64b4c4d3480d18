"""The API function's calls: an API Gateway event in, a unified answer out."""

from __future__ import annotations

import gc
from time import monotonic
from typing import Any

from api import http, response, routes, telemetry
from api.http import Context
from api.routes import Call
from api.telemetry import logger, sampled, tracer
from unified_crm.errors import InvalidRequest


def handler(event: Any, context: Context) -> dict[str, Any]:
    """The function's entry point."""
    handle = tracer().capture_lambda_handler(_handle, capture_response=False) if sampled() else _handle
    answer: dict[str, Any] = handle(event, context)
    return answer


def _handle(event: Any, context: Context) -> dict[str, Any]:
    started = monotonic()
    asked = http.read(event)
    telemetry.begin(context, asked)
    status = 500
    try:
        if asked is None:
            logger.error("Called with something that is no event of an HTTP API")
            answer = response.error(InvalidRequest("This is no request of an HTTP API"), context.aws_request_id)
        else:
            answer = routes.answer(Call(asked, context))
        status = answer.status_code
    finally:
        method, path = (asked.method, asked.path) if asked else (None, None)
        telemetry.end(method=method, path=path, status=status, milliseconds=round((monotonic() - started) * 1000, 1))
    if status >= 400 or telemetry.provider_failed():
        # An error and its traceback hold each other, and with them each reply on their way, of up to many megabytes.
        # By itself the collector counts objects, and not what they hold. What outlasts it once is not looked at again.
        gc.collect(1)
    return answer.to_lambda()
