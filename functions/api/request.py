"""From an API Gateway event (HTTP API, payload 2.0) to what it asks, typed."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from uuid import UUID

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from api import body
from api.query import Query
from unified_crm import models
from unified_crm.errors import InvalidJson, InvalidRequest, Unauthorized

T = TypeVar("T")
Format = Literal["unified", "raw", "normalized"]
_FORMATS: dict[str, Format] = {"unified": "unified", "raw": "raw", "normalized": "normalized"}


@dataclass(frozen=True)
class Caller:
    """Whose token it is. `accounts` are the only integrated accounts that it may use; None is all of the tenant's."""

    tenant: str
    accounts: frozenset[str] | None


@dataclass(frozen=True)
class Parameters:
    """The query parameters that every call takes."""

    account_id: str
    format: Format
    ignore_remote_data: bool
    exclude_fields: frozenset[str]
    remote_query: tuple[tuple[str, str], ...]
    entity: str | None
    skip_unsupported: bool


def caller(event: APIGatewayProxyEventV2) -> Caller:
    """The caller, from the authorizer's context. Raises Unauthorized where the event did not pass the authorizer."""
    authorizer = event.raw_event.get("requestContext", {}).get("authorizer") or {}
    context = authorizer.get("lambda") or {}
    tenant, accounts = context.get("tenant"), context.get("accounts")
    if not tenant or accounts is None:
        raise Unauthorized("The request did not pass the authorizer")
    return Caller(tenant, None if accounts == "*" else frozenset(filter(None, str(accounts).split(","))))


def parameters(event: APIGatewayProxyEventV2) -> Parameters:
    """The query parameters. Raises InvalidRequest naming the one that is missing or wrong."""
    query = Query(event.raw_query_string or "")
    return Parameters(
        account_id=_account_id(query),
        format=_choice(query, "truto_response_format", _FORMATS, "unified"),
        ignore_remote_data=_boolean(query, "truto_ignore_remote_data"),
        exclude_fields=frozenset(query.array("truto_exclude_fields")),
        remote_query=query.nested("remote_query"),
        entity=_entity(query),
        skip_unsupported=_choice(query, "truto_unsupported", {"fail": False, "skip": True}, "fail"),
    )


def pipeline(event: APIGatewayProxyEventV2, entity: str | None) -> dict[str, Any]:
    """The body as the unified fields of a pipeline to write, with the query's `entity` where the body has none."""
    write = models.parse_pipeline(body.parse(_bytes(event), event.headers.get("content-type")))
    if entity and write.entity and entity != write.entity:
        raise InvalidRequest(f"entity is {entity!r} in the query and {write.entity!r} in the body")
    values = write.model_dump(exclude_unset=True)
    return {**values, "entity": write.entity or entity}


def _bytes(event: APIGatewayProxyEventV2) -> bytes:
    text = event.body or ""
    try:
        return b64decode(text, validate=True) if event.is_base64_encoded else text.encode("utf-8", "surrogatepass")
    except ValueError:
        raise InvalidJson("The body is not the base64 that the event says it is") from None


def _account_id(query: Query) -> str:
    value = query.text("integrated_account_id")
    if not value:
        raise InvalidRequest(
            "integrated_account_id is required",
            insight={
                "missing_required_query_parameters": {
                    "description": "Every call needs the id of the integrated account that it is for.",
                    "value": ["integrated_account_id"],
                }
            },
        )
    try:
        found = str(UUID(value))
    except ValueError:
        found = ""
    if found != value.lower():
        raise InvalidRequest("integrated_account_id must be a UUID")
    return found


def _entity(query: Query) -> str | None:
    value = query.text("entity")
    if value is None:
        return None
    try:
        return models.path_segment(value)
    except ValueError as error:
        raise InvalidRequest(f"entity {error}") from None


def _boolean(query: Query, name: str) -> bool:
    return _choice(query, name, {"true": True, "false": False, "1": True, "0": False}, "false")


def _choice(query: Query, name: str, choices: dict[str, T], default: str) -> T:
    value = query.text(name)
    if value is None:
        value = default
    if value not in choices:
        raise InvalidRequest(f"{name} must be one of {', '.join(choices)}")
    return choices[value]
