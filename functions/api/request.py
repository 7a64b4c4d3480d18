"""From an API Gateway event (HTTP API, payload 2.0) to what it asks, typed."""

import re
from base64 import b64decode
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel

from api import body
from api.http import Event
from api.query import Query
from unified_crm import describe, lists, models
from unified_crm.errors import InvalidJson, InvalidRequest, NotFound, Unauthorized
from unified_crm.lists import Cursor, Filter, ListOptions

T = TypeVar("T")
Format = Literal["unified", "raw", "normalized"]
_FORMATS: dict[str, Format] = {"unified": "unified", "raw": "raw", "normalized": "normalized"}
_UUID = re.compile("[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


_ALONE = frozenset({"integrated_account_id", "limit", "next_cursor", "created_at", "updated_at"})
"""What is none of Parameters' options: most calls say nothing else."""


class Caller(NamedTuple):
    """Whose token it is. `accounts` are the only integrated accounts that it may use; None is all of the tenant's."""

    tenant: str
    accounts: frozenset[str] | None


class Parameters(NamedTuple):
    """The query parameters that every call takes."""

    account_id: str
    query: Query
    format: Format = "unified"
    ignore_remote_data: bool = False
    exclude_fields: frozenset[str] = frozenset()
    remote_query: tuple[tuple[str, str], ...] = ()
    entity: str | None = None
    skip_unsupported: bool = False
    force_delete: bool = False
    dry_run: bool = False
    explain: bool = False
    prune_stages: bool = False
    pipeline_id: str | None = None

    @property
    def as_it_is(self) -> bool:
        """Whether an answer shows all unified fields and the provider's own as they are."""
        return self.format == "unified" and not (self.ignore_remote_data or self.exclude_fields)


def caller(event: Event) -> Caller:
    """The caller, from the authorizer's context. Raises Unauthorized where the event did not pass the authorizer."""
    tenant, accounts = event.context.get("tenant"), event.context.get("accounts")
    if not isinstance(tenant, str) or not isinstance(accounts, str) or not tenant:
        raise Unauthorized("The request did not pass the authorizer")
    return Caller(tenant, None if accounts == "*" else frozenset(filter(None, accounts.split(","))))


def known_resource(name: str) -> None:
    """Raises NotFound where there is no such resource."""
    if name not in describe.RESOURCES:
        raise NotFound(f"There is no resource {name}, only {', '.join(describe.RESOURCES)}")


def parameters(event: Event, resource: str) -> Parameters:
    """The query parameters. Raises InvalidRequest naming the one that is missing or wrong."""
    known_resource(resource)
    query = Query(event.query)
    account_id = _account_id(query)
    if query.names <= _ALONE:
        return Parameters(account_id, query)
    return Parameters(
        account_id=account_id,
        format=_choice(query, "truto_response_format", _FORMATS, "unified"),
        ignore_remote_data=_boolean(query, "truto_ignore_remote_data"),
        exclude_fields=frozenset(query.array("truto_exclude_fields")),
        remote_query=query.nested("remote_query"),
        entity=_segment(query.text("entity"), "entity"),
        skip_unsupported=_choice(query, "truto_unsupported", {"fail": False, "skip": True}, "fail"),
        force_delete=_boolean(query, "truto_force_delete"),
        dry_run=_boolean(query, "truto_dry_run"),
        explain=_boolean(query, "truto_explain"),
        prune_stages=_boolean(query, "prune_stages"),
        pipeline_id=_pipeline_id(query),
        query=query,
    )


def listing(parameters: Parameters) -> ListOptions:
    """What a list is asked for. Raises InvalidRequest naming the parameter that is wrong."""
    query = parameters.query
    cursor = query.text("next_cursor")
    filters = tuple(
        Filter(name, operator, _time(value, f"{name}[{operator}]"))
        for name in ("created_at", "updated_at")
        for operator, value in query.fields(name, lists.OPERATORS).items()
    )
    texts_only = parameters.as_it_is
    return ListOptions(_limit(query.text("limit")), Cursor.decode(cursor) if cursor else None, filters, texts_only)


def write(event: Event, model: type[BaseModel]) -> dict[str, Any]:
    """The body as the unified fields of `model`, those that were given."""
    return models.parse(model, content(event)).model_dump(exclude_unset=True)


def content(event: Event) -> Any:
    """The body's JSON value. Raises what `body.parse` raises."""
    return body.parse(_bytes(event), event.headers.get("content-type"))


def idempotency_key(event: Event) -> str | None:
    """The header `Idempotency-Key` of a call that writes, None where there is none. Raises InvalidRequest."""
    key = event.headers.get("idempotency-key")
    if key is None or event.method not in ("POST", "PATCH", "DELETE"):
        return None
    if not re.fullmatch(r"[ -~]{1,255}", key.strip(" \t")):
        raise InvalidRequest("The header Idempotency-Key must be 1 to 255 printable ASCII characters")
    return key.strip(" \t")


def one_entity(query: str | None, body_: str | None) -> str | None:
    """The object type, which may stand in the query or in the body. Raises InvalidRequest where they differ."""
    if query and body_ and query != body_:
        raise InvalidRequest(f"entity is {query!r} in the query and {body_!r} in the body")
    return body_ or query


def path_id(value: str) -> str:
    """An id from the path. Raises InvalidRequest where it could not be a provider's."""
    found = _segment(value, "id")
    assert found is not None  # noqa: S101 - a value gives a value
    return found


def _bytes(event: Event) -> bytes:
    try:
        return b64decode(event.body, validate=True) if event.encoded else event.body.encode("utf-8", "surrogatepass")
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
    if not _UUID.fullmatch(value):
        raise InvalidRequest("integrated_account_id must be a UUID")
    return value.lower()


def _pipeline_id(query: Query) -> str | None:
    return _segment(query.fields("pipeline", ("id",)).get("id"), "pipeline[id]")


def _segment(value: str | None, name: str) -> str | None:
    if value is None:
        return None
    try:
        return models.path_segment(value)
    except ValueError as error:
        raise InvalidRequest(f"{name} {error}") from None


def _limit(text: str | None) -> int:
    if text is None:
        return lists.DEFAULT_LIMIT
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= limit <= lists.MAX_LIMIT:
        raise InvalidRequest(f"limit must be a whole number from 1 to {lists.MAX_LIMIT}")
    return limit


def _time(text: str, name: str) -> Any:
    try:
        return lists.parse_time(text)
    except ValueError:
        raise InvalidRequest(f"{name} must be an RFC 3339 time, such as 2026-01-31T12:00:00Z") from None


def _boolean(query: Query, name: str) -> bool:
    return _choice(query, name, _BOOLEANS, "false")


def _choice(query: Query, name: str, choices: dict[str, T], default: str) -> T:
    value = query.text(name)
    if value is None:
        value = default
    if value not in choices:
        raise InvalidRequest(f"{name} must be one of {', '.join(choices)}")
    return choices[value]
