"""The front door, over real HTTP: the events that it makes, the authorizer before the function, the answers."""

import base64
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from statistics import median
from typing import Any, NamedTuple

import pytest
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from local.gateway import MAX_REQUEST, Gateway

TOKEN = {"Authorization": "Bearer demo"}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Door:
    """A gateway before a function that echoes its event and an authorizer that lets everyone in, both replaceable."""

    def __init__(self, **options: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.questions: list[dict[str, Any]] = []
        self.contexts: list[Any] = []
        self.api: Callable[[dict[str, Any], Any], Any] = lambda *_: {"statusCode": 200, "body": "ok"}
        self.authorizer: Callable[[dict[str, Any], Any], Any] = lambda *_: {"isAuthorized": True}
        self.gateway = Gateway(self._api, self._authorizer, port=0, **options)

    def _api(self, event: dict[str, Any], context: Any) -> Any:
        self.events.append(event)
        self.contexts.append(context)
        return self.api(event, context)

    def _authorizer(self, event: dict[str, Any], context: Any) -> Any:
        self.questions.append(event)
        return self.authorizer(event, context)

    @property
    def event(self) -> dict[str, Any]:
        return self.events[-1]

    def call(
        self, method: str = "GET", target: str = "/", body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=5)
        try:
            connection.request(method, target, body, TOKEN if headers is None else headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def returns(self, value: Any) -> Answer:
        self.api = lambda *_: value
        return self.call()

    @contextmanager
    def socket(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.gateway.port), timeout=5) as client:
            yield client

    def raw(self, *parts: bytes) -> bytes:
        """Send bytes, read until the gateway closes."""
        with self.socket() as client:
            for part in parts:
                client.sendall(part)
            return read_all(client)


def read_all(client: socket.socket) -> bytes:
    data = b""
    while part := client.recv(65536):
        data += part
    return data


def request(*lines: str, body: bytes = b"", close: bool = True) -> bytes:
    head = [*lines, "Host: localhost", "Authorization: Bearer demo", *(["Connection: close"] if close else [])]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    with door.gateway:
        yield door


# The event


def test_event_is_the_one_of_payload_2_0(door: Door) -> None:
    door.authorizer = lambda *_: {"isAuthorized": True, "context": {"tenant": "acme", "accounts": ["a"]}}
    before = int(time.time() * 1000)
    door.call(
        "POST", "/unified/crm/pipelines?x=1", '{"a": "ü"}', {**TOKEN, "User-Agent": "test", "X-Two": "Kept As Is"}
    )
    event = door.event
    assert event["version"] == "2.0"
    assert event["routeKey"] == "$default"
    assert event["rawPath"] == "/unified/crm/pipelines"
    assert event["rawQueryString"] == "x=1"
    assert event["queryStringParameters"] == {"x": "1"}
    assert "cookies" not in event
    context = event["requestContext"]
    assert context["authorizer"] == {"lambda": {"tenant": "acme", "accounts": ["a"]}}
    assert context["http"] == {
        "method": "POST",
        "path": "/unified/crm/pipelines",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "test",
    }
    assert (context["stage"], context["routeKey"]) == ("$default", "$default")
    assert context["domainName"] == "127.0.0.1"
    assert {"accountId", "apiId", "domainPrefix", "requestId"} <= context.keys()
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", context["time"])
    assert before <= context["timeEpoch"] <= int(time.time() * 1000)
    assert event["headers"]["x-two"] == "Kept As Is"
    assert event["headers"]["x-forwarded-for"] == "127.0.0.1"


def test_event_is_understood_by_powertools(door: Door) -> None:
    door.authorizer = lambda *_: {"isAuthorized": True, "context": {"tenant": "acme"}}
    door.call("PATCH", "/a?b=c", '{"d": 1}', {**TOKEN, "Content-Type": "application/json"})
    event = APIGatewayProxyEventV2(door.event)
    assert (event.http_method, event.path, event.json_body) == ("PATCH", "/a", {"d": 1})
    assert event.request_context.authorizer is not None
    assert event.request_context.authorizer.get_lambda == {"tenant": "acme"}


def test_event_without_query_or_body_leaves_them_out(door: Door) -> None:
    door.call("GET", "/a")
    assert door.event["rawQueryString"] == ""
    assert door.event["isBase64Encoded"] is False
    assert not {"queryStringParameters", "cookies", "body"} & door.event.keys()
    assert door.event["headers"]["content-length"] == "0"


def test_header_names_are_lower_case_and_repeated_ones_joined(door: Door) -> None:
    door.raw(request("GET / HTTP/1.1", "X-PROBE: First", "x-probe: second", "Cookie: a=1; b=2", "Cookie: c=3"))
    assert door.event["headers"]["x-probe"] == "First,second"
    assert door.event["cookies"] == ["a=1", "b=2", "c=3"]
    assert "cookie" not in door.event["headers"]
    assert all(name == name.lower() for name in door.event["headers"])


def test_query_string_is_as_sent_and_its_parameters_are_decoded_and_joined(door: Door) -> None:
    query = "k%5B%5D=x&k[]=y+z&remote_query[a][b]=1%2B1&empty=&flag"
    door.call("GET", f"/?{query}")
    assert door.event["rawQueryString"] == query
    assert door.event["queryStringParameters"] == {
        "k[]": "x,y z",
        "remote_query[a][b]": "1+1",
        "empty": "",
        "flag": "",
    }


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("/a/space%20value", "/a/space value"),
        ("/a/plus+value", "/a/plus+value"),
        ("/a/slash%2Fvalue", "/a/slash/value"),
        ("/a/hash%23value", "/a/hash#value"),
        ("/a/question%3Fvalue", "/a/question"),
        ("/a/%CE%BB-%E4%B8%96", "/a/λ-世"),
        ("/a/literal%252Fvalue", "/a/literal/value"),
        ("/a/literal%253Fvalue", "/a/literal?value"),
        ("/a/literal%2525value", "/a/literal%value"),
        ("//a//b/", "//a//b/"),
    ],
)
def test_raw_path_is_decoded_as_the_real_gateway_decodes_it(door: Door, sent: str, seen: str) -> None:
    assert door.call("GET", f"{sent}?q=%2F").status == 200
    assert door.event["rawPath"] == door.event["requestContext"]["http"]["path"] == seen
    assert door.event["rawQueryString"] == "q=%2F"


