"""The addresses that there are, and what answers there."""

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple

from api import documents, request, response, telemetry
from api.http import Context, Event, Response
from unified_crm import accounts, describe
from unified_crm.credentials import OAuth2
from unified_crm.deadline import Deadline
from unified_crm.engine import Options
from unified_crm.errors import InternalError, InvalidRequest, MethodNotAllowed, NotFound, UnifiedError
from unified_crm.models import PipelineWrite
from unified_crm.verbs import Verbs

ANSWER_SECONDS = 1.0
"""Kept of Lambda's remaining time for making the answer."""
STORE_SECONDS = 2.0
"""Kept of it for storing the answer of a call with an `Idempotency-Key`, beside what it takes to make it."""


class Call(NamedTuple):
    """One call: the request, and the context that Lambda gives with it."""

    event: Event
    context: Context


Route = Callable[..., Response]
"""From a call and what the address holds to an answer. Raises UnifiedError."""


def _once(route: Route) -> Route:
    """A route on which a call with an `Idempotency-Key` takes effect once."""

    @wraps(route)
    def once(call: Call, resource: str, *rest: str) -> Response:
        key = request.idempotency_key(call.event)
        if key is None:
            return route(call, resource, *rest)
        from api import idempotency  # with DynamoDB's client, which only calls with a key need

        return idempotency.once(key, call, resource, lambda: route(call, resource, *rest), failed)

    return once


def description(call: Call) -> Response:
    """The API's description; needs no token."""
    return documents.description(call.event)


def docs(call: Call) -> Response:
    """A page to read and try the API; needs no token."""
    return documents.docs(call.event)


def list_(call: Call, resource: str) -> Response:
    """A page of pipelines, or of stages."""
    parameters = request.parameters(call.event, resource)
    options = request.listing(parameters)
    verbs = _verbs(call, parameters, parameters.entity)
    if resource == "pipelines":
        return response.many(verbs.list_pipelines(options), parameters, resource)
    return response.many(verbs.list_stages(parameters.pipeline_id, options), parameters, resource)


@_once
def create(call: Call, resource: str) -> Response:
    """Create a pipeline with its stages, or a stage."""
    parameters = request.parameters(call.event, resource)
    if resource == "pipelines":
        values = request.write(call.event, PipelineWrite)
        entity = request.one_entity(parameters.entity, values.pop("entity", None))
        verbs = _verbs(call, parameters, entity, values)
        return response.one(verbs.create_pipeline(values), parameters, resource)
    from unified_crm.changes import StageWrite

    values = request.write(call.event, StageWrite)
    verbs = _verbs(call, parameters, parameters.entity, values)
    result = verbs.create_stage(values, parameters.pipeline_id)
    return response.one(result, parameters, resource)


def get(call: Call, resource: str, id_: str) -> Response:
    """One pipeline, or one stage."""
    parameters = request.parameters(call.event, resource)
    id_ = request.path_id(id_)
    verbs = _verbs(call, parameters, parameters.entity)
    if resource == "pipelines":
        return response.one(verbs.get_pipeline(id_), parameters, resource)
    return response.one(verbs.get_stage(id_, parameters.pipeline_id), parameters, resource)


@_once
def update(call: Call, resource: str, id_: str) -> Response:
    """Change a pipeline with its stages, or a stage."""
    from unified_crm.changes import PipelineUpdate, StageWrite

    parameters = request.parameters(call.event, resource)
    id_ = request.path_id(id_)
    if resource == "pipelines":
        values = request.write(call.event, PipelineUpdate)
        entity = request.one_entity(parameters.entity, values.pop("entity", None))
        verbs = _verbs(call, parameters, entity, values)
        result = verbs.update_pipeline(id_, values, prune=parameters.prune_stages)
        return response.one(result, parameters, resource)
    values = request.write(call.event, StageWrite)
    verbs = _verbs(call, parameters, parameters.entity, values)
    return response.one(verbs.update_stage(id_, values, parameters.pipeline_id), parameters, resource)


@_once
def delete(call: Call, resource: str, id_: str) -> Response:
    """Delete a pipeline with its stages, or a stage."""
    parameters = request.parameters(call.event, resource)
    id_ = request.path_id(id_)
    verbs = _verbs(call, parameters, parameters.entity)
    if resource == "pipelines":
        return response.deleted(verbs.delete_pipeline(id_), parameters)
    return response.deleted(verbs.delete_stage(id_, parameters.pipeline_id), parameters)


