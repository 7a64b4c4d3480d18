"""A front door that stands for API Gateway's HTTP API, payload format 2.0, on this machine.

It answers over real HTTP, turns each request into the event that the cloud would make, runs the Lambda authorizer
first, and gives both functions a real context with a deadline. What is documented follows
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html and
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html

Where those pages are silent, it does what others saw the real service do:

- `rawPath` is not raw: it is percent-decoded, twice, and cut at a `?` that the first pass uncovers; a path that does
  not decode is refused. Captures: https://github.com/hotsock/voker/blob/main/vokerhttp/testdata/ingress-paths.json,
  and https://github.com/honojs/hono/issues/2156. (`sam local` decodes once.)
- Every body is base64 except that of text, JSON, XML and JavaScript; a body without a media type too:
  https://github.com/ministackorg/ministack/pull/766. That `+json` and `+xml` count as text is an assumption.
- A function that overruns answers 503 here; the real service may answer 500 when Lambda's timeout ends first.
"""

import base64
import email.utils
import json
import logging
import os
import queue
import re
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from email.errors import FirstHeaderLineIsContinuationDefect, HeaderDefect, MissingHeaderBodySeparatorDefect
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote_to_bytes

Event = dict[str, Any]
Function = Callable[[Event, Any], Any]

ACCOUNT, API, REGION = "123456789012", "local", "us-east-1"
AUTHORIZER_TIMEOUT = 10.0  # seconds, the most that an HTTP API waits for its authorizer
MAX_REQUEST = 10 * 1024 * 1024  # bytes, API Gateway's quota for a body
MAX_ANSWER = 6 * 1024 * 1024  # bytes, Lambda's quota for what a function returns
IDLE = 60.0  # seconds that a silent client may keep its connection