@pytest.mark.parametrize("path", ["/a%", "/a%zz", "/percent%25done", "/%ff"])
def test_path_that_does_not_decode_is_400_and_reaches_nobody(door: Door, path: str) -> None:
    answer = door.call("GET", path)
    assert (answer.status, answer.json) == (400, {"message": "Bad Request"})
    assert not door.events
    assert not door.questions


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "text/plain", "application/xml",
     "application/javascript", "application/problem+json"],
)  # fmt: skip
def test_textual_body_is_passed_as_text(door: Door, media_type: str) -> None:
    door.call("POST", "/", "{ü}".encode(), {**TOKEN, "Content-Type": media_type})
    assert (door.event["body"], door.event["isBase64Encoded"]) == ("{ü}", False)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "image/png",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "",
    ],
)
def test_any_other_body_is_base64(door: Door, media_type: str) -> None:
    door.call("POST", "/", b"\x00\xffa", {**TOKEN, **({"Content-Type": media_type} if media_type else {})})
    assert door.event["isBase64Encoded"] is True
    assert base64.b64decode(door.event["body"]) == b"\x00\xffa"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "PURGE"])
def test_every_method_reaches_the_function(door: Door, method: str) -> None:
    answer = door.call(method, "/anything")
    assert answer.status == 200
    assert door.event["requestContext"]["http"]["method"] == method
    assert answer.body == (b"" if method == "HEAD" else b"ok")
    assert answer.headers["content-length"] == "2"


def test_head_is_answered_without_the_body(door: Door) -> None:
    assert door.raw(request("HEAD / HTTP/1.1")).endswith(b"\r\ncontent-length: 2\r\n\r\n")


def test_function_gets_its_own_copy_as_json_carries_it(door: Door) -> None:
    def vandal(event: dict[str, Any], _: Any) -> dict[str, Any]:
        event["headers"].clear()
        event["requestContext"].clear()
        return {"isAuthorized": True, "context": {"limit": Decimal("3"), "share": Decimal("0.5")}}

    door.authorizer = vandal
    assert door.call().status == 200
    assert door.event["headers"]["authorization"] == "Bearer demo"
    assert door.event["requestContext"]["authorizer"]["lambda"] == {"limit": 3, "share": 0.5}


# The body on the wire


