"""The API function: an API Gateway event in, a unified answer out."""

from __future__ import annotations

from time import monotonic
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from api import request, response
from unified_crm import accounts, engine
from unified_crm.accounts import Account
from unified_crm.deadline import Deadline
from unified_crm.errors import InternalError, MethodNotAllowed, NotFound, UnifiedError
from unified_crm.transport import Exchange, Observe

ANSWER_SECONDS = 1.0
"""Kept of Lambda's remaining time for making the answer."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

logger = Logger()
metrics = Metrics()
tracer = Tracer(patch_modules=["botocore"])
app = APIGatewayHttpResolver()


@app.post("/unified/crm/pipelines")
def create_pipeline() -> Response[str]:
    """Create a pipeline with its stages in the account's CRM."""
    deadline = _deadline()
    parameters = request.parameters(app.current_event)
    values = request.pipeline(app.current_event, parameters.entity)
    account = _account(parameters)
    options = engine.Options(
        parameters.remote_query, values.pop("remote_data", None) or {}, parameters.skip_unsupported
    )
    with tracer.provider.in_subsegment(f"## {account.provider.name}"):
        result = engine.create_pipeline(account, values, options, deadline, _observe())
    return response.pipeline(result, parameters)


def _other_methods(rule: str, *allowed: str) -> None:
    @app.route(rule, method=[method for method in METHODS if method not in allowed])
    def refuse() -> Response[str]:
        method, path = app.current_event.http_method, app.current_event.path
        raise MethodNotAllowed(
            f"{method} is not possible on {path}, only {', '.join(allowed)}", headers={"allow": ", ".join(allowed)}
        )


_other_methods("/unified/crm/pipelines", "POST")


@app.not_found
def not_found(_: Exception) -> Response[str]:
    """Any address that is no route."""
    return _answer(NotFound(f"There is nothing at {app.current_event.http_method} {app.current_event.path}"))


@app.exception_handler(UnifiedError)
def known_error(error: UnifiedError) -> Response[str]:
    """An error of the tree."""
    return _answer(error)


@app.exception_handler(Exception)
def unknown_error(error: Exception) -> Response[str]:
    """A fault of ours: the log has it, the caller is told no more than its id."""
    logger.exception("Unhandled", exc_info=error)
    return response.error(
        InternalError("Something went wrong here; the log has it under this request_id"), _request_id()
    )


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, clear_state=True)
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """The function's entry point."""
    started = monotonic()
    answer = app.resolve(event, context)
    metrics.add_metric("Calls", MetricUnit.Count, 1)
    logger.info(
        "Answered",
        method=app.current_event.http_method,
        path=app.current_event.path,
        status=answer["statusCode"],
        milliseconds=round((monotonic() - started) * 1000, 1),
    )
    return answer


def _account(parameters: request.Parameters) -> Account:
    """The account that the call is for, if it is the caller's; from here on, logs, metrics and traces name it."""
    caller = request.caller(app.current_event)
    logger.append_keys(tenant=caller.tenant, account=parameters.account_id)
    account = accounts.load(parameters.account_id, caller.tenant, caller.accounts)
    logger.append_keys(provider=account.provider.name)
    metrics.add_dimension("provider", account.provider.name)
    tracer.put_annotation("provider", account.provider.name)
    tracer.put_annotation("account", account.id)
    return account


def _observe() -> Observe:
    """Each call to the provider as metrics and a log line. Its path holds ids and no query, so no secret."""

    def observe(exchange: Exchange) -> None:
        milliseconds = round(exchange.seconds * 1000, 1)
        metrics.add_metric("ProviderLatency", MetricUnit.Milliseconds, milliseconds)
        if exchange.status is None or exchange.status >= 400:
            metrics.add_metric("ProviderErrors", MetricUnit.Count, 1)
        logger.info(
            "Called the provider",
            method=exchange.method,
            path=exchange.path,
            status=exchange.status,
            error=exchange.error,
            milliseconds=milliseconds,
        )

    return observe


def _answer(error: UnifiedError) -> Response[str]:
    """The envelope of an error, and its line in the log."""
    level = logger.error if error.status >= 500 else logger.info
    level(error.message, code=error.code, status=error.status, exc_info=error.status >= 500)
    return response.error(error, _request_id())


def _deadline() -> Deadline:
    return Deadline(app.lambda_context.get_remaining_time_in_millis() / 1000 - ANSWER_SECONDS)


def _request_id() -> str:
    return str(app.current_event.request_context.request_id)
