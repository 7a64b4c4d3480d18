"""The one place that sends bytes, over real sockets."""

from __future__ import annotations

import gzip
import json
import logging
import re
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_ import create_urllib3_context

from local.simulators.base import closed_port
from tests.unit import servers
from tests.unit.servers import Server, answering, at_most, ok, serving
from tests.unit.strategies import bounded
from unified_crm import connections, transport
from unified_crm.connections import MAX_REPLY_BYTES
from unified_crm.deadline import Deadline
from unified_crm.errors import ProviderBadReply, ProviderError, ProviderTimeout, ProviderUnreachable
from unified_crm.provider import Reply, Request
from unified_crm.transport import Exchange, Transport

SECRET = "sesame-open-4711"
GET, POST = Request("GET", "/things"), Request("POST", "/things", json={"name": "é"})


def _send(
    server: Server | str,
    request: Request = GET,
    seconds: float = 5,
    secrets: tuple[str, ...] = (SECRET,),
    **headers: str,
) -> Reply:
    url = server if isinstance(server, str) else server.url
    return Transport(url, headers, secrets, "Toy").send(request, Deadline(seconds))


@pytest.fixture(autouse=True)
def _forget_connections() -> Iterator[None]:
    yield
    transport.forget()


# What is sent


def test_a_request_goes_out_exactly_as_declared() -> None:
    with serving(answering(ok())) as server:
        _send(
            server.url + "/api/v1",
            Request(
                "POST",
                "/things/",
                query=(("a[b][]", "c d"), ("é", "&=+"), ("a[b][]", "")),
                json={"n": "é", "x": [1.5, None]},
            ),
            authorization="Bearer " + SECRET,
        )
        (sent,) = server.requests
    head, _, body = sent.partition(b"\r\n\r\n")
    line, *lines = head.decode("ascii").split("\r\n")
    method, target, version = line.split(" ")
    path, _, query = target.partition("?")
    assert (method, path, version) == ("POST", "/api/v1/things/", "HTTP/1.1")
    assert query == "a%5Bb%5D%5B%5D=c%20d&%C3%A9=%26%3D%2B&a%5Bb%5D%5B%5D="
    assert parse_qsl(query, keep_blank_values=True) == [("a[b][]", "c d"), ("é", "&=+"), ("a[b][]", "")]
    headers = dict(each.split(": ", 1) for each in lines)
    assert {name.lower(): value for name, value in headers.items()} == {
        "host": server.url.removeprefix("http://"),
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "unified-crm",
        "authorization": "Bearer " + SECRET,
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    assert body == rb'{"n":"\u00e9","x":[1.5,null]}'


def test_a_request_without_a_body_has_no_content_type() -> None:
    with serving(answering(ok())) as server:
        _send(server, Request("DELETE", "/things/1"))
    assert b"content-" not in server.requests[0].lower()
    assert server.requests[0].startswith(b"DELETE /things/1 HTTP/1.1\r\n")


@pytest.mark.parametrize("path", ["/a%2Fb/", "/a%20b", "/%252e", "/a//b", "/2-1234567", "/a:b"])
def test_a_path_is_not_touched(path: str) -> None:
    with serving(answering(ok())) as server:
        _send(server, Request("GET", path))
    assert server.requests[0].split(b" ")[1].decode() == path


@pytest.mark.parametrize("body", [{}, [], 0, False, ""])
def test_an_empty_json_body_is_a_body(body: Any) -> None:
    with serving(answering(ok())) as server:
        _send(server, Request("POST", "/", json=body))
    assert json.loads(server.requests[0].partition(b"\r\n\r\n")[2]) == body


# What comes back


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (ok(b'{"a":1}'), 200, b'{"a":1}'),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 201\r\nContent-Length: 2\r\n\r\n{}", 201, b"{}"),
        (b"HTTP/1.1 500 Broken\r\nContent-Length: 3\r\n\r\nno!", 500, b"no!"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 404, b""),
        (b"HTTP/1.1 477 Migration\r\nContent-Length: 0\r\n\r\n", 477, b""),
        (b"HTTP/1.1 200 OK\r\n\r\nto the end", 200, b"to the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 200, b"abcde"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"1"), 200, b"1"),
        (ok(gzip.compress(b'{"z":1}'), "Content-Encoding: gzip\r\n"), 200, b'{"z":1}'),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", 200, b"<html>"),
        (b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\n{"a":1}', 200, b'{"a":1}'),
    ],
)
def test_a_whole_answer_is_a_reply_whatever_its_status_and_type(answer: bytes, status: int, body: bytes) -> None:
    with serving(answering(answer)) as server:
        reply = _send(server)
    assert (reply.status, reply.body) == (status, body)


@pytest.mark.parametrize(
    ("sizes", "piece"),
    [
        *(((5, 300, 1), piece) for piece in (1, 7, 100, 1000)),
        *(((70_000, 3), piece) for piece in (4096, 65_536, 10**9)),
        *(((3_000_000, 3_000_000), piece) for piece in (65_536, 10**9)),
        ((6_000_000,), 65_536),
    ],
    ids=str,
)
def test_chunks_are_put_together_however_they_arrive(sizes: tuple[int, ...], piece: int) -> None:
    body = b"".join(bytes([65 + index]) * size for index, size in enumerate(sizes))
    chunks = b"".join(b"%X\r\n%b\r\n" % (size, bytes([65 + at]) * size) for at, size in enumerate(sizes))
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    def talk(exchange: servers.Exchange) -> bool:
        exchange.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(answer), piece):
            exchange.send(answer[at : at + piece])
        return True

    with serving(talk) as server:
        assert [_send(server).body == body for _ in range(3)] == [True] * 3
        assert server.connections == 1
        transport.forget()


