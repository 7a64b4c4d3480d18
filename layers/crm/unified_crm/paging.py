"""Providers that answer a list page by page: every page, driven here, so that a provider says only how it pages.

records = yield from every(Request("GET", "/boards"), PageByCursor("items", next="additional_data.next_cursor"))
"""

from typing import Any, NamedTuple

from unified_crm.errors import ProviderBadReply
from unified_crm.provider import Flow, Record, Reply, Request

MAX_PAGES = 200
"""A hundred items a page makes 20,000: more is a provider that does not come to an end."""


class ByCursor(NamedTuple):
    """Each reply names the next page, at the dotted path `next`; null or nothing is the end."""

    items: str
    next: str
    parameter: str = "cursor"
    limit: tuple[str, int] | None = None

    def first(self) -> dict[str, str]:
        """The query of the first page."""
        return _limit(self.limit)

    def following(self, _: int, reply: Reply, __: int) -> dict[str, str] | None:
        """The query of the page after `reply`, None at the end."""
        cursor = _at(reply, self.next)
        return None if cursor in (None, "") else {**_limit(self.limit), self.parameter: str(cursor)}


class ByOffset(NamedTuple):
    """`parameter` counts items. The end is at the dotted path `total`, where `more` is false, or an empty page."""

    items: str
    parameter: str = "offset"
    total: str | None = None
    more: str | None = None
    limit: tuple[str, int] = ("limit", 100)
    bare_first: bool = False
    """The first page is asked for without any of this."""

    def first(self) -> dict[str, str]:
        """The query of the first page."""
        return {} if self.bare_first else _limit(self.limit)

    def following(self, _: int, reply: Reply, seen: int) -> dict[str, str] | None:
        """The query of the page after `reply`, None at the end."""
        if not reply.records(*self.items.split(".")) or (self.more and not _at(reply, self.more)):
            return None
        total = str(_at(reply, self.total)) if self.total else None
        if total is not None and total.isdigit() and seen >= int(total):
            return None
        return {**_limit(self.limit), self.parameter: str(seen)}


class ByNumber(NamedTuple):
    """`parameter` counts pages from 1; the end is a page that is not full."""

    items: str
    parameter: str = "page"
    limit: tuple[str, int] = ("per_page", 100)

    def first(self) -> dict[str, str]:
        """The query of the first page."""
        return {**_limit(self.limit), self.parameter: "1"}

    def following(self, number: int, reply: Reply, _: int) -> dict[str, str] | None:
        """The query of the page after `reply`, None at the end."""
        full = len(reply.records(*self.items.split("."))) >= self.limit[1]
        return {**_limit(self.limit), self.parameter: str(number + 1)} if full else None


def every(request: Request, paging: ByCursor | ByOffset | ByNumber) -> Flow:
    """All records of a list, page by page.

    Raises ProviderBadReply where a page comes twice (a cursor that repeats would never end), or there are too many.
    """
    records: list[Record] = []
    asked: set[tuple[tuple[str, str], ...]] = set()
    query: dict[str, str] | None = paging.first()
    number = 0
    while query is not None:
        number += 1
        key = tuple(query.items())
        if key in asked or number > MAX_PAGES:
            raise ProviderBadReply("The provider's pages do not come to an end: one was named twice, or too many.")
        asked.add(key)
        reply = yield request._replace(query=(*request.query, *key))
        records += reply.records(*paging.items.split("."))
        query = paging.following(number, reply, len(records))
    return records


def _limit(limit: tuple[str, int] | None) -> dict[str, str]:
    return {limit[0]: str(limit[1])} if limit else {}


def _at(reply: Reply, path: str) -> Any:
    value: Any = reply.object()
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
