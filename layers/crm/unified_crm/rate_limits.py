"""A provider's rate limit, as the `ratelimit-*` headers that callers get, whichever form the provider used.

Forms that are read: `RateLimit: limit=100, remaining=50, reset=5` (commas or semicolons), `RateLimit-Limit`,
`-Remaining`, `-Reset` (seconds), and the provider's own names, which its file declares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import ceil
from time import time

from unified_crm.provider import RateLimit, Reply

MAX_SECONDS = 24 * 60 * 60
_HOUR = 60 * 60
_EPOCH = 1_000_000_000


def retry_after(reply: Reply, declared: RateLimit) -> int:
    """Whole seconds to wait after a 429, at least 1: what the provider says, else what its file says of this reply."""
    wait = (
        _day(reply.headers, declared)
        or _retry_after_header(reply.headers)
        or _wait(reply, declared)
        or _read(reply, declared)["reset"]
        or declared.window
    )
    return min(MAX_SECONDS, max(1, wait))


def _day(headers: Mapping[str, str], declared: RateLimit) -> int | None:
    """Where the day's measure is spent: until it begins anew, whatever a shorter one says."""
    if _number(headers.get(declared.daily_header or "")) != 0:
        return None
    reset = _number(headers.get(declared.daily_reset_ms_header or ""))
    return ceil(reset / 1000) if reset else _HOUR


def _wait(reply: Reply, declared: RateLimit) -> int | None:
    text = reply.body.decode("utf-8", "replace")
    marked = next((seconds for mark, seconds in declared.waits.items() if mark in text), None)
    body = reply.content() if declared.wait_key else None
    said = body.get(declared.wait_key) if isinstance(body, Mapping) else None
    return ceil(number) if (number := _number(str(said))) is not None else marked


def headers(reply: Reply, declared: RateLimit) -> dict[str, str]:
    """`retry-after` and `ratelimit-*` for a caller whose call met a 429."""
    seen = _read(reply, declared)
    wait = retry_after(reply, declared)
    told = _day(reply.headers, declared) or _wait(reply, declared)
    return {
        "retry-after": str(wait),
        "ratelimit-limit": str(declared.limit if seen["limit"] is None else seen["limit"]),
        "ratelimit-remaining": str(seen["remaining"] or 0),
        "ratelimit-reset": str(wait if told else seen["reset"] or wait),
    }


def _read(reply: Reply, declared: RateLimit) -> dict[str, int | None]:
    combined = dict(re.findall(r"(\w+)\s*=\s*([\d.]+)", reply.headers.get("ratelimit", "")))
    window = _number(reply.headers.get(declared.window_ms_header or ""))
    return {
        "limit": _first(combined.get("limit"), reply.headers, "ratelimit-limit", declared.limit_header),
        "remaining": _first(combined.get("remaining"), reply.headers, "ratelimit-remaining", declared.remaining_header),
        "reset": _first(combined.get("reset"), reply.headers, "ratelimit-reset", "x-ratelimit-reset")
        or (None if window is None else ceil(window / 1000)),
    }


def _first(value: str | None, headers: Mapping[str, str], *names: str) -> int | None:
    found = next((number for text in (value, *map(headers.get, names)) if (number := _number(text)) is not None), None)
    if found is None:
        return None
    # Some providers give the moment of the reset, in seconds since 1970, and not the seconds until then.
    return max(1, ceil(found - time())) if found > _EPOCH else ceil(found)


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,12}(\.\d{1,9})?", text.strip()) else None


def _retry_after_header(headers: Mapping[str, str]) -> int | None:
    """`Retry-After` in seconds: a number, or a date."""
    text = headers.get("retry-after")
    if (seconds := _number(text)) is not None:
        return ceil(seconds)
    try:
        return max(1, ceil(parsedate_to_datetime(text).timestamp() - time())) if text else None
    except (ValueError, TypeError):
        return None