@pytest.mark.parametrize("interim", [b"101 Switching Protocols", b"102 Processing", b"103 Early Hints", b"199 Odd"])
@pytest.mark.parametrize("rest", [ok(b"1"), b""], ids=["followed", "alone"])
def test_an_interim_answer_is_not_the_answer(interim: bytes, rest: bytes) -> None:
    with serving(answering(b"HTTP/1.1 " + interim + b"\r\n\r\n" + rest)) as server:
        try:
            status = _send(server).status
        except ProviderBadReply:
            return
    assert status == 200


def test_header_names_are_in_lower_case() -> None:
    with serving(answering(ok(head="X-Odd-NAME: A b\r\nRetry-After: 7\r\n"))) as server:
        headers = _send(server).headers
    assert (headers["x-odd-name"], headers["retry-after"]) == ("A b", "7")
    assert all(name == name.lower() for name in headers)


BROKEN = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "no http": b"SSH-2.0-OpenSSH_9.0\r\n\r\n",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status too low": b"HTTP/1.1 42 OK\r\n\r\n",
    "half a body": b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a":',
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
    "no last chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "a chunk of no length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "no gzip": ok(b"plain", "Content-Encoding: gzip\r\n"),
    "half a gzip": ok(gzip.compress(str(list(range(500))).encode())[:400], "Content-Encoding: gzip\r\n"),
    "an endless header": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 500 + b"\r\n",
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("request_", [GET, POST], ids=["get", "post"])
def test_a_broken_answer_is_a_bad_reply_and_nothing_is_sent_again(kind: str, request_: Request) -> None:
    with serving(answering(BROKEN[kind])) as server, pytest.raises(ProviderBadReply) as caught:
        _send(server, request_).object()  # an answer whose head or gzip is cut off is read as an empty or a short one
    assert len(server.requests) == 1
    assert caught.value.may_have_acted
    assert caught.value.status == 502


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304, 300])
def test_a_redirect_is_not_followed(status: int) -> None:
    with serving(answering(ok())) as other:
        location = f"HTTP/1.1 {status} Moved\r\nLocation: {other.url}/\r\nContent-Length: 0\r\n\r\n".encode()
        with serving(answering(location)) as server, pytest.raises(ProviderBadReply, match="redirect"):
            _send(server, POST, authorization=SECRET)
        assert other.requests == []
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "surplus",
    [b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"old"', b" ", b"x" * 100_000],
    ids=["answer", "blank", "much"],
)
@pytest.mark.parametrize("head", ["", "X-Odd: \xe9\r\n"], ids=["plain", "not plain"])
def test_what_comes_beside_an_answer_is_no_part_of_the_next(surplus: bytes, head: str) -> None:
    def talk(exchange: servers.Exchange) -> bool:
        exchange.send(ok(str(len(server.requests)).encode(), head) + (surplus if len(server.requests) == 1 else b""))
        return True

    with serving(talk) as server:
        assert [_send(server).json, _send(server).json] == [1, 2]


