"""Requests and answers as an HTTP API of API Gateway hands them over: payload 2.0, and nothing of CRMs.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

USED_HEADERS = ("accept-encoding", "content-type", "idempotency-key", "if-none-match")


class Event(NamedTuple):
    """A request. `path` is without the stage, `query` as it was sent, and names of `headers` are in lower case.

    `body` is as it came, base64 where `encoded` says so. `context` is what the authorizer said of the caller. Of the
    headers, USED_HEADERS are texts.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: str
    encoded: bool
    request_id: str
    context: Mapping[str, Any]


class Context(Protocol):
    """What is used of Lambda's context."""

    aws_request_id: str
    function_name: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the call."""


class Response:
    """An answer. `body` is text, base64 of bytes where `encoded` says so."""

    def __init__(
        self,
        status_code: int,
        content_type: str | None = None,
        body: str | None = "",
        headers: Mapping[str, str] | None = None,
        *,
        encoded: bool = False,
    ) -> None:
        self.status_code, self.body, self.encoded = status_code, body or "", encoded
        self.headers = {**({"Content-Type": content_type} if content_type else {}), **(headers or {})}

    def to_lambda(self) -> dict[str, Any]:
        """What the function returns to API Gateway."""
        return {
            "statusCode": self.status_code,
            "headers": self.headers,
            "body": self.body,
            "isBase64Encoded": self.encoded,
        }


def read(event: Any) -> Event | None:
    """The request in an event, None where it is no such event. Anyone who may invoke the function can send others."""
    try:
        inner = event["requestContext"]
        http = inner["http"]
        headers = event.get("headers") or {}
        path, stage = event["rawPath"], inner["stage"]
        if stage != "$default":
            path = path.removeprefix(f"/{stage}")
        found = Event(
            http["method"],
            path,
            event.get("rawQueryString") or "",
            {name.lower(): value for name, value in headers.items()},
            event.get("body") or "",
            event.get("isBase64Encoded") or False,
            inner["requestId"],
            (inner.get("authorizer") or {}).get("lambda") or {},
        )
    except (AttributeError, KeyError, TypeError):
        return None
    used = [found.headers[name] for name in USED_HEADERS if name in found.headers]
    texts = (found.method, path, found.query, found.body, found.request_id, *used)
    fits = all(isinstance(each, str) for each in texts) and isinstance(found.context, Mapping)
    return found if fits and isinstance(found.encoded, bool) else None
