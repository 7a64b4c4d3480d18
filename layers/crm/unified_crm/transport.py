"""The one place that sends bytes: one connection pool, deadlines that hold, redaction.

Nothing is sent a second time here, no redirect is followed, and what comes back is bounded in size and time. A fault
of the network becomes a `ProviderError` that says whether the provider may have acted.
"""

from __future__ import annotations

import io
import json
import re
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import Timeout

from unified_crm.deadline import Deadline
from unified_crm.errors import ProviderBadReply, ProviderError, ProviderTimeout, ProviderUnreachable
from unified_crm.pace import Pace
from unified_crm.provider import Reply, Request

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
MAX_REPLY_BYTES = 48 * 1024 * 1024
"""A thousand pipelines of a hundred stages are some 26 MB at HubSpot; a page of them is what goes on to the caller."""
_CHUNK_BYTES = 256 * 1024
_REDACTED = b"[redacted]"


@dataclass(frozen=True)
class Exchange:
    """What is known of one call when it has ended: for logs and metrics. `status` is None where no answer came."""

    method: str
    path: str
    status: int | None
    seconds: float
    error: str | None


Observe = Callable[[Exchange], None]


class Transport:
    """Sends the requests of one account to its provider's origin.

    `credentials` are the headers that carry them, `headers` what goes along beside; `secrets` are the texts that must
    never come back out of a reply. `pace` is how fast calls may follow each other.
    """

    def __init__(
        self,
        base_url: str,
        credentials: Mapping[str, str],
        secrets: Iterable[str],
        label: str,
        observe: Observe = lambda _: None,
        *,
        headers: Mapping[str, str] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._base_url = base_url
        self._credential_headers = tuple(credentials)
        self._headers = {"accept": "application/json", "user-agent": "unified-crm", **(headers or {}), **credentials}
        self.pace = pace
        self._redactions = _redactions(secrets)
        self._label = label
        self._observe = observe

    def send(self, request: Request, deadline: Deadline) -> Reply:
        """Send `request` once and give the whole reply, whatever its status. Raises ProviderError."""
        return self._observed(request.method, request.path, lambda: self._send(request, deadline))

    def post(self, fields: Mapping[str, str], deadline: Deadline, *, form: bool) -> Reply:
        """Send `fields` to the base URL itself, once, as a form or as JSON. Raises ProviderError.

        For tokens: a reply of success comes as it is, since the secrets that it holds may be those that went out.
        """
        kind, body = "application/json", json.dumps(fields, separators=(",", ":"))
        if form:
            kind, body = "application/x-www-form-urlencoded", urlencode(fields)
        headers = {**self._headers, "content-type": kind}

        def exchange() -> Reply:
            reply = self._exchange("POST", self._base_url, headers, body.encode(), deadline)
            return reply if reply.status < 300 else replace(reply, body=self._redact(reply.body))

        return self._observed("POST", urlsplit(self._base_url).path, exchange)

    def _observed(self, method: str, path: str, exchange: Callable[[], Reply]) -> Reply:
        started = monotonic()
        status, error = None, None
        try:
            reply = exchange()
            status = reply.status
        except ProviderError as failure:
            error = failure.code
            raise
        finally:
            self._observe(Exchange(method, path, status, monotonic() - started, error))
        return reply

    def describe(self, request: Request) -> dict[str, Any]:
        """What `send` would send, for people: the credentials are left out."""
        shown = {**self._headers, **dict.fromkeys(self._credential_headers, "[redacted]")}
        if request.json is not None:
            shown["content-type"] = "application/json"
        url = re.sub(
            "%7B(id%20of%20step%20[0-9]+(?:%2C%20stage%20[0-9]+)?)%7D",
            lambda found: "{" + unquote(found[1]) + "}",
            self._url(request),
        )
        return {"method": request.method, "url": url, "headers": shown, "body": _body(request)}

    def _url(self, request: Request) -> str:
        query = urlencode(request.query, quote_via=quote)
        return self._base_url + request.path + (f"?{query}" if query else "")

    def _send(self, request: Request, deadline: Deadline) -> Reply:
        with self.pace.turn(deadline, self._label) if self.pace else nullcontext():
            return self._send_now(request, deadline)

    def _send_now(self, request: Request, deadline: Deadline) -> Reply:
        headers, body = self._headers, None
        if request.json is not None:
            headers = {**headers, "content-type": "application/json"}
            body = json.dumps(_body(request), separators=(",", ":"), allow_nan=False).encode()
        reply = self._exchange(request.method, self._url(request), headers, body, deadline)
        return replace(reply, body=self._redact(reply.body))

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, deadline: Deadline
    ) -> Reply:
        """The reply as it came: credentials that it echoes are in it still."""
        left = deadline.left()
        if left <= 0:
            raise ProviderTimeout(f"There was no time left to call {self._label}.", may_have_acted=False)
        try:
            response = _POOL.urlopen(
                method,
                url,
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=Timeout(connect=min(CONNECT_SECONDS, left), read=min(READ_SECONDS, left), total=left),
            )
            content = self._read(response)
        except exceptions.HTTPError as error:
            raise self._explain(error) from error
        if response.status < 200:
            raise ProviderBadReply(f"{self._label} answered {response.status}, which is no final answer.")
        if 300 <= response.status < 400:
            raise ProviderBadReply(
                f"{self._label} answered with a redirect ({response.status}), which is not followed.",
                may_have_acted=False,
            )
        return Reply(response.status, {name.lower(): value for name, value in response.headers.items()}, content)

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        chunks, size = [], 0
        try:
            for chunk in response.stream(_CHUNK_BYTES):
                size += len(chunk)
                if size > MAX_REPLY_BYTES:
                    raise ProviderBadReply(f"{self._label}'s answer is larger than {MAX_REPLY_BYTES} bytes.")
                chunks.append(chunk)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return b"".join(chunks)

    def _redact(self, content: bytes) -> bytes:
        """`content` without the account's secrets, also where JSON escapes hide them."""
        for secret in self._redactions:
            content = content.replace(secret, _REDACTED)
        if b"\\" not in content:
            return content
        try:
            plain = json.dumps(json.loads(content), ensure_ascii=False).encode("utf-8", "surrogatepass")
        except (ValueError, RecursionError):
            return content
        # Written again only where a secret showed: a reply goes on as it came.
        if not any(secret in plain for secret in self._redactions):
            return content
        for secret in self._redactions:
            plain = plain.replace(secret, _REDACTED)
        return plain

    def _explain(self, error: exceptions.HTTPError) -> ProviderError:
        before_sending = (
            exceptions.ConnectTimeoutError,
            exceptions.NewConnectionError,
            exceptions.LocationValueError,
            exceptions.URLSchemeUnknown,
        )
        if isinstance(error, before_sending):
            return ProviderUnreachable(f"{self._label} could not be reached; nothing was sent.")
        if isinstance(error, exceptions.ReadTimeoutError):
            return ProviderTimeout(f"{self._label} did not answer in time.")
        return ProviderBadReply(f"{self._label} closed the connection before its answer was complete.")


