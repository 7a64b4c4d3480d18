"""Connections to providers: urllib3's, with deadlines that hold, and a short way for what is plain.

In a round trip to this machine, what urllib3 and http.client do for a request and its answer takes five times as long
as the exchange itself. So a request is one write, and an answer that leaves nothing open (a plain head, a length or
plain chunks, no encoding) is read without parsing it as an e-mail. Whatever is not plain is left to http.client; a test
compares what comes of both.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from time import monotonic
from typing import Any

from urllib3 import HTTPHeaderDict, HTTPResponse, exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import parse_url
from urllib3.util.ssl_ import create_urllib3_context

MAX_REPLY_BYTES = 48 * 1024 * 1024
"""A thousand pipelines of a hundred stages are some 26 MB at HubSpot; a page of them is what goes on to the caller."""
_FIRST_BYTES = 32 * 1024
_MORE_BYTES = 256 * 1024
_MOST_IN_CHUNKS = 4 * 1024 * 1024
"""What is longer is read chunk by chunk by http.client, which holds it once less."""
_ORIGINS = _CONNECTIONS = 20


class _TimedReader(io.RawIOBase):
    """Reads from a socket until a moment, however slowly the bytes come."""

    def __init__(self, sock: _TimedSocket) -> None:
        super().__init__()
        self._sock = sock
        self._raw = sock.sock.makefile("rb", buffering=0)  # keeps the socket open as long as it is read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if first := self._sock.given_back[: len(buffer)]:
            self._sock.given_back = self._sock.given_back[len(first) :]
            buffer[: len(first)] = first
            return len(first)
        self._sock.await_turn()
        return self._sock.sock.recv_into(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """A socket whose `settimeout` sets when reading must be over, where a socket's own bounds each single read.

    urllib3 sets it once before it waits for an answer. Without this, a provider that sends a byte every few seconds
    keeps a function until Lambda kills it, and then nobody is told anything. `given_back` is what was received and is
    to be read again, by whoever makes a file of the socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.given_back = b""
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

    def recv(self, size: int) -> bytes:
        self.await_turn()
        return self.sock.recv(size)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self))


class Whole:
    """An answer that was read whole along with its head, whose names are in lower case.

    It has what urllib3's pool looks at in a response. Its own class is for a body that is still to be read, and takes
    as long to make as the head takes to read.
    """

    version_string, length_remaining, retries = "HTTP/1.1", 0, None
    _pool: HTTPConnectionPool
    _connection: HTTPConnection

    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.status, self.headers, self.content = status, headers, content

    def release_conn(self) -> None:
        """Another request may have the connection, to which `urlopen` gave it."""
        self._pool._put_conn(self._connection)


_PLAIN_HEAD = re.compile(rb"HTTP/1\.1 ([2-9][0-9]{2})(?: [ -~]*)?\r\n((?:[A-Za-z0-9-]+:[\t -~]*\r\n)*)\r\n")
_FOLD = re.compile(r"(?:(?<![ \t])[ \t]+)?\r?\n[ \t]+")
"""Where a header goes on in another line: a blank, says RFC 9112, 5.2."""
_FRAMING = ("content-length", "transfer-encoding", "content-encoding", "connection")


def _plain_head(start: bytes) -> tuple[int, dict[str, str], int, int | None] | None:
    """Of an answer that begins with `start`: its status, its headers, where its body begins and how long that is, None
    where it comes in chunks.

    None as a whole where that leaves anything open: a head that is not all there, or not plain; a body without a
    length, or packed; a connection that ends. http.client reads those.
    """
    found = _PLAIN_HEAD.match(start)
    if found is None:
        return None
    status = int(found[1])
    lines = [line.partition(":") for line in found[2].decode("ascii").split("\r\n")[:-1]]
    headers = {name.lower(): value.strip(" \t") for name, _, value in lines}
    if len(headers) < len(lines):
        names = [name.lower() for name, _, _ in lines]
        if any(names.count(name) > 1 for name in _FRAMING):
            return None
    if (
        status == 304
        or "content-encoding" in headers
        or headers.get("connection", "keep-alive").lower() != "keep-alive"
    ):
        return None
    if "transfer-encoding" in headers:
        alone = status != 204 and "content-length" not in headers
        return (status, headers, found.end(), None) if alone and headers["transfer-encoding"] == "chunked" else None
    length = "0" if status == 204 else headers.get("content-length", "")
    if not re.fullmatch("[0-9]{1,8}", length) or int(length) > MAX_REPLY_BYTES:
        return None
    return status, headers, found.end(), int(length)


