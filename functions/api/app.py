"""The API function: an API Gateway event in, a unified answer out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from time import monotonic
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer, single_metric
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext

from api import documents, idempotency, request, response
from unified_crm import accounts, describe, oauth
from unified_crm.deadline import Deadline
from unified_crm.engine import Options
from unified_crm.errors import InternalError, InvalidRequest, MethodNotAllowed, NotFound, UnifiedError
from unified_crm.models import PipelineUpdate, PipelineWrite, StageWrite
from unified_crm.transport import Exchange, Observe
from unified_crm.verbs import Verbs

ANSWER_SECONDS = 1.0
"""Kept of Lambda's remaining time for making the answer."""
ADDRESSES = {
    r"/unified/crm/(pipelines|stages)": ("GET", "POST"),
    r"/unified/crm/(pipelines|stages)/meta/[^/]+": ("GET",),
    r"/unified/crm/(pipelines|stages)/[^/]+": ("GET", "PATCH", "DELETE"),
    r"/(docs|openapi\.json)": ("GET",),
}
"""The addresses that there are, as patterns, and their methods."""

COUNTED = {
    "circuit_open": "CircuitOpen",
    "internal_error": "InternalError",
    "needs_reauth": "NeedsReauth",
    "outcome_unknown": "OutcomeUnknown",
    "partial_failure": "PartialFailure",
}
"""The error codes that someone should hear of, and the metrics that template.yaml has alarms on."""

SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "unified-crm")
NAMESPACE = os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "UnifiedCRM")

logger = Logger(service=SERVICE)
metrics = Metrics(namespace=NAMESPACE, service=SERVICE)
tracer = Tracer(patch_modules=["botocore"])


class _Resolver(APIGatewayHttpResolver):
    """Powertools lets a path hold letters, digits and some marks. A provider's id may hold whatever is no slash."""

    @staticmethod
    def _compile_regex(rule: str, base_regex: str = "^{}$") -> re.Pattern[str]:
        return re.compile(base_regex.format(re.sub(r"<(\w+)>", r"(?P<\1>[^/]+)", rule)))


app = _Resolver()


def _once(route: Callable[..., Response[str]]) -> Callable[..., Response[str]]:
    """A route on which a call with an `Idempotency-Key` takes effect once."""

    @wraps(route)
    def once(resource: str, **rest: str) -> Response[str]:
        def act() -> Response[str]:
            return route(resource, **rest)

        key = request.idempotency_key(app.current_event)
        if key is None:
            return act()
        return idempotency.once(key, app.current_event, app.lambda_context, resource, act, _failed)

    return once


@app.get("/openapi.json")
def description() -> Response[str]:
    """The API's description; needs no token."""
    return documents.description(app.current_event)


@app.get("/docs")
def docs() -> Response[str]:
    """A page to read and try the API; needs no token."""
    return documents.docs(app.current_event)


@app.get("/unified/crm/<resource>")
def list_(resource: str) -> Response[str]:
    """A page of pipelines, or of stages."""
    parameters = request.parameters(app.current_event, resource)
    options = request.listing(parameters.query)
    with _verbs(parameters, parameters.entity) as verbs:
        if resource == "pipelines":
            return response.many(verbs.list_pipelines(options), parameters, resource)
        return response.many(verbs.list_stages(parameters.pipeline_id, options), parameters, resource)


@app.post("/unified/crm/<resource>")
@_once
def create(resource: str) -> Response[str]:
    """Create a pipeline with its stages, or a stage."""
    parameters = request.parameters(app.current_event, resource)
    if resource == "pipelines":
        values = request.write(app.current_event, PipelineWrite)
        entity = request.one_entity(parameters.entity, values.pop("entity", None))
        with _verbs(parameters, entity, values) as verbs:
            return response.one(verbs.create_pipeline(values), parameters, resource)
    values = request.write(app.current_event, StageWrite)
    with _verbs(parameters, parameters.entity, values) as verbs:
        result = verbs.create_stage(values, parameters.pipeline_id)
        return response.one(result, parameters, resource)


@app.get("/unified/crm/<resource>/<id_>")
def get(resource: str, id_: str) -> Response[str]:
    """One pipeline, or one stage."""
    parameters = request.parameters(app.current_event, resource)
    id_ = request.path_id(id_)
    with _verbs(parameters, parameters.entity) as verbs:
        if resource == "pipelines":
            return response.one(verbs.get_pipeline(id_), parameters, resource)
        return response.one(verbs.get_stage(id_, parameters.pipeline_id), parameters, resource)


@app.patch("/unified/crm/<resource>/<id_>")
@_once
def update(resource: str, id_: str) -> Response[str]:
    """Change a pipeline with its stages, or a stage."""
    parameters = request.parameters(app.current_event, resource)
    id_ = request.path_id(id_)
    if resource == "pipelines":
        values = request.write(app.current_event, PipelineUpdate)
        entity = request.one_entity(parameters.entity, values.pop("entity", None))
        with _verbs(parameters, entity, values) as verbs:
            result = verbs.update_pipeline(id_, values, prune=parameters.prune_stages)
            return response.one(result, parameters, resource)
    values = request.write(app.current_event, StageWrite)
    with _verbs(parameters, parameters.entity, values) as verbs:
        return response.one(verbs.update_stage(id_, values, parameters.pipeline_id), parameters, resource)


@app.delete("/unified/crm/<resource>/<id_>")
@_once
def delete(resource: str, id_: str) -> Response[str]:
    """Delete a pipeline with its stages, or a stage."""
    parameters = request.parameters(app.current_event, resource)
    id_ = request.path_id(id_)
    with _verbs(parameters, parameters.entity) as verbs:
        if resource == "pipelines":
            return response.deleted(verbs.delete_pipeline(id_), parameters)
        return response.deleted(verbs.delete_stage(id_, parameters.pipeline_id), parameters)