@pytest.mark.parametrize("cut", [*range(1, 130, 9), 20_000, 66_000])
def test_an_answer_may_come_in_pieces(cut: int) -> None:
    body = json.dumps(["é" * 10_000, "x"]).encode()
    answer = ok(body, "Date: Sun, 22 Nov 2026 00:00:00 GMT\r\nX-More: a, b\r\n")

    def talk(exchange: servers.Exchange) -> bool:
        exchange.send(answer[:cut])
        time.sleep(0.02)
        exchange.send(answer[cut:])
        return True

    with serving(talk) as server:
        for _ in range(2):
            reply = _send(server)
            assert (reply.body, reply.headers["x-more"]) == (body, "a, b")
        assert server.connections == 1


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 3\r\nConnection: close\r\n",
        "Content-Length: 3 \r\n",
        "content-length:3\r\n",
        "Content-Length: 3\r\nConnection: Keep-Alive\r\n",
        "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "X-Folded: a\r\n b\r\nContent-Length: 3\r\n",
    ],
)
def test_an_answer_ends_where_its_head_says(framing: str) -> None:
    body = b"3\r\n[1]\r\n0\r\n\r\n" if "chunked" in framing else b"[1]"
    with serving(answering(f"HTTP/1.1 200 OK\r\n{framing}\r\n".encode() + body, keep=True)) as server:
        assert [_send(server).json, _send(server).json] == [[1], [1]]


def test_a_header_that_goes_on_in_another_line_is_one() -> None:
    with serving(answering(ok(head="X-Folded: a \r\n\tb\r\nRetry-After: 7\r\n"))) as server:
        headers = _send(server).headers
    assert (headers["x-folded"], headers["retry-after"]) == ("a b", "7")


def test_a_header_with_a_line_break_is_never_sent() -> None:
    with serving(answering(ok())) as server:
        for value in ("a\r\nX-Other: b", "a\nb", "a\rb"):
            with pytest.raises(ValueError, match="line break"):
                _send(server, authorization=value)
        assert server.requests == []


# Size


def _endless(head: bytes, piece: bytes) -> servers.Talk:
    def talk(exchange: servers.Exchange) -> bool:
        exchange.connection.settimeout(5)
        try:
            exchange.connection.sendall(head)
            while not exchange.server.stopping.is_set():
                exchange.connection.sendall(piece)
        except OSError:
            pass
        return False

    return talk


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    ],
    ids=["no length", "length", "chunked"],
)
def test_an_endless_answer_is_cut_off(head: bytes, piece: bytes) -> None:
    with serving(_endless(head, piece)) as server, pytest.raises(ProviderBadReply, match="larger than"):
        _send(server, seconds=8)


def test_a_small_answer_that_unpacks_to_a_huge_one_is_cut_off() -> None:
    bomb = gzip.compress(b"\0" * (MAX_REPLY_BYTES * 5))
    assert len(bomb) < 1_000_000
    answer = answering(ok(bomb, "Content-Encoding: gzip\r\n"))
    with serving(answer) as server, pytest.raises(ProviderBadReply, match="larger than"):
        _send(server, seconds=8)


def test_the_largest_answer_is_read_whole() -> None:
    with serving(answering(ok(b"x" * MAX_REPLY_BYTES))) as server:
        assert len(_send(server, seconds=9).body) == MAX_REPLY_BYTES


# Time


def _talk_hang(exchange: servers.Exchange) -> bool:
    exchange.hang()
    return False


def _talk_hang_in_body(exchange: servers.Exchange) -> bool:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    exchange.hang()
    return False


def _talk_drip_head(exchange: servers.Exchange) -> bool:
    exchange.drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 500, every=0.05)
    return False


def _talk_drip_body(exchange: servers.Exchange) -> bool:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    exchange.drip(b"x" * 500, every=0.05)
    return False


def _talk_drip_chunks(exchange: servers.Exchange) -> bool:
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    exchange.drip(b"1\r\nx\r\n" * 100, every=0.05)
    return False


def _talk_drip_continue(exchange: servers.Exchange) -> bool:
    for _ in range(200):
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if exchange.server.stopping.wait(0.05):
            break
    return False


SLOW: tuple[servers.Talk, ...] = (
    _talk_hang,
    _talk_hang_in_body,
    _talk_drip_head,
    _talk_drip_body,
    _talk_drip_chunks,
    _talk_drip_continue,
)


