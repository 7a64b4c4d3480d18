"""A plain HTTP client for the tests of the simulators: one request, one connection, nothing hidden."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from local.simulators.base import Simulator


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Lower-case names."""
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    simulator: Simulator,
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 5,
) -> Answer:
    """Send one request as the demo account. `body`: bytes as they are, anything else as JSON; `headers` on top."""
    payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    content = {} if payload is None else {"Content-Type": "application/json"}
    sent = {"Accept": "*/*", **content, **simulator.authorization(simulator.demo_account), **(headers or {})}
    connection = HTTPConnection(urlsplit(simulator.url).netloc, timeout=timeout)
    try:
        connection.request(method, path, payload, {key: value for key, value in sent.items() if value})
        with connection.getresponse() as response:
            received = {key.lower(): value for key, value in response.getheaders()}
            return Answer(response.status, received, response.read())
    finally:
        connection.close()
