"""Pages of a list that is there as a whole: filtered, in order, cut by `limit`, resumed by a cursor.

A cursor names the item before the page and where the page began. So a page goes on at the right place when items were
added or deleted in between, and a provider's own paging does not show through.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple, Self

from pydantic_core import to_json

from unified_crm.errors import InvalidRequest

DEFAULT_LIMIT = 50
MAX_LIMIT = 1000
MAX_PAGE_BYTES = 4 * 1024 * 1024
"""A Lambda function may answer 6 MB; a page that would be larger is cut and goes on with its cursor."""

_COMPARE: Mapping[str, Callable[[datetime, datetime], bool]] = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}
OPERATORS = tuple(_COMPARE)

Item = tuple[dict[str, Any], Any]
"""(unified, the provider's record)."""


class Cursor(NamedTuple):
    """Where a page begins: behind the item `after`, else at the item `first`, else at `place`, where that was.

    `of` stands for the list that it belongs to.
    """

    place: int
    after: str | None
    first: str | None = None
    of: str = ""

    def encode(self) -> str:
        """As text for a caller, who is to see nothing in it."""
        text = json.dumps([self.place, self.after, self.first, self.of], separators=(",", ":"))
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        """The cursor in a caller's `next_cursor`. Raises InvalidRequest where it is none of ours."""
        try:
            found = cls(*json.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4))))
            texts = (found.after, found.first)
            ours = type(found.place) is int and 0 <= found.place < 2**31 and isinstance(found.of, str)
            if ours and all(isinstance(each, str | None) for each in texts) and found.encode() == text:
                return found
        except (ValueError, TypeError, RecursionError):
            pass
        raise InvalidRequest("next_cursor is not one that a list answered")

    def start(self, ids: list[str]) -> int:
        """The place in a list of ids: behind what came last, else at what was to come next, else where that was."""
        for id_, offset in ((self.after, 1), (self.first, 0)):
            # The nearest, should a provider show an id twice: so a list always comes to an end.
            places = [place + offset for place, each in enumerate(ids) if each == id_]
            if places:
                return min(places, key=self._distance)
        return min(self.place, len(ids))

    def _distance(self, place: int) -> int:
        return abs(place - self.place)


class Filter(NamedTuple):
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
    if not re.match(r"\d{4}-\d\d-\d\d([Tt ]\d\d:|$)", text):
        raise ValueError("not RFC 3339")
    time = datetime.fromisoformat(text.upper())
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


class ListOptions(NamedTuple):
    """What a caller wants of a list. `texts_only`: its items as JSON only. What is kept as objects, too, is room that
    each next item cannot have, and a twentieth of a long list's time."""

    limit: int = DEFAULT_LIMIT
    cursor: Cursor | None = None
    filters: tuple[Filter, ...] = ()
    texts_only: bool = False


class Page(NamedTuple):
    """Items, unless only their texts were wanted, each as JSON with its record as `remote_data`, and the cursors of the
    pages around them."""

    items: list[Item]
    texts: list[str]
    next_cursor: str | None
    prev_cursor: str | None


def _as_it_is(item: Item) -> Item:
    return item


def _unknown(_: Any) -> str | None:
    return None


def page(
    items: Sequence[Item],
    options: ListOptions,
    of: str = "",
    whole: Callable[[Item], Item] = _as_it_is,
    text_of: Callable[[Any], str | None] | None = None,
) -> Page:
    """The page of `items` that `options` ask for. It is never empty and followed by another.

    `of` names the list; a cursor of another one, or of other filters, is refused. `items` need hold no more than their
    ids and the times that are filtered by, if `whole` makes whole ones of them: it is called for what may be shown.
    `text_of` tells a record's own JSON, in ASCII, where that is known.
    """
    text_of = text_of or _unknown
    filters = sorted(f"{each.field} {each.operator} {_moment(each.value)}" for each in options.filters)
    of = sha256(f"{of} {filters}".encode()).hexdigest()[:8]
    if options.cursor and options.cursor.of != of:
        raise InvalidRequest("next_cursor belongs to another list, or to other filters")
    kept = [item for item in items if all(each.lets_pass(item[0]) for each in options.filters)]
    ids = [item[0]["id"] for item in kept]
    start = options.cursor.start(ids) if options.cursor else 0
    keep = None if options.texts_only else list[Item]()
    texts = _fitting(kept[start : start + options.limit], whole, text_of, keep)
    end = start + len(texts)
    before = start - len(_fitting(kept[max(0, start - options.limit) : start][::-1], whole, text_of))

    def cursor(index: int) -> str:
        return Cursor(index, ids[index - 1] if index else None, ids[index], of).encode()

    return Page(
        keep or [],
        texts,
        cursor(end) if end < len(kept) else None,
        cursor(before) if start > 0 else None,
    )


def _moment(time: datetime) -> str:
    """The same text for the same moment, whatever its offset; at the ends of time there is no UTC to turn it to."""
    try:
        return time.astimezone(UTC).isoformat()
    except OverflowError:
        return time.isoformat()


def as_json(value: Any) -> str:
    """`value`, which was read from JSON, as compact JSON in ASCII."""
    try:
        text = to_json(value)  # a fifth faster than with ensure_ascii
        return (text if text.isascii() else to_json(value, ensure_ascii=True)).decode()
    except ValueError:  # half a surrogate pair, or nested too deeply for it
        return json.dumps(value, separators=(",", ":"))


def escaped_size(text: str) -> int:
    """The bytes of an ASCII text as Lambda sends it on: inside JSON once more."""
    return len(text) + text.count('"') + text.count("\\")


def _fitting(
    items: Sequence[Item],
    whole: Callable[[Item], Item],
    text_of: Callable[[Any], str | None],
    keep: list[Item] | None = None,
) -> list[str]:
    """The JSON of as many of `items`, from the first, as one answer can hold: at least one, if there is one.

    What `whole` makes of these goes to `keep`.
    """
    texts: list[str] = []
    most = size = counted = 0
    for item in items:
        unified, record = whole(item)
        if (known := text_of(record)) is not None:
            text = f'{as_json(unified)[:-1]},"remote_data":{known}}}'
        else:
            text = as_json({**unified, "remote_data": record})
        most += 2 * len(text)  # a page that is small at worst need not be counted
        if most > MAX_PAGE_BYTES:
            size += sum(map(escaped_size, (*texts[counted:], text)))
            counted = len(texts) + 1
            if size > MAX_PAGE_BYTES and texts:
                break
        texts.append(text)
        if keep is not None:
            keep.append((unified, record))
    return texts