TEXTUAL = re.compile(r"text/.*|application/(json|xml|javascript|[^;]*\+json|[^;]*\+xml)")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
MALFORMED = (FirstHeaderLineIsContinuationDefect, HeaderDefect, MissingHeaderBodySeparatorDefect)
HOP_BY_HOP = {"connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}

log = logging.getLogger(__name__)


class LambdaContext:
    """What Lambda hands to a handler beside the event.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    function_version = "$LATEST"
    memory_limit_in_mb = "512"  # a string, as the runtime passes it on
    identity = None
    client_context = None

    def __init__(self, function_name: str, timeout: float) -> None:
        """`timeout` in seconds, counted from now."""
        self.function_name = function_name
        self.invoked_function_arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function_name}"
        self.aws_request_id = str(uuid.uuid4())
        self.log_group_name = f"/aws/lambda/{function_name}"
        self.log_stream_name = f"{datetime.now(UTC):%Y/%m/%d}/[{self.function_version}]{uuid.uuid4().hex}"
        self._deadline = time.monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.monotonic()) * 1000))


class Refusal(Exception):
    """An answer of the gateway's own: HTTP's reason phrase and nothing more, as the real one gives."""

    def __init__(self, status: HTTPStatus, message: str | None = None, close: bool = False) -> None:
        super().__init__(status)
        self.status = status
        self.message = message or status.phrase
        self.close = close  # the rest of the connection cannot be understood


class _Invoker:
    """One function: runs it in a worker thread, so that an overrun ends for the caller when its time is up."""

    def __init__(self, function: Function, name: str, timeout: float) -> None:
        self.function, self.name, self.timeout = function, name, timeout
        # One event at a time, as in one Lambda sandbox: handlers may keep state in their modules, and Powertools does.
        # An overrun gives its place up, as its sandbox would be killed.
        self._sandbox = threading.Lock()
        self._waiting: set[queue.SimpleQueue[Any]] = set()
        self._workers: set[threading.Thread] = set()
        self._stopped = False

    def __call__(self, event: Event) -> Any:
        """What the function returned, as JSON carries it. Raises Refusal: 500 if it failed, 503 if it overran."""
        if not self._sandbox.acquire(timeout=self.timeout):
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            return self._run(event)
        finally:
            self._sandbox.release()

    def _run(self, event: Event) -> Any:
        if self._stopped:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE)
        outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()
        arguments = (json.loads(json.dumps(event)), LambdaContext(self.name, self.timeout), outcome)
        worker = threading.Thread(target=self._work, args=arguments, name=self.name, daemon=True)
        self._waiting.add(outcome)
        self._workers.add(worker)
        try:
            worker.start()
            result = outcome.get(timeout=self.timeout)
        except queue.Empty:
            log.error("%s ran for more than %g s", self.name, self.timeout)
            result = Refusal(HTTPStatus.SERVICE_UNAVAILABLE)
        finally:
            self._waiting.discard(outcome)
        if isinstance(result, Refusal):
            raise result
        return result

    def _work(self, event: Event, context: LambdaContext, outcome: "queue.SimpleQueue[Any]") -> None:
        try:
            answer = json.dumps(self.function(event, context), default=_number, ensure_ascii=False)
            size = len(answer.encode())
            if size <= MAX_ANSWER:
                outcome.put(json.loads(answer))
            else:
                log.error("%s answered %d bytes, Lambda carries %d", self.name, size, MAX_ANSWER)
                outcome.put(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR))
        except BaseException:  # noqa: BLE001 - SystemExit too: whatever ends the function, the gateway goes on
            log.error("%s failed\n%s", self.name, traceback.format_exc())
            outcome.put(Refusal(HTTPStatus.INTERNAL_SERVER_ERROR))
        finally:
            self._workers.discard(threading.current_thread())

    def start(self) -> None:
        self._stopped = False

    def stop(self, patience: float) -> None:
        """Answer those that wait, and give the workers `patience` seconds to end; a thread cannot be killed."""
        self._stopped = True
        for outcome in list(self._waiting):
            outcome.put(Refusal(HTTPStatus.SERVICE_UNAVAILABLE))
        deadline = time.monotonic() + patience
        for worker in list(self._workers):
            if worker.ident is not None:
                worker.join(max(0.0, deadline - time.monotonic()))


def _number(value: Any) -> int | float:
    """The one thing beside JSON's own that the runtime carries: a number as DynamoDB's resource hands it out."""
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return int(value) if value == value.to_integral_value() else float(value)


class Gateway:
    """The front door. Use it as a context manager, or with `start()` and `stop()`.

    `api` and `authorizer` are Lambda handlers. `public` holds the routes that need no token, written as API Gateway
    writes them: "GET /docs", "ANY /docs" or, for short, "/docs". Everything else is `$default`, behind the authorizer.
    `port` 0 takes a free one. `timeout` is the function's, in seconds. `access_log` is given one line for each answer.
    """

    def __init__(
        self,
        api: Function,
        authorizer: Function,
        host: str = "127.0.0.1",
        port: int = 8000,
        public: Set[str] = frozenset(),
        timeout: float = 29.0,
        function_name: str = "unified-crm-api",
        authorizer_name: str = "unified-crm-authorizer",
        access_log: Callable[[str], None] | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.public = frozenset(route if " " in route else f"ANY {route}" for route in public)
        self.access_log = access_log
        self._api = _Invoker(api, function_name, timeout)
        self._authorizer = _Invoker(authorizer, authorizer_name, min(timeout, AUTHORIZER_TIMEOUT))
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The origin to call, without a slash at its end."""
        host = "127.0.0.1" if self.host in ("", "0.0.0.0") else self.host
        return f"http://{host}:{self.port}"

    def start(self) -> Self:
        """Listen. Raises OSError when the address cannot be taken."""
        self._server = _Server((self.host, self.port), self)
        self.port = self._server.server_address[1]
        for function in (self._api, self._authorizer):
            function.start()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="gateway", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening, cut the connections that are open, wait for the threads. Safe to call twice."""
        server, thread, self._server, self._thread = self._server, self._thread, None, None
        if server is None or thread is None:
            return
        server.shutdown()
        thread.join()
        for function in (self._api, self._authorizer):
            function.stop(patience=0.5)
        server.cut_connections()
        server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def answer(self, event: Event) -> Event:
        """One request through authorizer and function: statusCode, headers, cookies, body (bytes)."""
        request = event["requestContext"]
        request["routeKey"] = event["routeKey"] = self._route(request["http"]["method"], event["rawPath"])
        if event["routeKey"] == "$default":
            request["authorizer"] = {"lambda": self._authorize(event)}
        return _answer(self._api(event))

    def _route(self, method: str, path: str) -> str:
        return next((key for key in (f"{method} {path}", f"ANY {path}") if key in self.public), "$default")

    def _authorize(self, event: Event) -> Any:
        """The authorizer's own `context`, which reaches the function."""
        token = event["headers"].get("authorization")
        if not token:  # the real gateway asks nobody when an identity source is missing or empty
            raise Refusal(HTTPStatus.UNAUTHORIZED)
        request = event["requestContext"]
        question = {key: value for key, value in event.items() if key not in ("body", "isBase64Encoded")} | {
            "type": "REQUEST",
            "routeArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{API}/$default/{request['http']['method']}"
            f"{event['rawPath']}",
            "identitySource": [token],
        }
        try:
            verdict = self._authorizer(question)
        except Refusal:
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR) from None
        if not isinstance(verdict, dict) or not isinstance(verdict.get("isAuthorized"), bool):
            log.error("%s answered %.200r, not a simple response", self._authorizer.name, verdict)
            raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR)
        if not verdict["isAuthorized"]:
            raise Refusal(HTTPStatus.FORBIDDEN)
        return verdict.get("context")