def meta(call: Call, resource: str, method: str) -> Response:
    """What the account's provider takes and answers for a method."""
    parameters = request.parameters(call.event, resource)
    if method not in describe.METHODS:
        raise NotFound(f"There is no method {method}, only {', '.join(describe.METHODS)}")
    verbs = _verbs(call, parameters, parameters.entity, asks=False)
    return response.plain(verbs.meta(resource, method))


_RESOURCE = "/unified/crm/(pipelines|stages)"
ROUTES: Mapping[str, Mapping[str, Route]] = {
    _RESOURCE: {"GET": list_, "POST": create},
    rf"{_RESOURCE}/meta/([^/]+)": {"GET": meta},
    rf"{_RESOURCE}/([^/]+)": {"GET": get, "PATCH": update, "DELETE": delete},
    r"/openapi\.json": {"GET": description},
    "/docs": {"GET": docs},
}
"""Regular expressions for whole paths, whose groups go to the route; by method. The first that fits counts."""

_COMPILED = [(re.compile(address), methods) for address, methods in ROUTES.items()]


def answer(call: Call) -> Response:
    """The answer to a call, whatever becomes of it: an error becomes HTTP here and nowhere else."""
    try:
        return _answer(call)
    except Exception as error:  # noqa: BLE001 - a fault of ours is answered as well as any
        telemetry.end_account(error)
        return failed(call, error)
    finally:
        telemetry.end_account()


def _answer(call: Call) -> Response:
    method, path = call.event.method, call.event.path
    for address, methods in _COMPILED:
        if (found := address.fullmatch(path)) is None:
            continue
        if method in methods:
            return methods[method](call, *found.groups())
        allowed = ", ".join(methods)
        raise MethodNotAllowed(f"{method} is not possible on {path}, only {allowed}", headers={"allow": allowed})
    if re.match(rf"{_RESOURCE}/(?!meta/)", path):
        raise InvalidRequest("id must be one path segment")
    if other := re.fullmatch("/unified/crm/([^/]+)(/[^/]+)?", path):
        request.known_resource(other[1])
    raise NotFound(f"There is nothing at {method} {path}")


def failed(call: Call, error: Exception) -> Response:
    """The answer to a call that met an error, with its line in the log."""
    if not isinstance(error, UnifiedError):
        # The log has what happened, and the caller is told no more than where it stands there.
        telemetry.logger.exception("Unhandled", exc_info=error)
        error = InternalError("Something went wrong here; the log has it under this request_id")
    else:
        level = telemetry.logger.error if error.status >= 500 else telemetry.logger.info
        # Of an error that is answered, the trace is made only where someone will look for it.
        level(error.message, code=error.code, status=error.status, exc_info=error if error.status >= 500 else None)
    if error.code in telemetry.COUNTED:
        telemetry.count(telemetry.COUNTED[error.code])
    return response.error(error, call.event.request_id)


def _verbs(
    call: Call,
    parameters: request.Parameters,
    entity: str | None,
    values: dict[str, Any] | None = None,
    *,
    asks: bool = True,
) -> Verbs:
    """The verbs of the account that the call is for, if it is the caller's. `values` lose their `remote_data` to it.

    `asks`: the provider is going to be asked, with a token that is good for now.
    """
    event = call.event
    kept = ANSWER_SECONDS + (STORE_SECONDS if request.idempotency_key(event) else 0)
    deadline = Deadline(call.context.get_remaining_time_in_millis() / 1000 - kept)
    caller = request.caller(event)
    telemetry.tell(account=parameters.account_id)
    account = accounts.load(parameters.account_id, caller.tenant, caller.accounts)
    options = Options(
        remote_query=parameters.remote_query,
        remote_data=(values or {}).pop("remote_data", None) or {},
        skip_unsupported=parameters.skip_unsupported,
        dry_run=parameters.dry_run and event.method != "GET",
        explain=parameters.explain,
        force_delete=parameters.force_delete,
    )
    telemetry.begin_account(account)
    if asks and isinstance(account.credentials, OAuth2):
        from api import access

        account = access.fresh(account, deadline, telemetry.observe)
    return Verbs(account, options, deadline, telemetry.observe, entity=entity, creates=event.method == "POST")