def _body(request: Request) -> Any:
    return [request.json] if request.as_list and request.json is not None else request.json


def _redactions(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """The bytes by which a reply could hold a secret: as it is, as JSON, a URL or HTTP Basic writes it.

    Texts under six letters are no secrets, and to take them out would spoil every reply.
    """
    found: set[bytes] = set()
    for secret in secrets:
        if len(secret) < 6:
            continue
        basic = b64encode(f"{secret}:".encode())
        found |= {
            secret.encode(),
            json.dumps(secret)[1:-1].encode(),
            quote(secret, safe="").encode(),
            b64encode(secret.encode()),
            basic,
            basic.rstrip(b"="),
        }
    return tuple(sorted(found, key=len, reverse=True))


class _TimedReader(io.RawIOBase):
    """Reads from a socket until a moment, however slowly the bytes come."""

    def __init__(self, sock: _TimedSocket) -> None:
        super().__init__()
        self._sock = sock
        self._raw = sock.sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.await_turn()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """A socket whose `settimeout` sets when reading must be over, where a socket's own bounds each single read.

    urllib3 sets it once before it waits for an answer. Without this, a provider that sends a byte every few seconds
    keeps a function until Lambda kills it, and then nobody is told anything.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._end: float | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def settimeout(self, seconds: float | None) -> None:
        self._end = None if seconds is None else monotonic() + seconds
        self.sock.settimeout(seconds)

    def await_turn(self) -> None:
        if self._end is not None:
            left = self._end - monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self.sock.settimeout(left)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self))


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = _TimedSocket(self.sock)


class _TlsConnection(HTTPSConnection):
    def connect(self) -> None:
        try:
            super().connect()
        except OSError as error:  # a handshake that fails or hangs: before the request, unlike the same error later
            raise exceptions.NewConnectionError(self, f"TLS handshake failed: {error}") from error
        self.sock = _TimedSocket(self.sock)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def _new_pool() -> urllib3.PoolManager:
    pool = urllib3.PoolManager(
        num_pools=20, maxsize=20, cert_reqs="CERT_REQUIRED", ssl_minimum_version=ssl.TLSVersion.TLSv1_2
    )
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return pool


_POOL = _new_pool()