def test_body_in_chunks_is_put_together(door: Door) -> None:
    head = request("POST / HTTP/1.1", "Content-Type: text/plain", "Transfer-Encoding: chunked")
    answer = door.raw(head, b"3;note=x\r\nabc\r\n", b"A\r\n0123456789\r\n", b"0\r\nTrailer: dropped\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert door.event["body"] == "abc0123456789"
    assert door.event["headers"]["content-length"] == "13"
    assert not {"transfer-encoding", "trailer"} & door.event["headers"].keys()


def test_body_announced_with_expect_is_asked_for(door: Door) -> None:
    with door.socket() as client:
        client.sendall(request("POST / HTTP/1.1", "Content-Length: 2", "Expect: 100-continue", "Content-Type: text/x"))
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert not door.events
        client.sendall(b"hi")
        assert read_all(client).startswith(b"HTTP/1.1 200 ")
    assert door.event["body"] == "hi"


def test_body_over_ten_megabytes_is_the_gateways_own_413(door: Door) -> None:
    answer = door.call("POST", "/", b"x" * (MAX_REQUEST + 1))
    assert (answer.status, answer.json) == (413, {"message": "Request Entity Too Large"})
    expecting = request("POST / HTTP/1.1", f"Content-Length: {MAX_REQUEST + 1}", "Expect: 100-continue")
    assert door.raw(expecting).startswith(b"HTTP/1.1 413 ")
    in_chunks = request("POST / HTTP/1.1", "Transfer-Encoding: chunked")
    assert door.raw(in_chunks, b"%x\r\n" % (MAX_REQUEST + 1)).startswith(b"HTTP/1.1 413 ")
    assert not door.questions


def test_body_of_ten_megabytes_arrives(door: Door) -> None:
    assert door.call("POST", "/", b"x" * MAX_REQUEST, {**TOKEN, "Content-Type": "text/plain"}).status == 200
    assert len(door.event["body"]) == MAX_REQUEST


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/x\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 1\r\n\r\nx", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_malformed_request_is_refused_as_json_and_closes(door: Door, sent: bytes, status: int) -> None:
    head, _, body = door.raw(sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in head
    assert json.loads(body).keys() == {"message"}
    assert not door.questions
    assert not door.events


def test_old_client_without_host_is_served_and_closed(door: Door) -> None:
    answer = door.raw(b"GET /a HTTP/1.0\r\nAuthorization: Bearer demo\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert door.event["requestContext"]["http"]["protocol"] == "HTTP/1.0"


def test_client_that_leaves_in_its_body_is_forgotten(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    with door.socket() as client:
        client.sendall(request("POST / HTTP/1.1", "Content-Length: 100") + b"half")
    assert door.call().status == 200
    assert len(door.events) == 1
    assert not caplog.records


def test_connection_is_kept_alive_and_answers_come_in_one_piece(door: Door) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", door.gateway.port, timeout=5)
    connection.connect()
    first = connection.sock
    times = []
    for _ in range(50):
        began = time.monotonic()
        connection.request("POST", "/", "{}", TOKEN)
        assert connection.getresponse().read() == b"ok"
        times.append(time.monotonic() - began)
    assert connection.sock is first
    assert median(times) < 0.03  # Nagle's algorithm would take 40 ms for each
    connection.close()


def test_refusal_keeps_the_connection(door: Door) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", door.gateway.port, timeout=5)
    for headers, status in (({}, 401), (TOKEN, 200)):
        connection.request("POST", "/", "{}", headers)
        response = connection.getresponse()
        response.read()
        assert response.status == status
        assert not response.will_close
    connection.close()


# The authorizer


def test_authorizer_gets_a_request_event_of_payload_2_0(door: Door) -> None:
    door.call("POST", "/unified/crm/pipelines?a=1", "{}", {**TOKEN, "Cookie": "a=1"})
    (question,) = door.questions
    assert (question["version"], question["type"], question["routeKey"]) == ("2.0", "REQUEST", "$default")
    assert question["identitySource"] == ["Bearer demo"]
    assert question["headers"]["authorization"] == "Bearer demo"
    assert re.fullmatch(
        r"arn:aws:execute-api:us-east-1:\d{12}:local/\$default/POST/unified/crm/pipelines", question["routeArn"]
    )
    assert (question["rawPath"], question["rawQueryString"]) == ("/unified/crm/pipelines", "a=1")
    assert question["queryStringParameters"] == {"a": "1"}
    assert question["cookies"] == ["a=1"]
    assert question["requestContext"]["http"]["method"] == "POST"
    assert question["requestContext"]["requestId"] == door.event["requestContext"]["requestId"]
    assert not {"body", "isBase64Encoded"} & question.keys()


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}])
def test_no_token_is_401_and_nobody_is_called(door: Door, headers: dict[str, str]) -> None:
    answer = door.call("POST", "/unified/crm/pipelines", "{}", headers)
    assert (answer.status, answer.json) == (401, {"message": "Unauthorized"})
    assert answer.headers["content-type"] == "application/json"
    assert not door.questions
    assert not door.events


def test_refused_token_is_403_and_the_function_is_not_called(door: Door) -> None:
    door.authorizer = lambda *_: {"isAuthorized": False, "context": {"why": "expired"}}
    answer = door.call()
    assert (answer.status, answer.json) == (403, {"message": "Forbidden"})
    assert not door.events


def failing(*_: Any) -> Any:
    raise RuntimeError("broken inside")


@pytest.mark.parametrize(
    "authorizer",
    [failing, lambda *_: None, lambda *_: {"isAuthorized": "yes"}, lambda *_: {1j}],
)
def test_failing_authorizer_is_500_and_the_function_is_not_called(door: Door, authorizer: Any) -> None:
    door.authorizer = authorizer
    answer = door.call()
    assert (answer.status, answer.json) == (500, {"message": "Internal Server Error"})
    assert not door.events


def test_slow_authorizer_is_500() -> None:
    door = Door(timeout=0.05)
    door.authorizer = lambda *_: time.sleep(0.3)
    with door.gateway:
        assert door.call().status == 500


def test_authorizer_without_context_gives_null(door: Door) -> None:
    door.call()
    assert door.event["requestContext"]["authorizer"] == {"lambda": None}


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [("GET", "/docs", "GET /docs"), ("GET", "/any", "ANY /any"), ("POST", "/any", "ANY /any")],
)
def test_public_route_skips_the_authorizer(method: str, path: str, route: str) -> None:
    door = Door(public=frozenset({"GET /docs", "/any"}))
    with door.gateway:
        assert door.call(method, path, headers={}).status == 200
    assert not door.questions
    assert door.event["routeKey"] == door.event["requestContext"]["routeKey"] == route
    assert "authorizer" not in door.event["requestContext"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/docs"), ("GET", "/docs/"), ("GET", "/docs/x"), ("GET", "/")])
def test_route_beside_a_public_one_is_not_public(method: str, path: str) -> None:
    door = Door(public=frozenset({"GET /docs"}))
    with door.gateway:
        assert door.call(method, path, headers={}).status == 401


# The function


def test_function_gets_a_real_context(door: Door) -> None:
    remaining: list[int] = []

    def slow(_: dict[str, Any], context: Any) -> str:
        remaining.append(context.get_remaining_time_in_millis())
        time.sleep(0.02)
        remaining.append(context.get_remaining_time_in_millis())
        return "ok"

    door.api = slow
    door.call()
    door.call()
    context, other = door.contexts
    assert context.function_name == "unified-crm-api"
    assert context.function_version == "$LATEST"
    assert context.invoked_function_arn == "arn:aws:lambda:us-east-1:123456789012:function:unified-crm-api"
    assert context.memory_limit_in_mb == "512"
    assert context.log_group_name == "/aws/lambda/unified-crm-api"
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", context.log_stream_name)
    assert (context.identity, context.client_context) == (None, None)
    assert re.fullmatch(r"[0-9a-f-]{36}", context.aws_request_id)
    assert context.aws_request_id != other.aws_request_id
    assert 28000 < remaining[1] < remaining[0] <= 29000


def test_failing_function_is_500_and_its_traceback_is_logged(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    door.api = failing
    answer = door.call()
    assert (answer.status, answer.json) == (500, {"message": "Internal Server Error"})
    assert b"broken inside" not in answer.body
    assert "broken inside" in caplog.text


def test_function_that_exits_is_500_and_the_gateway_goes_on(door: Door) -> None:
    def leave(*_: Any) -> None:
        raise SystemExit(3)

    door.api = leave
    assert door.call().status == 500
    assert door.returns("still here").body == b"still here"


def test_overrunning_function_is_503_in_time_and_the_next_call_is_served() -> None:
    release = threading.Event()
    door = Door(timeout=0.1)
    door.api = lambda *_: release.wait(5) and "late"
    with door.gateway:
        began = time.monotonic()
        answer = door.call()
        assert time.monotonic() - began < 1
        assert (answer.status, answer.json) == (503, {"message": "Service Unavailable"})
        assert door.contexts[-1].get_remaining_time_in_millis() == 0
        assert door.returns("next").body == b"next"
        release.set()


def test_one_event_at_a_time_as_in_a_sandbox(door: Door) -> None:
    inside: list[int] = []
    most: list[int] = []

    def busy(*_: Any) -> str:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return "ok"

    door.api = busy
    threads = [threading.Thread(target=door.call) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


# The answer


def test_status_headers_cookies_and_body_arrive(door: Door) -> None:
    answer = door.returns(
        {
            "statusCode": 418,
            "headers": {"Content-Type": "application/json", "X-Count": 3, "X-Flag": True},
            "multiValueHeaders": {"X-Old": ["1"]},
            "cookies": ["a=1; HttpOnly", "b=2"],
            "body": '{"a": "ü"}',
        }
    )
    assert (answer.status, answer.json) == (418, {"a": "ü"})
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers["x-count"], answer.headers["x-flag"]) == ("3", "true")
    assert answer.headers.get_all("set-cookie") == ["a=1; HttpOnly", "b=2"]
    assert answer.headers["x-old"] is None
    assert answer.headers["apigw-requestid"] == door.event["requestContext"]["requestId"]


def test_base64_body_is_decoded(door: Door) -> None:
    encoded = base64.b64encode(b"\x00\xff").decode()
    assert door.returns({"statusCode": 200, "body": encoded, "isBase64Encoded": True}).body == b"\x00\xff"


def test_answer_without_content_type_is_text(door: Door) -> None:
    assert door.returns({"statusCode": 200, "body": "hi"}).headers["content-type"] == "text/plain;charset=UTF-8"


@pytest.mark.parametrize(
    ("result", "body"),
    [
        ({"a": 1}, b'{"a": 1}'),
        ([1, 2], b"[1, 2]"),
        ("plain", b"plain"),
        (None, b"null"),
        ({"body": "x"}, b'{"body": "x"}'),
    ],
)
def test_result_without_status_is_taken_as_the_body(door: Door, result: Any, body: bytes) -> None:
    answer = door.returns(result)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [204, 304])
def test_answer_that_has_no_body_has_none(door: Door, status: int) -> None:
    answer = door.returns({"statusCode": status, "body": "ignored"})
    assert (answer.status, answer.body, answer.headers["content-length"]) == (status, b"", None)


@pytest.mark.parametrize(
    "result",
    [
        {"statusCode": "no number"},
        {"statusCode": 99},
        {"statusCode": 200, "body": {"not": "text"}},
        {"statusCode": 200, "body": "not base64!", "isBase64Encoded": True},
        {"statusCode": 200, "headers": {"X-A": "1\r\nX-B: 2"}},
        {"statusCode": 200, "headers": {"X A": "1"}},
        {"statusCode": 200, "headers": ["X-A"]},
        {"statusCode": 200, "headers": {"X-A": {"b": 1}}},
        {"statusCode": 200, "cookies": ["a=1\nb=2"]},
        {"statusCode": 200, "body": "x" * (6 * 1024 * 1024)},
        object(),
    ],
)  # fmt: skip
def test_result_that_is_no_answer_is_500(door: Door, result: Any) -> None:
    answer = door.returns(result)
    assert (answer.status, answer.json) == (500, {"message": "Internal Server Error"})


# The server


def test_nothing_is_left_after_stop() -> None:
    before = set(threading.enumerate())
    door = Door()
    door.gateway.start()
    with door.socket() as idle:
        assert door.call().status == 200
        began = time.monotonic()
        door.gateway.stop()
        door.gateway.stop()
        assert time.monotonic() - began < 1
        assert idle.recv(1) == b""
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        door.call()


def test_stop_does_not_wait_for_a_function_that_hangs() -> None:
    release = threading.Event()
    door = Door()
    door.api = lambda *_: release.wait(10)
    door.gateway.start()
    answers: list[Answer | Exception] = []

    def call() -> None:
        try:
            answers.append(door.call())
        except (OSError, http.client.HTTPException) as error:
            answers.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    while not door.events:
        time.sleep(0.005)
    began = time.monotonic()
    door.gateway.stop()
    assert time.monotonic() - began < 2
    caller.join(2)
    assert len(answers) == 1
    release.set()


def test_gateway_starts_again_on_its_port() -> None:
    door = Door()
    with door.gateway:
        port = door.gateway.port
        assert door.call().status == 200
    with door.gateway:
        assert door.gateway.port == port
        assert door.gateway.url == f"http://127.0.0.1:{port}"
        assert door.call().status == 200


def test_taken_port_is_an_oserror(door: Door) -> None:
    other = Gateway(failing, failing, port=door.gateway.port)
    with pytest.raises(OSError, match="in use"):
        other.start()


def test_access_log_is_silent_unless_asked_for(door: Door, capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    logged = Door(access_log=lines.append)
    with logged.gateway:
        logged.call("POST", "/a/b?secret=1", "{}")
    door.call()
    assert re.fullmatch(r"POST /a/b 200 \d+ ms", lines[0])
    assert capfd.readouterr() == ("", "")
