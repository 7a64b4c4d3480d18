"""What every provider simulator shares: an HTTP/1.1 server that keeps state, remembers requests and can misbehave.

A simulator is a subclass with a table of routes:

    class Toy(Simulator):
        name = "toy"
        demo_account_id = "…"
        demo_account = {"provider": "toy", "tenant": "demo", "credentials": {…}, "settings": {}}

        def fresh(self):                       # the provider's state before anyone called,
            return {"pipelines": []}           # and all else that is abstract

        @route("GET", "/pipelines/{pipeline_id}")
        def read(self, request, pipeline_id):
            return Reply(200, …)               # or: raise Refused(Reply(404, …))

Everything runs on loopback, in threads that end with `stop()`.
"""

import copy
import json
import random
import re
import selectors
import socket
import socketserver
import struct
import sys
import threading
import time
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from fnmatch import fnmatchcase
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from itertools import count
from typing import Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import parse_qsl, unquote
from uuid import uuid4

Account = dict[str, Any]
Stage = str | Mapping[str, Any]
Handler = Callable[..., "Reply"]
H = TypeVar("H", bound=Handler)

JSON = "application/json"
HTML = "text/html; charset=utf-8"
PAGE = b"<!DOCTYPE html><html><head><title>Please wait</title></head><body><h1>Checking your browser</h1></body></html>"


@dataclass(frozen=True)
class Received:
    """One request as it arrived, whatever became of it."""

    method: str
    path: str
    """As sent: not decoded, not normalised."""
    query: list[tuple[str, str]]
    raw_query: str
    headers: dict[str, str]
    """Lower-case names."""
    body: bytes
    json: Any = None
    """The parsed body, None where it is empty or no JSON."""
    malformed: bool = False
    """True for a body that is no JSON."""

    def flag(self, name: str) -> bool:
        """Whether a query parameter says true."""
        return dict(self.query).get(name, "").lower() == "true"

    @property
    def bearer(self) -> str | None:
        """The token of `Authorization: Bearer`."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if kind.lower() == "bearer" else None

    @property
    def basic(self) -> tuple[str, str] | None:
        """User and password of `Authorization: Basic`."""
        kind, _, encoded = self.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            user, colon, password = b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return None
        return (user, password) if colon else None


@dataclass(frozen=True)
class Reply:
    """An answer. `body`: None is empty, bytes go out as they are, anything else as JSON."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = JSON

    @property
    def payload(self) -> bytes:
        if self.body is None:
            return b""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body, separators=(",", ":")).encode()


