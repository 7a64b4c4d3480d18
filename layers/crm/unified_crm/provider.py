"""What a provider declares. A provider is one file in `providers/`: links, enumerations, field tables, short flows.

A **flow** is a generator. It yields the `Request`s that it wants sent, in order, and is handed the `Reply` to each; an
error is thrown into it where it yielded. It returns the provider's record of what stands there now. It does no I/O:

    def create(call: Call) -> Flow:
        body = PIPELINE.to_remote(call.values)
        return (yield Request("POST", "/pipelines", json=body, main=True, creates=Reply.object)).created

Everything hard is the engine's: sending, deadlines, clean-up, telling what happened.
"""

# The classes here are made at every start, so that they are tuples: dataclasses take three times as long to make, and
# annotations that are texts, which each is compiled then, twice as long.

import json
import re
from base64 import b64encode
from collections.abc import Callable, Generator, Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import quote

from unified_crm.credentials import ApiKey, Bearer, OAuth2
from unified_crm.errors import ProviderBadReply
from unified_crm.mapping import Table
from unified_crm.parsing import Texts, parse

Record = dict[str, Any]
"""One thing as the provider shows it."""
NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Reply:
    """A provider's answer. Header names are in lower case; no credential is left in `body`.

    `created` is the record that the request's own `creates` found in it. It is there, too, where the answer was lost
    and the record found again. `noted`: nothing was sent, this is a dry run's.
    """

    def __init__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        created: Record | None = None,
        *,
        noted: bool = False,
    ) -> None:
        self.status, self.headers, self.body = status, headers, body
        self.created, self.noted = created or {}, noted
        self._texts: Texts = NOTHING

    @cached_property
    def json(self) -> Any:
        """The body read as JSON. Raises ProviderBadReply where it is none."""
        try:
            value, self._texts = parse(self.body.decode(json.detect_encoding(self.body), "surrogatepass"))
            return value
        except (ValueError, RecursionError) as error:
            raise ProviderBadReply(f"The provider answered {self.status} with a body that is not JSON.") from error

    def content(self) -> Any:
        """The body as JSON, else as text: what a caller sees as `raw`."""
        try:
            return self.json
        except ProviderBadReply:
            return self.body.decode("utf-8", "replace")

    def text_of(self, record: Any) -> str | None:
        """The JSON by which a record of this reply stands in it, where that is known."""
        found = self._texts.get(id(record))
        return found[1] if found else None

    def object(self, *path: str) -> Record:
        """The JSON object at `path`. Raises ProviderBadReply where there is none."""
        found: Record = _expect(self._at(path, dict), dict)
        return found

    def records(self, *path: str) -> list[Record]:
        """The list of JSON objects at `path`. Raises ProviderBadReply where there is none."""
        return [_expect(each, dict) for each in _expect(self._at(path, list), list)]

    def _at(self, path: tuple[str, ...], kind: type) -> Any:  # noqa: ARG002 - what stands for a reply looks at it
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


Flow = Generator["Request", Reply, Any]


class Undo(NamedTuple):
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