def _answer(result: Any) -> Event:
    """A function's result as an answer. Payload 2.0 infers one from a result without `statusCode`."""
    if not isinstance(result, dict) or "statusCode" not in result:
        body = result if isinstance(result, str) else json.dumps(result)
        return {
            "statusCode": 200,
            "headers": {"content-type": "application/json"},
            "cookies": [],
            "body": body.encode(),
        }
    try:
        status = int(result["statusCode"])
        headers = {name: _text(value) for name, value in (result.get("headers") or {}).items()}
        cookies = [_text(cookie) for cookie in result.get("cookies") or []]
        content = ("" if result.get("body") is None else result["body"]).encode()
        if result.get("isBase64Encoded"):
            content = base64.b64decode(content, validate=True)
        if not 200 <= status <= 599 or not all(map(TOKEN.fullmatch, headers)):
            raise ValueError("not an HTTP status or header name")
    except (AttributeError, TypeError, ValueError) as error:
        log.error("the function's answer is not one: %s", error)
        raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR) from None
    if "content-type" not in {name.lower() for name in headers}:
        headers["content-type"] = "text/plain;charset=UTF-8"
    return {"statusCode": status, "headers": headers, "cookies": cookies, "body": content}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int, float)) or re.search(r"[\r\n\0]", str(value)):
        raise TypeError("a header's value has one line of text")
    return str(value)


def _path(raw: str) -> str:
    """`rawPath` of the event, as the module's docstring tells."""
    path = raw.encode("latin-1")
    for last in (False, True):
        if BAD_ESCAPE.search(path):
            raise Refusal(HTTPStatus.BAD_REQUEST)
        path = unquote_to_bytes(path)
        if not last:
            path = path.partition(b"?")[0]
    try:
        return path.decode()
    except UnicodeDecodeError:
        raise Refusal(HTTPStatus.BAD_REQUEST) from None


def _query(raw: str) -> dict[str, str]:
    """`queryStringParameters`: decoded, the values of a repeated key joined by commas."""
    values: dict[str, str] = {}
    for key, value in parse_qsl(raw, keep_blank_values=True, errors="replace"):
        values[key] = f"{values[key]},{value}" if key in values else value
    return values


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close() waits for them
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], gateway: Gateway) -> None:
        self.gateway = gateway
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._cut = False
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks DNS for this machine's name

    @contextmanager
    def connection(self, client: socket.socket) -> Iterator[None]:
        """Remember an open connection for as long as it is served."""
        with self._lock:
            self._open.add(client)
            if self._cut:
                _shut(client)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(client)

    def cut_connections(self) -> None:
        with self._lock:
            self._cut = True
            for client in self._open:
                _shut(client)

    def handle_error(self, *_: Any) -> None:
        log.exception("the gateway itself failed")


