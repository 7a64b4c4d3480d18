"""The one place that sends bytes: pooled connections, deadlines that hold, redaction.

Nothing is sent a second time here, no redirect is followed, and what comes back is bounded in size and time. A fault
of the network becomes a `ProviderError` that says whether the provider may have acted.
"""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit

from urllib3 import HTTPResponse, exceptions
from urllib3.util import Retry, Timeout

from unified_crm.connections import MAX_REPLY_BYTES, Pools, Whole
from unified_crm.deadline import Deadline
from unified_crm.errors import ProviderBadReply, ProviderError, ProviderTimeout, ProviderUnreachable
from unified_crm.pace import Pace
from unified_crm.provider import Reply, Request

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
_CHUNK_BYTES = 256 * 1024
_REDACTED = b"[redacted]"
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_NEVER = Retry(False, redirect=False)
_REMEMBERED = 1000


class Exchange(NamedTuple):
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
        self.base_url = base_url
        scheme, netloc, self._path, *_ = urlsplit(base_url)
        self._origin = f"{scheme}://{netloc}"
        self._credential_headers = tuple(credentials)
        self._headers = {"accept": "application/json", "user-agent": "unified-crm", **(headers or {}), **credentials}
        self.pace = pace
        self._redactions, self._marks, self._hides = _redactions(tuple(secrets))
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
            target = self.base_url.removeprefix(self._origin)
            reply = self._exchange("POST", target, headers, body.encode(), deadline)
            return reply if reply.status < 300 else _with(reply, self._redact(reply.body))

        return self._observed("POST", self._path, exchange)

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
            self._origin + self._target(request),
        )
        return {"method": request.method, "url": url, "headers": shown, "body": _body(request)}

    def _target(self, request: Request) -> str:
        query = urlencode(request.query, quote_via=quote) if request.query else ""
        return self._path + request.path + (f"?{query}" if query else "")

    def _send(self, request: Request, deadline: Deadline) -> Reply:
        with self.pace.turn(deadline, self._label) if self.pace else nullcontext():
            return self._send_now(request, deadline)

    def _send_now(self, request: Request, deadline: Deadline) -> Reply:
        headers, body = self._headers, None
        if request.json is not None:
            headers = {**headers, "content-type": "application/json"}
            body = _ENCODER.encode(_body(request)).encode()
        reply = self._exchange(request.method, self._target(request), headers, body, deadline)
        content = self._redact(reply.body)
        return reply if content is reply.body else _with(reply, content)

    def _exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, deadline: Deadline
    ) -> Reply:
        """The reply as it came: credentials that it echoes are in it still."""
        left = deadline.left()
        if left <= 0:
            raise ProviderTimeout(f"There was no time left to call {self._label}.", may_have_acted=False)
        try:
            response: Any = _POOLS.at(self._origin).urlopen(
                method,
                target or "/",
                body=body,
                headers=headers,
                redirect=False,
                retries=_NEVER,
                assert_same_host=False,
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
        headers = (
            response.headers
            if isinstance(response, Whole)
            else {name.lower(): value for name, value in response.headers.items()}
        )
        return Reply(response.status, headers, content)

    def _read(self, response: HTTPResponse | Whole) -> bytes:
        if isinstance(response, Whole):
            response.release_conn()
            return response.content
        chunks, size = [], 0
        try:
            for chunk in response.stream(_CHUNK_BYTES):
                size += len(chunk)
                if size > MAX_REPLY_BYTES:
                    raise ProviderBadReply(f"{self._label}'s answer is larger than {MAX_REPLY_BYTES} bytes.")
                chunks.append(chunk)
        except BaseException as error:
            response.close()
            if isinstance(error, ValueError):  # urllib3's own, at a chunk of less than nothing
                raise exceptions.InvalidChunkLength(response, b"") from error
            raise
        response.release_conn()
        return b"".join(chunks)

    def _redact(self, content: bytes) -> bytes:
        """`content` without the account's secrets, also where JSON escapes or another encoding hide them.

        What is in UTF-16 or UTF-32 becomes UTF-8.
        """
        if b"\0" in content and (encoding := json.detect_encoding(content)) != "utf-8":
            content = content.decode(encoding, "replace").encode()
        if any(mark in content for mark in self._marks):
            for secret in self._redactions:
                content = content.replace(secret, _REDACTED)
        if b"\\" not in content or not self._hides(content):
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


def _with(reply: Reply, body: bytes) -> Reply:
    return Reply(reply.status, reply.headers, body)


def _body(request: Request) -> Any:
    return [request.json] if request.as_list and request.json is not None else request.json


_Redactions = tuple[tuple[bytes, ...], tuple[bytes, ...], Callable[[bytes], Any]]
_ESCAPED = re.compile(rb'\\(?:["\\/bfnrt]|u00[0-7])')
"""JSON's escapes that can stand for a letter of ASCII: every one but those of other letters."""


@lru_cache(_REMEMBERED)
def _redactions(secrets: tuple[str, ...]) -> _Redactions:
    """The bytes by which a reply could hold a secret: as it is, as JSON, a URL or HTTP Basic writes it.

    With them go marks, of which one is in each of these, so that a reply without any need not be looked through for
    all; and a search for what could hide them in a JSON text. Texts under six letters are no secrets, and to take them
    out would spoil every reply.
    """
    found: set[bytes] = set()
    marks: set[bytes] = set()
    for secret in secrets:
        if len(secret) < 6:
            continue
        plain = {secret.encode(), json.dumps(secret)[1:-1].encode(), quote(secret, safe="").encode()}
        packed = b64encode(secret.encode())
        basic = b64encode(f"{secret}:".encode())
        found |= {*plain, packed, basic, basic.rstrip(b"=")}
        # What base64 makes of whole threes of letters stays as it is, whatever follows.
        marks |= {*plain, packed[: len(secret.encode()) // 3 * 4]}
    hides = _ESCAPED.search if all(each.isascii() for each in found) else re.compile(rb"\\").search
    return tuple(sorted(found, key=len, reverse=True)), tuple(marks), hides


_POOLS = Pools()


def forget() -> None:
    """Close every connection that is not in use, and forget every secret: this process is another than it was."""
    _POOLS.clear()
    _redactions.cache_clear()