class Request(NamedTuple):
    """One call to the provider.

    `path` begins with `/`, stands below the provider's base URL and is percent-encoded (see `segment`). `main` marks
    the call to which a caller's `remote_query` and `remote_data` belong, `takes_data` whether the latter does.
    `creates` finds in the reply the pipeline that was created, so that it can be deleted again; `revert` takes back a
    change, and is used where its answer is lost too. `gone` makes a flow that looks whether this deletion has happened:
    it settles what a lost answer leaves open. `as_list`: the body goes out as a list, of which `json` is the one item.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    json: Any = None
    main: bool = False
    creates: Callable[[Reply], Record] | None = None
    revert: Undo | None = None
    gone: Callable[[], Flow] | None = None
    as_list: bool = False
    takes_data: bool = True

    def as_main(self) -> Self:
        """The same, as the call to which `remote_query` and `remote_data` belong."""
        return self._replace(main=True)

    def reverted_by(self, undo: Undo) -> Self:
        """The same, taken back by `undo`."""
        return self._replace(revert=undo)


def segment(value: str | int) -> str:
    """`value` as one percent-encoded path segment."""
    return quote(str(value), safe="")


class Call(NamedTuple):
    """What a flow works from. `entity` is the provider's own name of the object type; `values` are unified fields.

    `resource` is what the caller's call is about, `pipelines` or `stages`. `force`: delete what is in use, too.
    `settings` are the account's own.
    """

    entity: str
    values: Mapping[str, Any] = NOTHING
    remote_data: Mapping[str, Any] = NOTHING
    resource: str = "pipelines"
    force: bool = False
    settings: Mapping[str, Any] = NOTHING


def _as_they_are(_: Call, stages: list[Record]) -> list[Record]:
    return stages


def _the_whole(reply: Reply, _: Record) -> Record:
    return reply.object()


def _never(_: Record) -> bool:
    return False


class Editor(NamedTuple):
    """The single writes by which a pipeline changes; `edit.Edit` makes everything else of them.

    Each makes one request from the pipeline's record and what is to be written: `write` its own fields, `insert` a
    stage, `change` some fields of a stage, `remove` one, `arrange` all of them in order. A provider that orders stages
    by a number of their own names that field as `order` instead, `renumbers` says that it changes these numbers by
    itself; one that has neither keeps its order. `delete` deletes the pipeline; `stages_first`: only when it holds no
    stages; `stages_outlive`: they would stay behind, so that what is taken back takes them first. `inserted` finds the
    new stage of a pipeline in the reply. `again` is the body that makes a deleted stage again. `complete` fills in what
    the provider wants in every stage of a list.

    A provider without calls for a single stage has `replace` in the place of `insert`, `change`, `remove` and `write`:
    one request from the pipeline's record, changes to its own fields, and all stages in order; `replaced` finds the
    pipeline in the reply. `fixed` tells which stages the provider keeps at their places, whatever is asked. `occupied`
    looks whether deals are on a stage, or in the pipeline where that is None: for providers that would delete them, or
    move them, without a word.
    """

    insert: Callable[[Call, Record, Record], Request] | None = None
    change: Callable[[Call, Record, Record, Record], Request] | None = None
    remove: Callable[[Call, Record, Record], Request] | None = None
    write: Callable[[Call, Record, Record], Request] | None = None
    delete: Callable[[Call, str], Request] | None = None
    stages_first: bool = False
    stages_outlive: bool = False
    arrange: Callable[[Call, Record, list[Record]], Request] | None = None
    order: str | None = None
    renumbers: bool = False
    inserted: Callable[[Reply, Record], Record] = _the_whole
    again: Callable[[Record], Record] = dict
    complete: Callable[[Call, list[Record]], list[Record]] = _as_they_are
    replace: Callable[[Call, Record, Record, list[Record]], Request] | None = None
    replaced: Callable[[Reply], Record] = Reply.object
    fixed: Callable[[Record], bool] = _never
    occupied: Callable[[Call, Record, Record | None], Flow] | None = None

    @property
    def orders(self) -> bool:
        """Whether the order of stages can be changed."""
        return bool(self.arrange or self.order or self.replace)


class Need(NamedTuple):
    """A field that the provider requires to create a pipeline, and that no unified field stands for.

    `path` is its dotted path in the body: a caller gives it in `remote_data`, else the account's `setting` is taken,
    which the provider's file writes into the body.
    """

    path: str
    setting: str


class Pipelines(NamedTuple):
    """Pipelines at this provider: the field table for an object type, and a flow for each verb it has.

    Stages come with their pipelines, so that their verbs are made of these by the engine. `id` and `stage_id` are
    regular expressions: another id is nobody's, and not asked for. `owner` is the pipeline's id, where a stage's id
    tells it. `gone`: a record that is only marked as deleted. `needs` is what a create wants beside the unified fields.

    `settles`: what stands there after `create` may lack stages that were asked for, or have others (`ready_made` are
    the names of those that are known), so that they are made, renamed and removed by the editor. `lag`: for so many
    seconds after a write, reads may not show it.
    """

    table: Callable[[str], Table]
    list: Callable[[Call], Flow] | None = None
    get: Callable[[Call, str], Flow] | None = None
    create: Callable[[Call], Flow] | None = None
    editor: Editor | None = None
    id: str = r"[\s\S]+"
    stage_id: str = r"[\s\S]+"
    owner: Callable[[str], str] | None = None
    gone: Callable[[Record], bool] = _never
    needs: tuple[Need, ...] = ()
    settles: bool = False
    ready_made: tuple[str, ...] = ()
    lag: float = 0


class Entities(NamedTuple):
    """Which object types have pipelines: {unified name: the provider's}. `others`: any further one, by its own name."""

    names: Mapping[str, str]
    others: bool = False

    def to_remote(self, unified: str) -> str | None:
        """The provider's name of a unified entity, None where it has no pipelines for it."""
        return self.names.get(unified, unified if self.others else None)

    def to_unified(self, remote: str) -> str:
        """The unified name of a provider's object type."""
        for unified, name in self.names.items():
            if name == remote:
                return unified
        return remote


class Rule(NamedTuple):
    """What an error of the provider's means: the first rule that fits decides.

    `code` is one of `errors.REMOTE_CODES`. `text` is a regular expression, looked for in the reply's body without
    regard to case; None fits every body. `method` is that of the request; None fits all.
    """

    code: str
    status: int
    text: str | None = None
    method: str | None = None


class RateLimit(NamedTuple):
    """How a provider tells of its rate limit.

    `limit` is its documented measure, in calls, said where an answer does not tell. The names of its own headers,
    beside the common forms that are always read: `limit_header`, `remaining_header`, and `window_ms_header`
    (milliseconds). `waits` tells the seconds to wait after a 429 without Retry-After, by a text in its body; the first
    that is there counts. `wait_key` is the key under which a JSON body tells them itself. `window` are the seconds to
    wait where nothing tells. `daily_header` is what is left of a day's measure: at 0 it is `daily_reset_ms_header`
    (milliseconds) that tells the wait, else an hour is a guess. `pace`: no more than so many calls of one account are
    sent in any second. `blocks`: going on after a 429 ends in a block, so that no call is sent again by itself.
    """

    limit: int
    limit_header: str = "x-ratelimit-limit"
    remaining_header: str = "x-ratelimit-remaining"
    window_ms_header: str | None = None
    waits: Mapping[str, int] = NOTHING
    wait_key: str | None = None
    window: int = 1
    daily_header: str | None = None
    daily_reset_ms_header: str | None = None
    pace: int | None = None
    blocks: bool = False


LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
"""One label of a host's name: the pattern of a setting that becomes part of an address."""


class Setting(NamedTuple):
    """One of an account's own settings, which its secret holds beside the credentials. It is a text.

    `about` says to the operator what it is. `pattern` is a regular expression for the whole of it. With `suffixes` it
    is an origin instead, https, without port, path or user, on a host of one label before one of them; an operator can
    allow further suffixes. `default` stands where the account has none.
    """

    name: str
    about: str
    pattern: str = r"[^\x00-\x20\x7f]{1,200}"
    required: bool = False
    default: str | None = None
    suffixes: tuple[str, ...] = ()

    def allows(self, value: Any, more: Iterable[str] = ()) -> bool:
        """Whether `value` may be used. `more` are the suffixes that the operator allows."""
        hosts = "|".join(map(re.escape, (*self.suffixes, *more)))
        pattern = rf"https://{LABEL}\.(?:{hosts})" if self.suffixes else self.pattern
        return isinstance(value, str) and re.fullmatch(pattern, value) is not None


class TokenEndpoint(NamedTuple):
    """Where OAuth 2 tokens come from. `url` and `authorize` are https; settings stand in them as in `base_url`.

    `client_auth`: the client's id and secret go as HTTP Basic (`basic`), or in the body (`body`), which is a form or
    JSON. `rotates`: each refresh answers a new refresh token, and the old one is worth nothing any more. `extra` is
    sent along; `redirect_uri`: so is the account's setting of this name. `scopes` are what the account must grant.
    `base_url_key` is the key of the reply that names the account's own origin, kept as the setting of this name.
    """

    url: str
    authorize: str
    client_auth: Literal["basic", "body"] = "body"
    body: Literal["form", "json"] = "form"
    rotates: bool = True
    extra: Mapping[str, str] = NOTHING
    redirect_uri: bool = False
    scopes: tuple[str, ...] = ()
    base_url_key: str | None = None


Authenticate = Callable[[Any], Mapping[str, str]]
"""Credentials to the headers that carry them."""


def basic_key(credentials: ApiKey) -> Mapping[str, str]:
    """HTTP Basic with the API key as the user name and no password."""
    return {"authorization": "Basic " + b64encode(f"{credentials.api_key.get_secret_value()}:".encode()).decode()}


def key_in(header: str) -> Authenticate:
    """The API key as it is, in a header of the provider's own."""

    def authenticate(credentials: ApiKey) -> Mapping[str, str]:
        return {header: credentials.api_key.get_secret_value()}

    return authenticate


def bearer(credentials: Bearer | OAuth2) -> Mapping[str, str]:
    """`Authorization: Bearer` with a token of either kind."""
    token = credentials.token if isinstance(credentials, Bearer) else credentials.access_token
    return {"authorization": "Bearer " + token.get_secret_value()}


class Provider(NamedTuple):
    """A CRM, as its file declares it.

    `base_url` is https and has no trailing slash; `{name}` in it stands for one of the account's `settings`, and for
    nothing else. `auth` tells, for each type of credentials that the provider takes, the headers that carry them;
    `headers` go with every call. `oauth` is where OAuth 2 tokens come from. `query_credentials` are query parameters by
    which the provider would take a credential: a caller may not send them. `scope_keys` are the keys under which an
    error's body lists missing scopes. `success_key`: what a reply's body says under it, true or false, goes before a
    status of 2xx or 4xx.
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
    settings: tuple[Setting, ...] = ()
    headers: Mapping[str, str] = NOTHING
    oauth: TokenEndpoint | None = None
    query_credentials: frozenset[str] = frozenset()
    scope_keys: tuple[str, ...] = ()
    success_key: str | None = None