class _Connection(HTTPConnection):
    """Writes a request at once, and reads a plain answer."""

    sock: Any  # a _TimedSocket, once there is one
    _method = ""

    @property
    def is_connected(self) -> bool:
        return super().is_connected and not self.sock.given_back

    def connect(self) -> None:
        super().connect()
        self.sock = _TimedSocket(self.sock)

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **_: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(self.timeout)
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [
            f"{method} {url} HTTP/1.1",
            f"Host: {host}" if self.port == self.default_port else f"Host: {host}:{self.port}",
            "Accept-Encoding: identity",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        if body is not None or method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body or b'')}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        if not head.count("\r") == head.count("\n") == len(lines) + 1:
            raise ValueError("What becomes a header holds a line break")
        self._method = method
        self.send(head.encode("latin-1") + (body or b""))

    def getresponse(self) -> Any:  # an HTTPResponse, or a Whole
        self.sock.settimeout(self.timeout)
        start = self.sock.recv(_FIRST_BYTES)
        plain = _plain_head(start)
        if plain is None:
            self.sock.given_back = start
            return self._any_response()
        status, headers, begin, length = plain
        if length is None:
            found = self._chunks(start, begin)
            return self._any_response() if found is None else Whole(status, headers, found)
        content = start[begin : begin + length]
        if len(start) > begin + length:  # what came beside the answer belongs to no request
            self.close()
        elif len(content) < length:
            self.sock.given_back = content
            with self.sock.makefile() as file:
                content = file.read(length)
            if len(content) < length:
                raise http.client.IncompleteRead(content, length - len(content))
        return Whole(status, headers, content)

    def _chunks(self, start: bytes, at: int) -> bytes | None:
        """The body in chunks that begins at `at`, read to its end.

        None, and all that was received is given back, where it breaks off or is not plain: no number alone before a
        chunk, something behind the last.
        """
        received, chunks = bytearray(start), list[bytearray]()
        try:
            while True:
                while (end := received.find(b"\r\n", at, at + 10)) < 0 and len(received) < at + 10:
                    self._receive(received)
                number = received[at : max(at, end)]
                begin, size = end + 2, int(number, 16) if number.isalnum() else -1
                at = begin + size + 2
                while size >= 0 and len(received) < at <= _MOST_IN_CHUNKS:
                    self._receive(received)
                if size < 0 or received[at - 2 : at] != b"\r\n":
                    raise ValueError("not plain, or too much")
                if size == 0:
                    break
                chunks.append(received[begin : begin + size])
        except (EOFError, ValueError):
            self.sock.given_back = bytes(received)
            return None
        if len(received) > at:  # what came beside the answer belongs to no request
            self.close()
        return b"".join(chunks)

    def _receive(self, received: bytearray) -> None:
        more = self.sock.recv(_MORE_BYTES)
        if not more:
            raise EOFError
        received += more

    def _any_response(self) -> HTTPResponse:
        """As urllib3's own, but for the state that http.client keeps of a request."""
        found = http.client.HTTPResponse(self.sock, method=self._method)
        try:
            found.begin()
            if found.will_close:
                self.close()
            return HTTPResponse(
                body=found,
                headers=HTTPHeaderDict((name, _FOLD.sub(" ", value)) for name, value in found.headers.items()),
                status=found.status,
                version=found.version,
                reason=found.reason,
                preload_content=False,
                original_response=found,
                request_method=self._method,
            )
        except BaseException:
            found.close()
            raise


class _TlsConnection(_Connection, HTTPSConnection):
    def connect(self) -> None:
        try:
            super().connect()
        except OSError as error:  # a handshake that fails or hangs: before the request, unlike the same error later
            raise exceptions.NewConnectionError(self, f"TLS handshake failed: {error}") from error


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Pools:
    """A pool of connections for each of the last 20 origins."""

    def __init__(self) -> None:
        self._pools: OrderedDict[str, HTTPConnectionPool] = OrderedDict()
        self._context: ssl.SSLContext | None = None
        self._lock = Lock()

    def at(self, origin: str) -> HTTPConnectionPool:
        """The pool for an origin. Raises LocationValueError where it is none."""
        with self._lock:
            pool = self._pools.pop(origin, None) or self._new(origin)
            self._pools[origin] = pool
            if len(self._pools) > _ORIGINS:
                self._pools.popitem(last=False)  # urllib3 closes it when the last call in it has ended
        return pool

    def _new(self, origin: str) -> HTTPConnectionPool:
        scheme, _, host, port, *_ = parse_url(origin)
        if not host:
            raise exceptions.LocationValueError("no host")
        if scheme == "http":
            return _Pool(host, port or 80, maxsize=_CONNECTIONS)
        if scheme != "https":
            raise exceptions.URLSchemeUnknown(scheme or "")
        if self._context is None:
            # One for all connections: to read the CA certificates takes longer than all the rest of a connection.
            self._context = create_urllib3_context(
                cert_reqs=ssl.CERT_REQUIRED, ssl_minimum_version=ssl.TLSVersion.TLSv1_2
            )
            self._context.load_default_certs()
        return _TlsPool(host, port or 443, maxsize=_CONNECTIONS, cert_reqs="CERT_REQUIRED", ssl_context=self._context)

    def clear(self) -> None:
        """Close every connection that is not in use, and forget the CA certificates."""
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()
            self._context = None
