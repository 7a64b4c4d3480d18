"""What a provider declares. A provider is one file in `providers/`: links, enumerations, field tables, short flows.

A **flow** is a generator. It yields the `Request`s that it wants sent, in order, and is handed the `Reply` to each; an
error is thrown into it where it yielded. It returns the provider's record of what stands there now. It does no I/O:

    def create(call: Call) -> Flow:
        reply = yield Request("POST", "/pipelines", json=PIPELINE.to_remote(call.values), main=True)
        return reply.object()

Everything hard is the engine's: sending, deadlines, clean-up, telling what happened.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import Any
from urllib.parse import quote

from unified_crm.credentials import ApiKey, Bearer, OAuth2
from unified_crm.errors import ProviderBadReply
from unified_crm.mapping import Table

Record = dict[str, Any]
"""One thing as the provider shows it."""


@dataclass(frozen=True)
class Reply:
    """A provider's answer. Header names are in lower case; no credential is left in `body`."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def json(self) -> Any:
        """The body read as JSON. Raises ProviderBadReply where it is none."""
        try:
            return json.loads(self.body, parse_constant=_refuse, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            raise ProviderBadReply(f"The provider answered {self.status} with a body that is not JSON.") from error

    def content(self) -> Any:
        """The body as JSON, else as text: what a caller sees as `raw`."""
        try:
            return self.json
        except ProviderBadReply:
            return self.body.decode("utf-8", "replace")

    def object(self, *path: str) -> Record:
        """The JSON object at `path`. Raises ProviderBadReply where there is none."""
        found: Record = _expect(self._at(path), dict)
        return found

    def records(self, *path: str) -> list[Record]:
        """The list of JSON objects at `path`. Raises ProviderBadReply where there is none."""
        return [_expect(each, dict) for each in _expect(self._at(path), list)]

    def _at(self, path: tuple[str, ...]) -> Any:
        value = self.json
        for key in path:
            value = _expect(value, dict).get(key)
        return value


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ProviderBadReply(
            f"The provider's answer holds {type(value).__name__} where {kind.__name__} was expected."
        )
    return value


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    """JSON has no infinity, so an answer that holds one could not be passed on."""
    value = float(text)
    return value if isfinite(value) else _refuse(text)


@dataclass(frozen=True)
class Undo:
    """How to take back what a step created: `flow` makes a new flow that deletes it, and may be called again.

    `resource`, `id` and `name` tell the caller what was left behind if that fails. A 404 while undoing means that it
    is gone already. `restores`: it brings something back to what it was, and its flow returns notes on what could not
    be brought back in full. `parts` is a flow to what else is left where it fails: [{"resource", "id", "name"}].
    """

    resource: str
    id: str
    name: str | None
    flow: Callable[[], Flow]
    restores: bool = False
    parts: Callable[[], Flow] | None = None


@dataclass(frozen=True)
class Request:
    """One call to the provider.

    `path` begins with `/`, stands below the provider's base URL and is percent-encoded (see `segment`). `main` marks
    the call to which a caller's `remote_query` and `remote_data` belong. `creates` finds in the reply the pipeline that
    was created, so that it can be deleted again; `revert` takes back a change, and is used where its answer is lost
    too. With `fallback`, a read that fails is no error: the flow goes on with that record. `gone` makes a flow that
    looks whether this deletion has happened: it settles what a lost answer leaves open.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    json: Any = None
    main: bool = False
    creates: Callable[[Reply], Record] | None = None
    revert: Undo | None = None
    fallback: Any = None
    gone: Callable[[], Flow] | None = None

    def as_main(self) -> Request:
        """The same, as the call to which `remote_query` and `remote_data` belong."""
        return replace(self, main=True)

    def reverted_by(self, undo: Undo) -> Request:
        """The same, taken back by `undo`."""
        return replace(self, revert=undo)


Flow = Generator[Request, Reply, Any]


def segment(value: str | int) -> str:
    """`value` as one percent-encoded path segment."""
    return quote(str(value), safe="")


@dataclass(frozen=True)
class Call:
    """What a flow works from. `entity` is the provider's own name of the object type; `values` are unified fields.

    `resource` is what the caller's call is about, `pipelines` or `stages`. `force`: delete what is in use, too.
    """

    entity: str
    values: Mapping[str, Any] = field(default_factory=dict)
    remote_data: Mapping[str, Any] = field(default_factory=dict)
    resource: str = "pipelines"
    force: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def _as_they_are(_: Call, stages: list[Record]) -> list[Record]:
    return stages


@dataclass(frozen=True)
class Editor:
    """The single writes by which a pipeline changes; `edit.Edit` makes everything else of them.

    Each makes one request from the pipeline's record and what is to be written: `write` its own fields, `insert` a
    stage, `change` some fields of a stage, `remove` one, `arrange` all of them in order. A provider that orders stages
    by a number of their own names that field as `order` instead; one that has neither keeps its order. `delete` deletes
    the pipeline; `stages_first`: only when it holds no stages. `inserted` finds the new stage in the reply. `again` is
    the body that makes a deleted stage again. `complete` fills in what the provider wants in every stage of a list.
    """

    insert: Callable[[Call, Record, Record], Request]
    change: Callable[[Call, Record, Record, Record], Request]
    remove: Callable[[Call, Record, Record], Request]
    write: Callable[[Call, Record, Record], Request] | None = None
    delete: Callable[[Call, str], Request] | None = None
    stages_first: bool = False
    arrange: Callable[[Call, Record, list[Record]], Request] | None = None
    order: str | None = None
    inserted: Callable[[Reply], Record] = Reply.object
    again: Callable[[Record], Record] = dict
    complete: Callable[[Call, list[Record]], list[Record]] = _as_they_are


@dataclass(frozen=True)
class Pipelines:
    """Pipelines at this provider: the field table for an object type, and a flow for each verb it has.

    Stages come with their pipelines, so that their verbs are made of these by the engine.
    """

    table: Callable[[str], Table]
    list: Callable[[Call], Flow] | None = None
    get: Callable[[Call, str], Flow] | None = None
    create: Callable[[Call], Flow] | None = None
    editor: Editor | None = None


@dataclass(frozen=True)
class Entities:
    """Which object types have pipelines: {unified name: the provider's}. `others`: any further one, by its own name."""

    names: Mapping[str, str]
    others: bool = False

    def to_remote(self, unified: str) -> str | None:
        """The provider's name of a unified entity, None where it has no pipelines for it."""
        return self.names.get(unified, unified if self.others else None)

    def to_unified(self, remote: str) -> str:
        """The unified name of a provider's object type."""
        return next((unified for unified, name in self.names.items() if name == remote), remote)


@dataclass(frozen=True)
class Rule:
    """What an error of the provider's means: the first rule that fits decides.

    `code` is one of `errors.REMOTE_CODES`. `text` is a regular expression, looked for in the reply's body without
    regard to case; None fits every body. `method` is that of the request; None fits all.
    """

    code: str
    status: int
    text: str | None = None
    method: str | None = None


@dataclass(frozen=True)
class RateLimit:
    """How a provider tells of its rate limit.

    `limit` is its documented measure, in calls, said where an answer does not tell. The names of its own headers,
    beside the common forms that are always read: `limit_header`, `remaining_header`, and `window_ms_header`
    (milliseconds). `waits` tells the seconds to wait after a 429 without Retry-After, by a text in its body; the first
    that is there counts.
    """

    limit: int
    limit_header: str = "x-ratelimit-limit"
    remaining_header: str = "x-ratelimit-remaining"
    window_ms_header: str | None = None
    waits: Mapping[str, int] = field(default_factory=dict)


Authenticate = Callable[[Any], Mapping[str, str]]
"""Credentials to the headers that carry them."""


def basic_key(credentials: ApiKey) -> Mapping[str, str]:
    """HTTP Basic with the API key as the user name and no password."""
    return {"authorization": "Basic " + b64encode(f"{credentials.api_key.get_secret_value()}:".encode()).decode()}


def bearer(credentials: Bearer | OAuth2) -> Mapping[str, str]:
    """`Authorization: Bearer` with a token of either kind."""
    token = credentials.token if isinstance(credentials, Bearer) else credentials.access_token
    return {"authorization": "Bearer " + token.get_secret_value()}


@dataclass(frozen=True)
class Provider:
    """A CRM, as its file declares it.

    `base_url` is https and has no trailing slash. `auth` tells, for each type of credentials that the provider takes,
    the headers that carry them. `query_credentials` are query parameters by which the provider would take a
    credential: a caller may not send them. `scope_keys` are the keys under which an error's body lists missing scopes.
    """

    name: str
    label: str
    docs: tuple[str, ...]
    base_url: str
    auth: Mapping[str, Authenticate]
    entities: Entities
    pipelines: Pipelines
    errors: tuple[Rule, ...]
    rate_limit: RateLimit
    query_credentials: frozenset[str] = frozenset()
    scope_keys: tuple[str, ...] = ()