class Refused(Exception):
    """Raised by a route to answer at once with `reply`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"refused with {reply.status}")
        self.reply = reply


@dataclass(frozen=True)
class Tokens:
    """A provider's OAuth 2 token end point, as its documentation describes it.

    A client's id and secret come as HTTP Basic or in the body, which is a form or JSON, with what `extra` says. Where
    it `rotates`, each refresh token is good for one use. `seconds` is how long an access token lives; `camel_case`: the
    reply's names are spelled so; `adds` is what else it says.
    """

    path: str
    client_auth: Literal["basic", "body"] = "body"
    body: Literal["form", "json"] = "form"
    rotates: bool = True
    seconds: float = 3600
    extra: Mapping[str, str] = field(default_factory=dict)
    camel_case: bool = False
    adds: Mapping[str, Any] = field(default_factory=dict)


Kind = Literal[
    "status",
    "reset",
    "cut",
    "hang",
    "drip",
    "html",
    "empty",
    "truncated",
    "wrong_type",
    "huge",
    "redirect",
    "rate_limit",
]


@dataclass(frozen=True)
class Fault:
    """One way in which an answer goes wrong: it hits the `at`-th matching request from now on, `repeat` times in a row.

    `cut`, `drip` and `truncated` spoil the real answer, so the provider has acted. The others answer in its place:
    the provider acts first only where `after` says so ("502 after commit").

    - `status`: `status`, `headers` and `body` as given. - `reset`: RST, no answer. - `hang`: no answer for `seconds`.
    - `cut`: the connection closes halfway through the body. - `drip`: a byte every `every` seconds, for `seconds`.
    - `html`: 200 with a page. - `empty`: 200, no body. - `truncated`: whole answer, but its JSON stops halfway.
    - `wrong_type`: 200, a JSON list (or `body`). - `huge`: 200, JSON of `size` bytes. - `redirect`: 302 to `location`.
    - `rate_limit`: the provider's own 429, with `retry_after` seconds or, if None, without that header.
    """

    kind: Kind
    at: int = 1
    method: str | None = None
    path: str | None = None
    """A shell pattern over the whole path: `/api/v1/status/*`."""
    after: bool = False
    status: int = 500
    headers: Mapping[str, str] | None = None
    body: Any = None
    repeat: int = 1
    seconds: float = 30.0
    every: float = 0.05
    size: int = 16 * 1024 * 1024
    location: str = "/elsewhere"
    retry_after: int | None = 1

    @property
    def acts(self) -> bool:
        """Whether the provider carries the request out."""
        return self.after or self.kind in ("cut", "drip", "truncated")

    def matches(self, request: Received) -> bool:
        return self.method in (None, request.method) and (self.path is None or fnmatchcase(request.path, self.path))


@dataclass
class _Armed:
    fault: Fault
    seen: int = 0

    @property
    def spent(self) -> bool:
        return self.seen >= self.fault.at + self.fault.repeat - 1

    def hits(self, request: Received) -> bool:
        if self.spent or not self.fault.matches(request):
            return False
        self.seen += 1
        return self.seen >= self.fault.at


def route(method: str, template: str) -> Callable[[H], H]:
    """Serve `method` on a path with `{placeholders}`, which arrive decoded, as keyword arguments."""

    def mark(function: H) -> H:
        function.__dict__.setdefault("routes", []).append((method, template))
        return function

    return mark


def closed_port() -> str:
    """A loopback origin on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


