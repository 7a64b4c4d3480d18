"""What a provider's error means: its reply, read by the rules in its file, as a `RemoteError`."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Mapping
from typing import Any

from unified_crm import rate_limits
from unified_crm.errors import RemoteError
from unified_crm.provider import Provider, Reply

MAX_RAW_LETTERS = 256 * 1024
MAX_MESSAGE_LETTERS = 2000
MAX_DEPTH = 20

_MEANING = {
    400: "invalid",
    401: "needs_reauth",
    403: "forbidden",
    404: "not_found",
    409: "duplicate",
    422: "invalid",
    429: "rate_limited",
}
"""What a status means where no rule of the provider's says more."""


def explain(provider: Provider, reply: Reply, method: str | None = None) -> RemoteError:
    """The error that `reply` to a request of `method` is to a caller.

    Where a provider says with a status of 2xx that it refused, the status is the one that its body names, else 400.
    """
    body = _bounded(reply.content())
    if reply.status < 400:
        named = body.get("errorCode", body.get("code", body.get("status"))) if isinstance(body, Mapping) else None
        status = named if isinstance(named, int) and 400 <= named < 600 else 400
        reply = Reply(status, reply.headers, reply.body)
    code = _code(provider, reply, method)
    message = (
        _message(body)
        or f"{provider.label} answered {reply.status} {http.client.responses.get(reply.status, '')}".rstrip()
    )
    insight: dict[str, dict[str, Any]] = {
        "remote_error": {
            "description": f"{provider.label} answered with this error.",
            "value": {"provider": provider.name, "status": reply.status},
        }
    }
    after = {"retry-after": str(rate_limits.retry_after(reply, provider.rate_limit))}
    headers: Mapping[str, str] = after if "retry-after" in reply.headers else {}
    if code == "rate_limited":
        headers = rate_limits.headers(reply, provider.rate_limit)
        insight["rate_limit_error"] = {
            "description": f"{provider.label} wants fewer calls. Seconds to wait:",
            "value": int(headers["retry-after"]),
        }
    if code in ("missing_scope", "forbidden"):
        insight["forbidden_error"] = {
            "description": f"The account's credentials do not allow this at {provider.label}.",
            "value": {"missing_scopes": _listed(body, provider.scope_keys)},
        }
    return RemoteError(message, code=code, remote_status=reply.status, body=body, insight=insight, headers=headers)


def failed(provider: Provider, reply: Reply) -> bool:
    """Whether a reply is an error: by its status, and by what its body says where the provider has a key for that.

    A body that says that all is well is believed with a status of 4xx too, since a provider was seen to answer a
    deletion that succeeded with 410; with 5xx it is not.
    """
    if provider.success_key is None or reply.status >= 500:
        return reply.status >= 400
    body = reply.content()
    said = body.get(provider.success_key) if isinstance(body, Mapping) else None
    return not said if isinstance(said, bool) else reply.status >= 400


def _code(provider: Provider, reply: Reply, method: str | None) -> str:
    text = reply.body[:MAX_RAW_LETTERS].decode("utf-8", "replace")
    for rule in provider.errors:
        if rule.method not in (None, method):
            continue
        if rule.status == reply.status and (rule.text is None or re.search(rule.text, text, re.IGNORECASE)):
            return rule.code
    return _MEANING.get(reply.status, "remote_error")


def _bounded(body: Any) -> Any:
    """A body that a caller can be given: an answer of ours is at most 6 MB, and one nested without end is no JSON."""
    try:
        text = body if isinstance(body, str) else json.dumps(body)
    except (RecursionError, ValueError):
        return "[not shown: nested too deeply]"
    return body if len(text) <= MAX_RAW_LETTERS else text[:MAX_RAW_LETTERS] + " [cut]"


def _listed(body: Any, keys: tuple[str, ...], depth: int = 0) -> list[str]:
    """What stands under one of `keys`, a text or a list of them, wherever in the body, each once."""
    if depth > MAX_DEPTH:
        return []
    if isinstance(body, list):
        found = [text for each in body for text in _listed(each, keys, depth + 1)]
    elif isinstance(body, Mapping):
        said = [value for key, value in body.items() if key in keys]
        found = [str(each) for value in said for each in (value if isinstance(value, list) else [value])]
        found += [text for key, value in body.items() if key not in keys for text in _listed(value, keys, depth + 1)]
    else:
        found = []
    return list(dict.fromkeys(found))


def _message(body: Any) -> str | None:
    """The sentence in a provider's error body. A text that is a page, and not a sentence, is none."""
    if isinstance(body, str) and (len(body) > 300 or "<" in body):
        return None
    message = message_of(body)
    return message and message[:MAX_MESSAGE_LETTERS]


def message_of(body: Any, depth: int = 0) -> str | None:
    """The first sentence in what a provider's JSON error body holds, wherever providers put it."""
    if isinstance(body, str):
        return body.strip() or None
    if depth > MAX_DEPTH:
        return None
    if isinstance(body, list):
        return next((found for each in body if (found := message_of(each, depth + 1))), None)
    if not isinstance(body, Mapping):
        return None
    if violations := _violations(body):
        return violations
    for key in ("message", "error", "error_description", "detail", "title"):
        if (value := body.get(key)) and (found := message_of(value, depth + 1)):
            return found
    fields = body.get("field-errors")
    if isinstance(fields, Mapping) and fields:
        return "; ".join(f"{name}: {message_of(value, depth + 1) or value}" for name, value in fields.items())
    return message_of(body.get("errors"), depth + 1)


def _violations(body: Mapping[str, Any]) -> str | None:
    """What a problem document says of single fields, which its title and detail leave open (RFC 9457, extensions)."""
    items = body.get("validation-errors")
    found = [
        f"{error.get('path')}: {error.get('detail')}"
        for item in (items if isinstance(items, list) else [])
        if isinstance(item, Mapping) and isinstance(item.get("errors"), list)
        for error in item["errors"]
        if isinstance(error, Mapping) and error.get("path")
    ]
    return "; ".join(found) or None
