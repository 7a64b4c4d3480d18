"""A request's JSON body, read strictly: whatever two readers could understand differently is refused."""

from __future__ import annotations

import json
from typing import Any

from unified_crm.errors import InvalidJson, PayloadTooLarge, UnsupportedMediaType

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
_LARGEST = 2**63


def parse(body: bytes, content_type: str | None) -> Any:
    """The JSON value in `body`; an empty body is an empty object.

    Raises PayloadTooLarge, UnsupportedMediaType, or InvalidJson: malformed, not UTF-8, a key twice in one object, NaN,
    a number beyond 64 bits, a lone surrogate, nested deeper than 64.
    """
    if len(body) > MAX_BYTES:
        raise PayloadTooLarge(f"The body is larger than {MAX_BYTES} bytes")
    if not body.strip():
        return {}
    media_type = (content_type or "").partition(";")[0].strip().lower() or "application/json"
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(f"The body must be application/json, not {media_type[:100]}")
    try:
        value = _DECODER.decode(body.decode("utf-8"))
        # Most bodies can be neither too deep nor hold half a letter: this much shows in the bytes.
        if b"\\u" in body or body.count(b"{") + body.count(b"[") > MAX_DEPTH:
            _check(value, 1)
    except InvalidJson:
        raise
    except RecursionError:
        raise InvalidJson(f"The body is nested deeper than {MAX_DEPTH}") from None
    except ValueError as error:  # JSON and UTF-8 errors alike; they name the place
        raise InvalidJson(f"The body is not JSON: {error}") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidJson(f"The body has the key {key[:100]!r} twice in one object")
        found[key] = value
    return found


def _refuse(name: str) -> Any:
    raise InvalidJson(f"{name} is not JSON")


def _integer(text: str) -> int:
    value = int(text) if len(text) <= 20 else _LARGEST
    if not -_LARGEST <= value < _LARGEST:
        raise InvalidJson("The body has a number beyond 64 bits")
    return value


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise InvalidJson("The body has a number beyond 64 bits")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse, parse_int=_integer, parse_float=_float)


def _check(value: Any, depth: int) -> None:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidJson("The body has half a surrogate pair in a text") from None
        return
    if not isinstance(value, dict | list):
        return
    if depth > MAX_DEPTH:
        raise InvalidJson(f"The body is nested deeper than {MAX_DEPTH}")
    for each in value:
        _check(each, depth + 1)
    if isinstance(value, dict):
        for each in value.values():
            _check(each, depth + 1)