@app.get("/unified/crm/<resource>/meta/<method>")
def meta(resource: str, method: str) -> Response[str]:
    """What the account's provider takes and answers for a method."""
    parameters = request.parameters(app.current_event, resource)
    if method not in describe.METHODS:
        raise NotFound(f"There is no method {method}, only {', '.join(describe.METHODS)}")
    with _verbs(parameters, parameters.entity, asks=False) as verbs:
        return response.plain(verbs.meta(resource, method))


@app.not_found
def not_found(_: Exception) -> Response[str]:
    """What no route took: another method on an address that there is, an id that cannot be one, any other address."""
    method, path = app.current_event.http_method, app.current_event.path
    for address, allowed in ADDRESSES.items():
        if re.fullmatch(address, path, re.DOTALL) and method not in allowed:
            methods = ", ".join(allowed)
            message = f"{method} is not possible on {path}, only {methods}"
            return _answer(MethodNotAllowed(message, headers={"allow": methods}))
    if re.match(r"/unified/crm/(pipelines|stages)/(?!meta/)", path):
        return _answer(InvalidRequest("id must be one path segment"))
    return _answer(NotFound(f"There is nothing at {method} {path}"))


@app.exception_handler(UnifiedError)
def known_error(error: UnifiedError) -> Response[str]:
    """An error of the tree."""
    return _answer(error)


@app.exception_handler(Exception)
def unknown_error(error: Exception) -> Response[str]:
    """A fault of ours: the log has it, the caller is told no more than its id."""
    logger.exception("Unhandled", exc_info=error)
    failure = InternalError("Something went wrong here; the log has it under this request_id")
    _count(COUNTED[failure.code])
    return response.error(failure, _request_id())


@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, clear_state=True)
@tracer.capture_lambda_handler(capture_response=False)
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """The function's entry point."""
    started = monotonic()
    metrics.add_metric("Calls", MetricUnit.Count, 1)
    if not request.is_request(event):
        logger.error("Called with something that is no event of an HTTP API")
        refusal = response.error(InvalidRequest("This is no request of an HTTP API"), context.aws_request_id)
        return {
            "statusCode": refusal.status_code,
            "headers": {"content-type": refusal.content_type},
            "body": refusal.body,
            "isBase64Encoded": False,
        }
    context_of_caller = ((event.get("requestContext") or {}).get("authorizer") or {}).get("lambda") or {}
    logger.append_keys(tenant=context_of_caller.get("tenant"))
    answer = app.resolve(event, context)
    logger.info(
        "Answered",
        method=app.current_event.http_method,
        path=app.current_event.path,
        status=answer["statusCode"],
        milliseconds=round((monotonic() - started) * 1000, 1),
    )
    return answer


@contextmanager
def _verbs(
    parameters: request.Parameters, entity: str | None, values: dict[str, Any] | None = None, *, asks: bool = True
) -> Iterator[Verbs]:
    """The verbs of the account that the call is for, if it is the caller's. `values` lose their `remote_data` to it.

    `asks`: the provider is going to be asked, with a token that is good for now.
    From here on, logs, metrics and traces name the account and its provider.
    """
    kept = ANSWER_SECONDS + (idempotency.STORE_SECONDS if request.idempotency_key(app.current_event) else 0)
    deadline = Deadline(app.lambda_context.get_remaining_time_in_millis() / 1000 - kept)
    caller = request.caller(app.current_event)
    logger.append_keys(account=parameters.account_id)
    account = accounts.load(parameters.account_id, caller.tenant, caller.accounts)
    logger.append_keys(provider=account.provider.name)
    metrics.add_dimension("provider", account.provider.name)
    tracer.put_annotation("provider", account.provider.name)
    tracer.put_annotation("account", account.id)
    options = Options(
        remote_query=parameters.remote_query,
        remote_data=(values or {}).pop("remote_data", None) or {},
        skip_unsupported=parameters.skip_unsupported,
        dry_run=parameters.dry_run and app.current_event.http_method != "GET",
        explain=parameters.explain,
        force_delete=parameters.force_delete,
    )
    with tracer.provider.in_subsegment(f"## {account.provider.name}"):
        creates = app.current_event.http_method == "POST"
        observe = _observe()
        account = oauth.fresh(account, deadline, observe) if asks else account
        yield Verbs(account, options, deadline, observe, entity=entity, creates=creates)


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
    if error.code in COUNTED:
        _count(COUNTED[error.code])
    return response.error(error, _request_id())


def _count(name: str) -> None:
    """Apart from the other metrics, which get the provider's name as a dimension: an alarm finds a metric only under
    the very dimensions that it was counted under, and there is one for all providers."""
    with single_metric(name, MetricUnit.Count, 1, namespace=NAMESPACE) as metric:
        metric.add_dimension("service", SERVICE)


def _tell(event: oauth.Event) -> None:
    """What happened to an account's access, as a log line and a metric."""
    level = logger.info if event.name == "TokenRefreshed" else logger.error
    level(event.name, account=event.account, provider=event.provider)
    _count(event.name)


oauth.listeners.append(_tell)


def _failed(error: Exception) -> Response[str]:
    """The answer of an error that an idempotency key keeps."""
    if isinstance(error, UnifiedError):
        return _answer(error)
    answer: Response[str] = unknown_error(error)
    return answer


def _request_id() -> str:
    return str(app.current_event.request_context.request_id)