class Simulator(ABC):
    """One provider on loopback. Settings are keywords: those of the class (`settings`) and the two below."""

    name: ClassVar[str]
    demo_account_id: ClassVar[str]
    demo_account: ClassVar[Account]
    accounts: ClassVar[tuple[Account, ...]] = ()
    """Further accounts with other kinds of credential that the provider takes as well."""
    worlds: ClassVar[tuple[dict[str, object], ...]] = ({},)
    """The settings under which the contract suite runs this provider."""
    settings: ClassVar[dict[str, Any]] = {}
    """What a world may set, with its defaults."""
    tokens: ClassVar[Tokens | None] = None
    """Where it gives OAuth 2 access tokens, if it does."""
    held: ClassVar[str] = "pipelines"
    """Under which key the state has the pipelines."""
    times: ClassVar[frozenset[str]] = frozenset()
    """Names of the fields that the provider's clock fills."""
    _routes: ClassVar[tuple[tuple[str, re.Pattern[str], str], ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # None for what ABC sets only when the class is made.
        found = {name: getattr(cls, name, None) for base in reversed(cls.__mro__) for name in vars(base)}
        cls._routes = tuple(
            (method, re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(template))), name)
            for name, function in found.items()
            for method, template in getattr(function, "routes", ())
        )

    def __init__(self, host: str = "127.0.0.1", port: int = 0, **world: Any) -> None:
        """`rate_limit` requests in `rate_window` seconds are answered, more are refused; None is no limit.

        `token_seconds` is how long access tokens live, None as long as the provider says.
        """
        known = {"rate_limit": None, "rate_window": 10.0, "token_seconds": None, **self.settings}
        if stray := sorted(world.keys() - known):
            raise TypeError(f"{type(self).__name__} has no setting {', '.join(stray)}; it has {', '.join(known)}")
        self.world: dict[str, Any] = {**known, **world}
        self.clock: Callable[[], float] = time.monotonic
        self.random = random.Random(self.name)
        self.numbers = count(1)
        self._address = (host, port)
        self._lock = threading.RLock()
        self._server: _Server | None = None
        self.reset()

    # Lifetime

    def start(self) -> Self:
        self._server = _Server(self, self._address)
        return self

    def stop(self) -> None:
        """Close every connection and join every thread; twice is once."""
        server, self._server = self._server, None
        if server:
            server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The origin, such as `http://127.0.0.1:41234`."""
        if not self._server:
            raise RuntimeError(f"{type(self).__name__} is not started")
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def reset(self) -> None:
        """Forget everything: state, requests, faults, the rate limit's count, tokens."""
        with self._lock:
            grants = [account["credentials"] for account in (self.demo_account, *self.accounts)]
            grants = [each for each in grants if each["type"] == "oauth2"]
            self._access = {each["access_token"]: float("inf") for each in grants}
            self._refresh = {each["refresh_token"]: each for each in grants}
            self._refreshes = 0
            self.state: dict[str, Any] = self.fresh()
            self._received: list[Received] = []
            self._armed: list[_Armed] = []
            self._window = (float("-inf"), 0)

    # What tests see

    @property
    def received(self) -> list[Received]:
        """All requests in order, refused ones too."""
        with self._lock:
            return list(self._received)

    def snapshot(self, times: bool = True) -> dict[str, Any]:
        """A deep copy of the provider's whole state, JSON-able; without the fields of its clock if not `times`."""
        with self._lock:
            state: dict[str, Any] = copy.deepcopy(self.state)
        return state if times else _without(state, self.times)

    def pipelines(self, entity: str | None = None) -> list[dict[str, Any]]:
        """`[{id, name, stages: [{id, name, status}]}]` in the provider's order, `status` in the unified words."""
        with self._lock:
            return self.view(entity)

    def seed(
        self,
        name: str,
        stages: Iterable[Stage] = (),
        *,
        entity: str | None = None,
        remote: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Put a pipeline there without a request; returns it as `pipelines` shows it.

        A stage is a name, or `{"name", "status"?, "records"?: how many deals sit on it, "remote"?: provider fields}`;
        `remote` holds fields of the provider's own, written over what the simulator would store.
        """
        wanted = [{"name": stage} if isinstance(stage, str) else dict(stage) for stage in stages]
        with self._lock:
            pipeline_id = self.plant(name, wanted, entity, dict(remote or {}))
            return next(pipeline for pipeline in self.view(entity) if pipeline["id"] == pipeline_id)

    def occupy(self, stage_id: str, records: int = 1, *, pipeline_id: str = "", entity: str | None = None) -> None:
        """Put that many deals on a stage. `pipeline_id` matters only where stage ids repeat across pipelines."""
        with self._lock:
            self.fill(stage_id, records, pipeline_id, entity)

    def fault(self, *faults: Fault) -> None:
        """Queue faults. Each counts from now; where two hit one request, the one queued first does."""
        with self._lock:
            self._armed += [_Armed(fault) for fault in faults]

    @property
    def pending(self) -> list[Fault]:
        """The faults that have not hit as often as they shall."""
        with self._lock:
            return [armed.fault for armed in self._armed if not armed.spent]

    def clear_faults(self) -> None:
        with self._lock:
            self._armed.clear()

    @property
    def refreshes(self) -> int:
        """How often an access token was given for a refresh token."""
        with self._lock:
            return self._refreshes

    def expire_tokens(self) -> None:
        """Let every access token run out now."""
        with self._lock:
            self._access = dict.fromkeys(self._access, float("-inf"))

    def revoke_tokens(self) -> None:
        """Let no refresh token be good any more."""
        with self._lock:
            self._refresh.clear()

    @classmethod
    def authorization(cls, account: Account) -> dict[str, str]:
        """The headers that carry an account's credentials: HTTP Basic for a key, else a bearer token."""
        match account["credentials"]:
            case {"type": "api_key", "api_key": key}:
                return {"Authorization": f"Basic {b64encode(f'{key}:'.encode()).decode()}"}
            case {"type": "bearer", "token": token} | {"type": "oauth2", "access_token": token}:
                return {"Authorization": f"Bearer {token}"}
        raise ValueError("a credential of another kind")

    @classmethod
    def secrets(cls) -> set[str]:
        """The secret strings of all accounts."""
        public = ("type", "expires_at", "client_id")
        return {
            value
            for account in (cls.demo_account, *cls.accounts)
            for key, value in account["credentials"].items()
            if key not in public
        }

    # What a provider fills in

    @abstractmethod
    def fresh(self) -> dict[str, Any]:
        """The state at the start, JSON-able. Called whenever everything is forgotten."""

    @abstractmethod
    def view(self, entity: str | None) -> list[dict[str, Any]]:
        """See `pipelines`."""

    @abstractmethod
    def plant(self, name: str, stages: list[dict[str, Any]], entity: str | None, remote: dict[str, Any]) -> str:
        """See `seed`; returns the new pipeline's id."""

    @abstractmethod
    def fill(self, stage_id: str, records: int, pipeline_id: str, entity: str | None) -> None:
        """See `occupy`."""

    @abstractmethod
    def admit(self, request: Received) -> None:
        """Raise `Refused` for a request that gets no further: credential, content type, required headers."""

    @abstractmethod
    def no_route(self, request: Received, allowed: tuple[str, ...]) -> Reply:
        """No such path, or, where there are `allowed` methods, no such method on it."""

    @abstractmethod
    def too_many(self, retry_after: int | None) -> Reply:
        """The provider's 429."""

    def rate_headers(self, limit: int, remaining: int, reset: float) -> dict[str, str]:  # noqa: ARG002
        """Headers on every answer while there is a rate limit; `reset` in seconds from now."""
        return {}

    # Helpers for providers

    def now(self) -> datetime:
        return datetime.now(UTC)

    def letters(
        self, length: int, alphabet: str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    ) -> str:
        """A random id, the same ones in the same order in every run."""
        return "".join(self.random.choices(alphabet, k=length))

    def knows(self, token: str | None) -> bool:
        """Whether it is an access token of OAuth 2, good or run out."""
        return token in self._access

    def expired(self, token: str | None) -> bool:
        """Whether it is an access token that has run out."""
        return self._access.get(str(token), float("inf")) <= self.clock()

    def _give_token(self, request: Received, tokens: Tokens) -> Reply:
        """A new access token for a refresh token (RFC 6749, section 6), or the refusal of section 5.2."""
        sent = self._token_fields(request, tokens)
        grant = self._refresh.get(sent.get("refresh_token", ""))
        # Whose client it is can be told only by the grant; a stranger's is refused by its id.
        clients = [grant] if grant else [account["credentials"] for account in self.accounts]
        asking = request.basic if tokens.client_auth == "basic" else (sent.get("client_id"), sent.get("client_secret"))
        if asking not in [(each.get("client_id"), each.get("client_secret")) for each in clients]:
            raise _no_token("invalid_client", 401)
        if sent.get("grant_type") != "refresh_token":
            raise _no_token("unsupported_grant_type")
        if any(sent.get(name) != value for name, value in tokens.extra.items()):
            raise _no_token("invalid_request")
        if grant is None:
            raise _no_token("invalid_grant")
        self._refreshes += 1
        refresh = sent["refresh_token"]
        if tokens.rotates:
            del self._refresh[refresh]
            refresh = f"{self.name}-refresh-token-{uuid4().hex}"
            self._refresh[refresh] = grant
        access = f"{self.name}-access-token-{uuid4().hex}"
        seconds = tokens.seconds if self.world["token_seconds"] is None else self.world["token_seconds"]
        self._access[access] = self.clock() + seconds
        said = {"access_token": access, "refresh_token": refresh, "expires_in": seconds, "token_type": "bearer"}
        if tokens.camel_case:
            said = {re.sub("_(.)", lambda letter: letter[1].upper(), name): value for name, value in said.items()}
        return Reply(200, {**said, **tokens.adds}, {"Cache-Control": "no-store"})

    def _token_fields(self, request: Received, tokens: Tokens) -> dict[str, str]:
        """What the body says. A query string is refused, as it would end up in somebody's log."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if request.method != "POST":
            raise Refused(Reply(405, {"error": "invalid_request"}, {"Allow": "POST"}))
        if request.raw_query or kind != (JSON if tokens.body == "json" else "application/x-www-form-urlencoded"):
            raise _no_token("invalid_request")
        if tokens.body == "form":
            fields = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
        else:
            fields = request.json if isinstance(request.json, dict) else {}
        twice = "client_secret" in fields if tokens.client_auth == "basic" else "authorization" in request.headers
        if twice or not fields:
            raise _no_token("invalid_request")
        return fields

    # The way of a request

    def handle(self, request: Received) -> tuple[Fault | None, Reply]:
        """What to answer, and the fault that keeps the answer from being a good one."""
        with self._lock:
            self._received.append(request)
            hit = [armed.fault for armed in self._armed if armed.hits(request)]
            fault = hit[0] if hit else None
            real = Reply(200) if fault and not fault.acts else self._respond(request)
            return fault, self._spoil(fault, real) if fault else real

    def _respond(self, request: Received) -> Reply:
        extra: dict[str, str] = {}
        try:
            if self.tokens and request.path == self.tokens.path:
                reply = self._give_token(request, self.tokens)
                return Reply(reply.status, reply.payload, reply.headers)
            self.admit(request)
            if limit := self.world["rate_limit"]:
                extra = self._count(limit)
            reply = self._dispatch(request)
        except Refused as refused:
            reply = refused.reply
        # Written out here, under the lock: a body may hold live state.
        return Reply(reply.status, reply.payload or None, {**extra, **reply.headers}, reply.content_type)

    def _count(self, limit: int) -> dict[str, str]:
        start, used = self._window
        if self.clock() - start >= self.world["rate_window"]:
            start, used = self.clock(), 0
        self._window = (start, used + 1)
        reset = max(0.0, start + self.world["rate_window"] - self.clock())
        headers = self.rate_headers(limit, max(0, limit - used - 1), reset)
        if used >= limit:
            refusal = self.too_many(max(1, -int(-reset // 1)))
            raise Refused(Reply(refusal.status, refusal.body, {**headers, **refusal.headers}, refusal.content_type))
        return headers

    def _dispatch(self, request: Received) -> Reply:
        found = [
            (method, match, name) for method, path, name in self._routes if (match := path.fullmatch(request.path))
        ]
        for method, match, name in found:
            if method == request.method:
                values = {key: unquote(value) for key, value in match.groupdict().items()}
                reply: Reply = getattr(self, name)(request, **values)
                return reply
        return self.no_route(request, tuple(sorted({method for method, _, _ in found})))

    def _spoil(self, fault: Fault, real: Reply) -> Reply:
        given = fault.headers or {}
        match fault.kind:
            case "status":
                body = fault.body.encode() if isinstance(fault.body, str) else fault.body
                return Reply(fault.status, body, given)
            case "html":
                return Reply(200, PAGE, given, HTML)
            case "empty":
                return Reply(200, None, given)
            case "truncated":
                whole = real.payload
                status = real.status if whole else 200  # a 204 has no body to cut short
                return Reply(status, whole[: len(whole) // 2] or b'{"', {**real.headers, **given})
            case "wrong_type":
                return Reply(200, [1, "two", None] if fault.body is None else fault.body, given)
            case "huge":
                frame = b'{"data": ""}'
                return Reply(200, frame[:-2] + b"x" * (fault.size - len(frame)) + frame[-2:], given)
            case "redirect":
                return Reply(302, None, {"Location": fault.location, **given})
            case "rate_limit":
                reply = self.too_many(fault.retry_after)
                return Reply(reply.status, reply.body if fault.body is None else fault.body, {**reply.headers, **given})
        return real


def _no_token(error: str, status: int = 400) -> Refused:
    return Refused(Reply(status, {"error": error, "error_description": f"No token: {error.replace('_', ' ')}."}))


def _without(value: Any, keys: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, keys) for key, item in value.items() if key not in keys}
    return [_without(item, keys) for item in value] if isinstance(value, list) else value


class _Server(socketserver.ThreadingTCPServer):
    """Knows its connections and their threads, so that stopping leaves neither behind."""

    allow_reuse_address = True
    request_queue_size = 128
    timeout = 0.1

    def __init__(self, simulator: Simulator, address: tuple[str, int]) -> None:
        super().__init__(address, _Exchange)
        self.simulator = simulator
        self.stopping = threading.Event()
        self._guard = threading.Lock()
        self._live: dict[threading.Thread, socket.socket] = {}
        self._wake, self._alarm = socket.socketpair()
        self._loop = threading.Thread(target=self._accept, name=f"{simulator.name} simulator", daemon=True)
        self._loop.start()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self, selectors.EVENT_READ)
            ready.register(self._wake, selectors.EVENT_READ)
            while not self.stopping.is_set():
                if any(key.fileobj is self for key, _ in ready.select()):
                    self.handle_request()

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._guard:
            self._live[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._guard:
                del self._live[threading.current_thread()]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that went away is no news
            super().handle_error(request, client_address)

    def stop(self) -> None:
        self.stopping.set()
        self._alarm.send(b"!")
        self._loop.join()
        with self._guard:
            live = dict(self._live)
        for connection in live.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in live:
            thread.join()
        self.server_close()
        self._wake.close()
        self._alarm.close()


class _Exchange(BaseHTTPRequestHandler):
    """One connection: reads requests, lets the simulator answer, and breaks off where a fault says so."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _exchange(self) -> None:
        fault, reply = self.server.simulator.handle(self._read())
        kind = fault.kind if fault else None
        if fault and kind == "reset":
            self._reset()
        elif fault and kind == "hang":
            self.server.stopping.wait(fault.seconds)
            self.close_connection = True
        else:
            head, body = self._write(reply)
            if kind == "cut":
                sent = head + body[: len(body) // 2] if body else head[: len(head) // 2]
                self.connection.sendall(sent)
                self.close_connection = True
            elif fault and kind == "drip":
                self._drip(head + body, fault)
            else:
                self.connection.sendall(head + body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _exchange  # noqa: N815

    def _read(self) -> Received:
        body = self._body()
        path, _, query = self.requestline.split(" ")[1].partition("?")
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        parsed, malformed = None, False
        if body:
            try:
                parsed = json.loads(body, parse_constant=_no_constant)
            except (ValueError, RecursionError):
                malformed = True
        pairs = parse_qsl(query, keep_blank_values=True)
        return Received(self.command, path, pairs, query, headers, body, parsed, malformed)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _write(self, reply: Reply) -> tuple[bytes, bytes]:
        """Head and body, to leave in one piece: two writes on one connection wait for each other's acknowledgement."""
        body = reply.payload
        headers = {"Date": formatdate(usegmt=True)}
        if reply.status >= 200 and reply.status not in (204, 304):
            headers["Content-Length"] = str(len(body))
        if body:
            headers["Content-Type"] = reply.content_type
        headers |= reply.headers
        try:
            phrase = HTTPStatus(reply.status).phrase
        except ValueError:  # providers make up statuses of their own
            phrase = "Unknown"
        lines = [
            f"{self.protocol_version} {reply.status} {phrase}",
            *(f"{key}: {value}" for key, value in headers.items()),
        ]
        return "\r\n".join((*lines, "", "")).encode("latin-1"), b"" if self.command == "HEAD" else body

    def _drip(self, answer: bytes, fault: Fault) -> None:
        end = time.monotonic() + fault.seconds
        for byte in answer:
            self.connection.sendall(bytes((byte,)))
            if time.monotonic() >= end or self.server.stopping.wait(fault.every):
                self.close_connection = True
                return

    def _reset(self) -> None:
        # Closing with a linger time of zero sends RST instead of FIN. The socket's number is taken away first, because
        # an orderly shutdown by the server would come before.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Quiet: `received` tells more."""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
