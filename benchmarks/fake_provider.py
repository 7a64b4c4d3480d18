"""HubSpot, Close and the two AWS services, in a process of its own: answers that were made before, given at once.

    with Fake(pipelines=100, stages=10) as fake:
        ...  # at fake.port

No simulator: it looks at a request's first line and at nothing else, so that its own time does not hide what is
measured. AWS stands at the same port: moto takes 3 ms more for a secret, and some 10 ms more for the first.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from benchmarks import work
from benchmarks.artefact import ROOT
from benchmarks.wire import Connection, request

CREATE_HUBSPOT = "/crm/v3/pipelines/deals"
CREATE_CLOSE = "/api/v1/pipeline/"
CHUNK = 8192
"""The bytes of a chunk, as servers commonly write them."""


class Fake:
    """Use it as a context manager. Its list has `pipelines` of `stages` each, and it takes `seconds` for an answer.

    `chunked`: providers' answers come in chunks, and not with their length.
    """

    def __init__(self, pipelines: int = 1, stages: int = 1, seconds: float = 0, *, chunked: bool = False) -> None:
        self._arguments = (str(pipelines), str(stages), str(seconds), *(["chunked"] if chunked else []))
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.fake_provider", *self._arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process
        assert self._process.stdout
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    @property
    def count(self) -> int:
        """How many requests have come to the providers."""
        return self.seen()["count"]

    def seen(self) -> dict[str, int]:
        """That `count`, the bytes of the last of them, `asked`, and of the last item stored in a table, `item`."""
        found: dict[str, int] = json.loads(Connection(self.port).exchange(request("GET", "/seen"))[1])
        return found


class _Answers:
    """By the beginning of a request's first line, the whole bytes of its answer."""

    def __init__(self, pipelines: int, stages: int, *, chunked: bool) -> None:
        listed = {"results": [work.hubspot_pipeline(number, stages) for number in range(1, pipelines + 1)]}
        one = {"results": [work.hubspot_pipeline(1, 1)]}
        created = work.hubspot_pipeline(0, len(work.STAGES))
        self._prepared = {
            f"POST {CREATE_HUBSPOT}".encode(): _answer(201, created, chunked=chunked),
            f"GET {CREATE_HUBSPOT}".encode(): _answer(200, listed, chunked=chunked),
            b"GET /crm/v3/pipelines/contacts": _answer(200, one, chunked=chunked),
            f"POST {CREATE_CLOSE}".encode(): _answer(200, work.close_pipeline(), chunked=chunked),
        }
        self._any = json.dumps(work.SECRETS[work.HUBSPOT])
        self._secrets = {f"unified-crm/accounts/{id_}": json.dumps(secret) for id_, secret in work.SECRETS.items()}
        self._seen = {"count": 0, "asked": 0, "item": 0}

    def to(self, head: bytes, body: bytes) -> bytes:
        line = head.split(b" HTTP/", 1)[0]
        if line == b"POST /":
            return _aws(self._aws(head.lower(), json.loads(body)))
        if line == b"GET /seen":
            return _answer(200, self._seen)
        self._seen["count"] += 1
        self._seen["asked"] = len(head) + len(b"\r\n\r\n") + len(body)
        return self._prepared.get(line) or _answer(404, {"asked": line.decode()})

    def _aws(self, head: bytes, asked: dict[str, Any]) -> dict[str, Any]:
        if b"secretsmanager.getsecretvalue" in head:
            name = asked["SecretId"]
            return {
                "ARN": f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{name}",
                "Name": name,
                "SecretString": self._secrets.get(name, self._any),
                "VersionId": "0d3b1c9e-5d0f-4d7e-9c1b-2f6f0a7e4b11",
                "CreatedDate": 1769860800.0,
            }
        if b"dynamodb_20120810.getitem" in head:
            return {"Item": {"token_hash": {"S": "0" * 64}, "tenant": {"S": "demo"}}}
        if b"dynamodb_20120810.updateitem" in head:
            names, values = asked["ExpressionAttributeNames"].values(), asked["ExpressionAttributeValues"].values()
            stored = [text for each in (*values, *asked["Key"].values()) for text in each.values()]
            self._seen["item"] = sum(len(str(each).encode()) for each in (*names, *stored))
        return {}


def _answer(status: int, content: Any, *, chunked: bool = False) -> bytes:
    body = json.dumps(content, separators=(",", ":")).encode()
    framing = f"content-length: {len(body)}"
    if chunked:
        framing = "transfer-encoding: chunked"
        parts = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))
    head = (
        f"HTTP/1.1 {status} OK\r\n"
        "date: Sat, 31 Jan 2026 12:00:00 GMT\r\n"
        "content-type: application/json;charset=utf-8\r\n"
        f"{framing}\r\n"
        "x-hubspot-ratelimit-max: 190\r\n"
        "x-hubspot-ratelimit-remaining: 189\r\n"
        "x-hubspot-ratelimit-interval-milliseconds: 10000\r\n\r\n"
    )
    return head.encode() + body


def _aws(content: dict[str, Any]) -> bytes:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class _Protocol(asyncio.Protocol):
    """Keeps the connection, and answers each request when it is there as a whole."""

    _transport: asyncio.Transport

    def __init__(self, answers: _Answers, seconds: float) -> None:
        self._answers, self._seconds = answers, seconds
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            _, found, rest = head.lower().partition(b"content-length:")
            whole = end + 4 + (int(rest.split(b"\r\n", 1)[0]) if found else 0)
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + 4 : whole], self._received[whole:]
            answer = self._answers.to(head, body)
            if self._seconds and not head.startswith((b"POST / ", b"GET /seen ")):
                asyncio.get_running_loop().call_later(self._seconds, self._transport.write, answer)
            else:
                self._transport.write(answer)


async def _serve(pipelines: int, stages: int, seconds: float, *, chunked: bool) -> None:
    answers = _Answers(pipelines, stages, chunked=chunked)
    server = await asyncio.get_running_loop().create_server(lambda: _Protocol(answers, seconds), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), chunked="chunked" in sys.argv))
