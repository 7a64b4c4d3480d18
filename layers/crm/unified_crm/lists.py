"""Pages of a list that is there as a whole: filtered, in order, cut by `limit`, resumed by a cursor.

A cursor names the item before the page and where the page began. So a page goes on at the right place when items were
added or deleted in between, and a provider's own paging does not show through.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from unified_crm.errors import InvalidRequest

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000
MAX_PAGE_BYTES = 3 * 1024 * 1024
"""A Lambda function may answer 6 MB; a page that would be larger is cut and goes on with its cursor."""

_COMPARE: Mapping[str, Callable[[datetime, datetime], bool]] = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}
OPERATORS = tuple(_COMPARE)


@dataclass(frozen=True)
class Cursor:
    """Where a page begins: behind the item `after` (None: at the start), which was at `index` less one."""

    index: int
    after: str | None

    def encode(self) -> str:
        """As text for a caller, who is to see nothing in it."""
        return urlsafe_b64encode(json.dumps([self.index, self.after]).encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """The cursor in a caller's `next_cursor`. Raises InvalidRequest where it is none of ours."""
        try:
            index, after = json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        except (ValueError, TypeError):
            index = after = None
        if type(index) is not int or not 0 <= index < 2**31 or not isinstance(after, str | None):
            raise InvalidRequest("next_cursor is not one that a list answered")
        if cls(index, after).encode() != text:
            raise InvalidRequest("next_cursor is not one that a list answered")
        return cls(index, after)


@dataclass(frozen=True)
class Filter:
    """`field[operator]=value` on a time field."""

    field: str
    operator: str
    value: datetime

    def lets_pass(self, unified: Mapping[str, Any]) -> bool:
        """Whether an item is on the wanted side; one without a known time is on neither."""
        time = unified.get(self.field)
        return time is not None and _COMPARE[self.operator](datetime.fromisoformat(time), self.value)


def parse_time(text: str) -> datetime:
    """An RFC 3339 time or date, UTC if it says nothing. Raises ValueError."""
    time = datetime.fromisoformat(text)
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


@dataclass(frozen=True)
class ListOptions:
    """What a caller wants of a list."""

    limit: int = DEFAULT_LIMIT
    cursor: Cursor | None = None
    filters: tuple[Filter, ...] = ()


@dataclass(frozen=True)
class Page:
    """Items as (unified, record), and the cursors of the pages around them."""

    items: list[tuple[dict[str, Any], Any]]
    next_cursor: str | None
    prev_cursor: str | None


def page(items: Sequence[tuple[dict[str, Any], Any]], options: ListOptions) -> Page:
    """The page of `items` that `options` ask for. It is never empty and followed by another."""
    kept = [item for item in items if all(each.lets_pass(item[0]) for each in options.filters)]
    ids = [item[0]["id"] for item in kept]
    start = 0
    if options.cursor:
        known = options.cursor.after in ids
        start = ids.index(options.cursor.after) + 1 if known else min(options.cursor.index, len(kept))
    end = start
    size = 0
    for item in kept[start : start + options.limit]:
        size += len(json.dumps(item[1])) + len(json.dumps(item[0]))
        if size > MAX_PAGE_BYTES and end > start:
            break
        end += 1
    before = max(0, start - options.limit)
    return Page(
        kept[start:end],
        Cursor(end, ids[end - 1]).encode() if end < len(kept) else None,
        Cursor(before, ids[before - 1] if before else None).encode() if start > 0 else None,
    )