@pytest.mark.parametrize("talk", SLOW, ids=lambda talk: talk.__name__.removeprefix("_talk_"))
def test_a_slow_answer_ends_with_the_deadline(talk: servers.Talk) -> None:
    with serving(talk) as server, at_most(0.5), pytest.raises(ProviderTimeout, match="in time") as caught:
        _send(server, POST, seconds=0.5)
    assert caught.value.may_have_acted
    assert caught.value.status == 504
    assert len(server.requests) == 1


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("talk", SLOW[2:4], ids=["head", "body"])
def test_a_slow_answer_ends_with_the_deadline_over_tls_too(talk: servers.Talk, tls: ssl.SSLContext) -> None:
    with serving(talk, tls) as server, at_most(0.5), pytest.raises(ProviderTimeout):
        _send(server, seconds=0.5)


def test_a_connection_that_is_slow_to_come_leaves_less_time_for_the_answer() -> None:
    """A full queue drops the first SYN; the kernel sends it again after a second."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            timer = threading.Timer(0.5, lambda: listener.accept()[0].close())
            timer.start()
            with at_most(1.6), pytest.raises(ProviderTimeout):
                _send(f"http://127.0.0.1:{port}", seconds=1.6)
            timer.join()


def test_no_time_left_means_nothing_sent() -> None:
    with serving(answering(ok())) as server:
        with pytest.raises(ProviderTimeout, match="no time left") as caught:
            _send(server, POST, seconds=0)
        assert server.connections == 0
    assert not caught.value.may_have_acted


def test_the_deadline_is_counted_anew_on_a_connection_that_is_used_again() -> None:
    def talk(exchange: servers.Exchange) -> bool:
        time.sleep(0.3)
        exchange.send(ok())
        return True

    with serving(talk) as server:
        for _ in range(3):
            assert _send(server, seconds=0.6).status == 200
        assert server.connections == 1


# No connection


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_refused_connection_is_certain_to_have_done_nothing(scheme: str) -> None:
    with pytest.raises(ProviderUnreachable, match="nothing was sent") as caught:
        _send(closed_port().replace("http", scheme), POST)
    assert (caught.value.may_have_acted, caught.value.status, caught.value.retryable) == (False, 502, True)


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    with pytest.raises(ProviderUnreachable):
        _send("https://no-such-host.invalid", POST)


def test_plain_http_behind_https_is_unreachable_and_nothing_is_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen: list[bytes] = []

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(ProviderUnreachable) as caught:
            _send(f"https://127.0.0.1:{listener.getsockname()[1]}", POST, authorization=SECRET)
        thread.join()
    assert not caught.value.may_have_acted
    assert SECRET.encode() not in seen[0]


def test_a_handshake_that_hangs_is_unreachable_within_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, at_most(0.5), pytest.raises(ProviderUnreachable):
        _send(f"https://127.0.0.1:{listener.getsockname()[1]}", POST, seconds=0.5)


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return servers.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.fixture
def trusted(pem: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))


def test_a_certificate_that_nobody_vouches_for_is_unreachable_and_nothing_is_sent(tls: ssl.SSLContext) -> None:
    with serving(answering(ok()), tls) as server, pytest.raises(ProviderUnreachable):
        _send(server, POST, authorization=SECRET)
    assert server.requests == []


@pytest.mark.usefixtures("trusted")
def test_a_certificate_for_another_name_is_unreachable_and_nothing_is_sent(tls: ssl.SSLContext) -> None:
    with serving(answering(ok()), tls) as server, pytest.raises(ProviderUnreachable):
        _send(server.url.replace("127.0.0.1", "localhost"), POST, authorization=SECRET)
    assert server.requests == []


@pytest.mark.usefixtures("trusted")
def test_a_trusted_certificate_lets_requests_through(tls: ssl.SSLContext) -> None:
    with serving(answering(ok(b'"tls"'), keep=True), tls) as server:
        assert [_send(server).json, _send(server, POST).json] == ["tls", "tls"]
        assert server.connections == 1


@pytest.mark.usefixtures("trusted")
def test_certificates_are_read_once_for_all_connections(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []
    new = create_urllib3_context

    def counted(**how: Any) -> ssl.SSLContext:
        made.append(new(**how))
        return made[-1]

    monkeypatch.setattr(connections, "create_urllib3_context", counted)
    with serving(answering(ok(), keep=False), tls) as server, serving(answering(ok()), tls) as other:
        for each in (server, server, other):
            _send(each)
    (context,) = made
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


# Connections are used again


def test_calls_one_after_the_other_share_a_connection() -> None:
    with serving(answering(ok(), keep=True)) as server:
        for request in (GET, POST, GET, Request("DELETE", "/x")):
            _send(server, request)
        assert (len(server.requests), server.connections) == (4, 1)


def test_only_the_last_origins_keep_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_ORIGINS", 1)
    with serving(answering(ok(), keep=True)) as server, serving(answering(ok(), keep=True)) as other:
        for each in (server, server, other, server, server):
            _send(each)
        assert (server.connections, other.connections) == (2, 1)


@pytest.mark.parametrize(
    "first", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno"]
)
def test_answers_without_a_body_and_errors_keep_the_connection(first: bytes) -> None:
    with serving(answering(first, keep=True)) as server:
        _send(server)
        _send(server)
        assert server.connections == 1


@pytest.mark.parametrize("request_", [GET, POST], ids=["get", "post"])
def test_a_connection_that_the_provider_closed_between_calls_is_replaced(request_: Request) -> None:
    with serving(answering(ok(), keep=False)) as server:
        _send(server)
        time.sleep(0.05)
        assert _send(server, request_).status == 200
        assert (len(server.requests), server.connections) == (2, 2)


def test_a_post_that_a_kept_connection_swallows_is_not_sent_again() -> None:
    def talk(exchange: servers.Exchange) -> bool:
        if len(server.requests) > 1:
            return False
        exchange.send(ok())
        return True

    with serving(talk) as server:
        _send(server)
        with pytest.raises(ProviderBadReply) as caught:
            _send(server, POST)
        assert (len(server.requests), server.connections) == (2, 1)
    assert caught.value.may_have_acted


@pytest.mark.parametrize("talk", [_talk_hang_in_body, _endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)])
def test_what_was_left_of_a_broken_answer_is_no_part_of_the_next(talk: servers.Talk) -> None:
    with serving(talk) as server:
        with pytest.raises(ProviderError):
            _send(server, seconds=0.3)
        server.talk = answering(ok(b'"fresh"'))
        assert _send(server).json == "fresh"
        assert server.connections == 2


# Redaction

SLASHED = "abc/def+ghi=jkl=="


@pytest.mark.parametrize(
    "echo",
    [
        SLASHED,
        json.dumps(SLASHED)[1:-1],
        b64encode(f"{SLASHED}:".encode()).decode(),
        SLASHED.replace("/", "\\/"),
        SLASHED.replace("=", "\\u003d"),
        SLASHED.replace("=", "\\u003D").replace("+", "\\u002B").replace("/", "\\u002F"),
    ],
    ids=["plain", "json", "basic", "slash escaped", "equals sign escaped", "all escaped"],
)
def test_a_credential_that_the_provider_echoes_is_redacted(echo: str) -> None:
    body = f'{{"message":"bad key {echo}!","again":["{echo}"]}}'.encode()
    with serving(answering(ok(body))) as server:
        reply = _send(server, secrets=(SLASHED, SECRET))
    shown = json.dumps(reply.json)
    assert SLASHED not in shown
    assert b64encode(f"{SLASHED}:".encode()).decode() not in shown
    assert "[redacted]!" in shown


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("more", ["", "line\\nbreak", "\\u0041", "é😀"])
def test_a_credential_is_redacted_in_other_encodings_too(encoding: str, more: str) -> None:
    body = f'{{"name":"{more}","echo":"{SECRET}"}}'
    with serving(answering(ok(body.encode(encoding)))) as server:
        reply = _send(server, secrets=(SECRET,))
    assert reply.json == {**json.loads(body), "echo": "[redacted]"}


def test_a_credential_is_redacted_in_what_is_no_json_in_another_encoding() -> None:
    with serving(answering(ok(f"<p>{SECRET}".encode("utf-16-le") + b"!"))) as server:
        assert str(_send(server, secrets=(SECRET,)).content()).startswith("<p>[redacted]")


def test_what_only_looks_like_another_encoding_goes_on_as_it_came() -> None:
    with serving(answering(ok(b"<p>\xff\x00"))) as server:
        assert _send(server, secrets=(SECRET,)).body == b"<p>\xff\x00"


@pytest.mark.parametrize("secret", ['quote"quote', "back\\slash"])
def test_a_credential_that_json_must_escape_is_redacted(secret: str) -> None:
    with serving(answering(ok(json.dumps({"m": secret}).encode()))) as server:
        assert _send(server, secrets=(secret,)).json == {"m": "[redacted]"}


def test_a_credential_that_holds_another_is_redacted_whole() -> None:
    with serving(answering(ok(b'["token-1234-refresh"]'))) as server:
        assert _send(server, secrets=("token-1234", "token-1234-refresh")).json == ["[redacted]"]


def test_a_credential_packed_in_gzip_is_redacted() -> None:
    body = gzip.compress(json.dumps([SECRET]).encode())
    with serving(answering(ok(body, "Content-Encoding: gzip\r\n"))) as server:
        assert _send(server).json == ["[redacted]"]


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=6, max_size=40), st.data())
def test_no_form_of_a_secret_goes_without_its_mark(secret: str, data: st.DataObject) -> None:
    forms, marks, hides = transport._redactions((secret,))
    assert all(any(mark in form for mark in marks) for form in forms)
    at = data.draw(st.integers(0, len(secret) - 1))
    short = {'"': '\\"', "\\": "\\\\", "/": "\\/"}
    escaped = data.draw(
        st.sampled_from([f"\\u{ord(secret[at]):04x}", f"\\u{ord(secret[at]):04X}", short.get(secret[at], "")])
    )
    assert not escaped or hides(escaped.encode())


def test_a_text_of_a_few_letters_is_no_secret() -> None:
    with serving(answering(ok(b'["abcde"]'))) as server:
        assert _send(server, secrets=("abcde", "")).json == ["abcde"]


@pytest.mark.parametrize(
    "failing",
    [
        lambda: _send(closed_port(), POST, authorization=SECRET),
        lambda: _send(closed_port().replace("http", "https"), POST, authorization=SECRET),
    ],
)
def test_an_error_shows_neither_credential_nor_query(failing: Callable[[], Reply]) -> None:
    with pytest.raises(ProviderError) as caught:
        failing()
    assert SECRET not in repr(caught.value) + repr(caught.value.__cause__)


# What is observed


def test_each_call_is_observed_without_its_query() -> None:
    seen: list[Exchange] = []
    with serving(answering(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")) as server:
        Transport(server.url, {}, (), "Toy", seen.append).send(
            Request("GET", "/a", query=(("q", SECRET),)), Deadline(5)
        )
    with pytest.raises(ProviderUnreachable):
        Transport(closed_port(), {}, (), "Toy", seen.append).send(POST, Deadline(5))
    with pytest.raises(ProviderTimeout):
        Transport(closed_port(), {}, (), "Toy", seen.append).send(POST, Deadline(0))
    assert [(each.method, each.path, each.status, each.error) for each in seen] == [
        ("GET", "/a", 404, None),
        ("POST", "/things", None, "provider_unreachable"),
        ("POST", "/things", None, "provider_timeout"),
    ]
    assert all(0 <= each.seconds < 5 for each in seen)
    assert SECRET not in repr(seen)


# Anything at all

_heads = st.lists(
    st.sampled_from(
        [
            b"Content-Length: 5",
            b"Content-Length: -1",
            b"Content-Length: 1e3",
            b"Content-Length: 5, 5",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Content-Encoding: gzip",
            b"Content-Encoding: deflate",
            b"Content-Encoding: zstd, br",
            b"Connection: close",
            b"Location: http://[",
            b"Set-Cookie: \xff\xfe",
            b": nameless",
            b"nothing",
            b" folded",
            b"Retry-After: \x00",
        ]
    ),
    max_size=4,
)
_statuses = st.sampled_from(
    [b"200 OK", b"204", b"299 \xff", b"304 x", b"404", b"1000", b"099", b"101 Switching", b"-200", b""]
)
_answers = st.binary(max_size=60) | st.builds(
    lambda version, status, heads, body: (
        version + b" " + status + b"\r\n" + b"".join(h + b"\r\n" for h in heads) + b"\r\n" + body
    ),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2", b"HTTP"]),
    _statuses,
    _heads,
    st.binary(max_size=30) | st.sampled_from([b"5\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello", b"hello", b"fffffffff\r\n"]),
)


_plain_answers = st.builds(
    lambda status, heads, body, length: (
        b"HTTP/1.1 %d X\r\n%bContent-Length: %d\r\n\r\n%b"
        % (status, b"".join(b"%b:%b\r\n" % head for head in heads), max(0, len(body) + length), body)
    ),
    st.sampled_from([200, 201, 204, 304, 400, 404, 503, 999]),
    st.lists(
        st.tuples(
            st.sampled_from([b"Date", b"X-A", b"x-a", b"Retry-After", b"Connection", b"Content-Length", b"X A", b""]),
            st.sampled_from(
                [b" a", b"\tb \t", b"", b" 3", b" close", b" Keep-Alive", b" \xe9", b" a\r\n folded", b"\n c"]
            ),
        ),
        max_size=3,
    ),
    st.binary(max_size=20),
    st.sampled_from([0, 0, 0, 1, -1, -3]),
)
"""Most of them are read the short way."""

_odd_chunks = [
    *(b"0003\r\nabc\r\n", b"A\r\n0123456789\r\n", b"3;x=y\r\nabc\r\n", b"3 \r\nabc\r\n", b"+3\r\nabc\r\n", b"\r\n"),
    *(b"1_0\r\n0123456789abcdef\r\n", b"3\nabc\n", b"4\r\nabc\r\n", b"2\r\nabc\r\n", b"g\r\n", b"0x3\r\nabc\r\n"),
    *(b"0000000003\r\nabc\r\n", b"-3\r\nabc\r\n", b"3\r\n\r\n\r\r\n", b"fffffffff\r\n", b"\xb3\r\nabc\r\n"),
]
_chunked_answers = st.builds(
    lambda status, head, chunks, last: b"HTTP/1.1 %d X\r\n%b\r\n%b%b" % (status, head, b"".join(chunks), last),
    st.sampled_from([200, 200, 201, 204, 304, 400, 503]),
    st.just(b"Transfer-Encoding: chunked\r\n")
    | st.sampled_from(
        [
            b"transfer-encoding:Chunked\r\nX-A: b\r\n",
            b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n",
        ]
    ),
    st.lists(
        st.binary(min_size=1, max_size=300).map(lambda chunk: b"%x\r\n%b\r\n" % (len(chunk), chunk))
        | st.sampled_from(_odd_chunks),
        max_size=4,
    ),
    st.just(b"0\r\n\r\n")
    | st.sampled_from([b"0\r\nX-T: 1\r\n\r\n", b"", b"0\r\n", b"00\r\n\r\n", b"0\r\n\r\nHTTP/1.1 200 OK"]),
)


@pytest.fixture(scope="module")
def anything() -> Iterator[Server]:
    with serving(answering(b"")) as server:
        yield server


@bounded
@given(answer=_answers)
def test_whatever_comes_back_is_a_reply_or_an_error_of_the_tree(anything: Server, answer: bytes) -> None:
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    anything.talk = answering(answer)
    try:
        reply = _send(anything, seconds=2)
    except ProviderError:
        return
    finally:
        transport.forget()
    assert 200 <= reply.status <= 999


def _by_urllib3(server: Server) -> tuple[int, dict[str, str], bytes] | None:
    """What urllib3's own connection makes of an answer: status, headers and body, None where it is none."""
    with urllib3.PoolManager(retries=False, timeout=2) as pool:
        try:
            answer = pool.request("GET", f"{server.url}/things", redirect=False, preload_content=False)
            body = b"".join(answer.stream())
        except (HTTPError, ValueError):  # the second at a chunk of less than nothing
            return None
    return answer.status, {name.lower(): _unfolded(value) for name, value in answer.headers.items()}, body


def _unfolded(value: str) -> str:
    """On one line, and without the blanks around it that belong to no value: RFC 9112, 5."""
    return re.sub(r"[ \t]*\r?\n[ \t]+", " ", value).strip(" \t")


@settings(bounded, max_examples=400)
@given(answer=_answers | _plain_answers | _chunked_answers)
def test_an_answer_is_read_as_urllib3_reads_it(anything: Server, answer: bytes) -> None:
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    answer = answer.replace(b"\0", b"0")  # what is in UTF-16 becomes UTF-8 here, and not in urllib3
    anything.talk = answering(answer)
    expected = _by_urllib3(anything)
    try:
        reply = _send(anything, seconds=2)
    except ProviderError:
        assert expected is None or not expected[0] >= 200 or 300 <= expected[0] < 400
    else:
        assert (reply.status, {name: _unfolded(each) for name, each in reply.headers.items()}, reply.body) == expected
    finally:
        transport.forget()