def _shut(client: socket.socket) -> None:
    with suppress(OSError):  # the client was faster
        client.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE

    def handle(self) -> None:
        # suppressed: the client left, or went to sleep in the middle of its request
        with self.server.connection(self.connection), suppress(ConnectionError, TimeoutError):
            super().handle()

    def handle_one_request(self) -> None:
        self.close_connection = True
        self.began = time.monotonic()
        self.command = self.request_version = ""
        try:
            self.raw_requestline = self.rfile.readline(65537)
        except (ConnectionError, TimeoutError):
            return
        if not self.raw_requestline:
            return
        self.request_id = base64.b64encode(os.urandom(11)).decode()
        try:
            if len(self.raw_requestline) > 65536:
                raise Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, close=True)
            if not self.parse_request():  # send_error() has answered
                return
            target = self._check_head()
            body = self._read_body()
            answer = self.server.gateway.answer(self._event(target, body))
        except Refusal as refusal:
            self._refuse(refusal)
        else:
            self._send(answer)

    def handle_expect_100(self) -> bool:
        return True  # said only when the body is about to be read: see _read_body

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """What http.server has to say about a request line or headers that it cannot parse."""
        self._refuse(Refusal(HTTPStatus(code), close=True))

    def _check_head(self) -> str:
        """The request's target. Refuses what http.server lets pass and a gateway would not."""
        words = self.raw_requestline.decode("latin-1").split()
        names = [name.lower() for name in self.headers]
        hosts = names.count("host")
        folded = any(re.search(r"[\r\n\0]", value) for value in self.headers.values())
        if (
            len(words) != 3
            or not TOKEN.fullmatch(words[0])
            or any(isinstance(defect, MALFORMED) for defect in self.headers.defects)
            or not all(map(TOKEN.fullmatch, names))
            or folded
            or hosts > 1
            or (hosts == 0 and self.request_version >= "HTTP/1.1")
        ):
            raise Refusal(HTTPStatus.BAD_REQUEST, close=True)
        target = re.sub(r"^https?://[^/?#]*", "", words[1], flags=re.IGNORECASE)
        if target.startswith("?"):
            target = "/" + target
        if not target.startswith("/") and (words[0], target) != ("OPTIONS", "*"):
            raise Refusal(HTTPStatus.BAD_REQUEST, close=True)
        return target

    def _read_body(self) -> bytes:
        lengths = {length.strip() for length in self.headers.get_all("content-length", [])}
        codings = [coding.strip().lower() for coding in self.headers.get_all("transfer-encoding", [])]
        if len(lengths) > 1 or (lengths and codings) or not all(re.fullmatch(r"[0-9]+", length) for length in lengths):
            raise Refusal(HTTPStatus.BAD_REQUEST, close=True)
        if codings and codings != ["chunked"]:
            raise Refusal(HTTPStatus.NOT_IMPLEMENTED, close=True)
        length = int(next(iter(lengths), "0"))
        if length > MAX_REQUEST:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Request Entity Too Large", close=True)
        if (length or codings) and self.headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return self._read_chunks() if codings else self._read(length)

    def _read(self, length: int) -> bytes:
        data = self.rfile.read(length)
        if len(data) < length:
            raise ConnectionAbortedError("the client left in the middle of its body")
        return data

    def _read_chunks(self) -> bytes:
        """A body in chunks, https://www.rfc-editor.org/rfc/rfc9112#section-7.1. Trailers are dropped."""
        chunks = bytearray()
        while True:
            size = re.fullmatch(rb"([0-9A-Fa-f]{1,8})[ \t]*(;[^\r\n]*)?\r\n", self.rfile.readline(1024))
            if size is None:
                raise Refusal(HTTPStatus.BAD_REQUEST, close=True)
            length = int(size[1], 16)
            if len(chunks) + length > MAX_REQUEST:
                raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Request Entity Too Large", close=True)
            if length == 0:
                break
            chunks += self._read(length)
            if self._read(2) != b"\r\n":
                raise Refusal(HTTPStatus.BAD_REQUEST, close=True)
        for _ in range(100):
            if self.rfile.readline(65537) in (b"\r\n", b""):
                return bytes(chunks)
        raise Refusal(HTTPStatus.BAD_REQUEST, close=True)

    def _event(self, target: str, body: bytes) -> Event:
        raw_path, _, query = target.partition("#")[0].partition("?")
        query = query.encode("latin-1").decode(errors="replace")  # http.server reads bytes as Latin-1
        path, source = _path(raw_path), self.client_address[0]
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            key = name.lower()
            if key not in HOP_BY_HOP and key != "cookie":
                headers[key] = f"{headers[key]},{value}" if key in headers else value
        host, now = headers.get("host", "localhost"), datetime.now(UTC)
        headers["content-length"] = str(len(body))
        headers["x-amzn-trace-id"] = f"Root=1-{int(now.timestamp()):08x}-{uuid.uuid4().hex[:24]}"
        headers["x-forwarded-for"] = ", ".join(filter(None, (headers.get("x-forwarded-for"), source)))
        headers["x-forwarded-port"] = str(self.server.server_address[1])
        headers["x-forwarded-proto"] = "http"
        event: Event = {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": dict(sorted(headers.items())),
            "requestContext": {
                "accountId": ACCOUNT,
                "apiId": API,
                "domainName": host.partition(":")[0],
                "domainPrefix": host.partition(":")[0].partition(".")[0],
                "http": {
                    "method": self.command,
                    "path": path,
                    "protocol": self.request_version,
                    "sourceIp": source,
                    "userAgent": headers.get("user-agent", ""),
                },
                "requestId": self.request_id,
                "routeKey": "$default",
                "stage": "$default",
                "time": f"{now:%d/%b/%Y:%H:%M:%S +0000}",
                "timeEpoch": int(now.timestamp() * 1000),
            },
            "isBase64Encoded": False,
        }
        cookies = [one.strip() for line in self.headers.get_all("cookie", []) for one in line.split(";") if one.strip()]
        if cookies:
            event["cookies"] = cookies
        if query:
            event["queryStringParameters"] = _query(query)
        if body:
            media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
            event["isBase64Encoded"] = not TEXTUAL.fullmatch(media_type)
            event["body"] = (
                base64.b64encode(body).decode() if event["isBase64Encoded"] else body.decode(errors="replace")
            )
        return event

    def _refuse(self, refusal: Refusal) -> None:
        body = json.dumps({"message": refusal.message}).encode()
        headers = {"content-type": "application/json"}
        self._send({"statusCode": refusal.status, "headers": headers, "cookies": [], "body": body}, close=refusal.close)
        if refusal.close:
            self._drain()

    def _send(self, answer: Event, close: bool = False) -> None:
        """The whole answer in one write."""
        status = int(answer["statusCode"])
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
        body: bytes = answer["body"]
        if close or self.request_version in ("", "HTTP/0.9"):
            self.close_connection = True
        head = [
            f"HTTP/1.1 {status} {phrase}",
            f"date: {email.utils.formatdate(usegmt=True)}",
            f"apigw-requestid: {self.request_id}",
            f"connection: {'close' if self.close_connection else 'keep-alive'}",
        ]
        for name, value in answer["headers"].items():
            if name.lower() not in HOP_BY_HOP | {"content-length", "date", "apigw-requestid"}:
                head.append(f"{name}: {value}")
        head += [f"set-cookie: {cookie}" for cookie in answer["cookies"]]
        if status not in (204, 304):
            head.append(f"content-length: {len(body)}")
        if status in (204, 304) or self.command == "HEAD":
            body = b""
        self.wfile.write("\r\n".join([*head, "", ""]).encode() + body)
        if self.server.gateway.access_log:
            line = self.raw_requestline[:200].decode("latin-1").partition(" HTTP/")[0].partition("?")[0]
            took = (time.monotonic() - self.began) * 1000
            self.server.gateway.access_log(f"{line.strip()!s} {status} {took:.0f} ms")

    def _drain(self) -> None:
        """Read on a little before closing: unread bytes would make the kernel reset the connection, and the client
        lose the answer."""
        deadline = time.monotonic() + 2.0
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(0.5)
            while time.monotonic() < deadline and self.connection.recv(1 << 16):
                continue

    def log_message(self, format: str, *args: Mapping[str, Any]) -> None:  # noqa: A002 - http.server's name
        pass
