"""Pages of a list: cursors, filters, where a page ends, the way forward and the way back."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from operator import ge, gt, le, lt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import any_text, bounded, json_values, texts
from unified_crm import lists
from unified_crm.errors import InvalidRequest
from unified_crm.lists import Cursor, Filter, ListOptions, Page, page, parse_time
from unified_crm.mapping import timestamp

Item = tuple[dict[str, Any], Any]
_COMPARE = {"gt": gt, "gte": ge, "lt": lt, "lte": le}
_START = datetime(2026, 1, 1, tzinfo=UTC)
_moments = st.integers(0, 20).map(lambda hours: _START + timedelta(hours=hours))
_times = st.none() | _moments.map(lambda moment: timestamp(moment.isoformat()))
_filters = st.lists(
    st.builds(Filter, st.sampled_from(["created_at", "updated_at"]), st.sampled_from(lists.OPERATORS), _moments),
    max_size=2,
).map(tuple)
_limits = st.integers(1, 12) | st.just(lists.MAX_LIMIT)
_cursors = st.builds(Cursor, st.integers(0, 2**31 - 1), st.none() | any_text, st.none() | any_text, texts)
_PAGES = 200


def _item(id_: str, created: str | None = None, updated: str | None = None, size: int = 0) -> Item:
    return {"id": id_, "created_at": created, "updated_at": updated}, {"x": "x" * size}


def _items(*ids: str) -> list[Item]:
    return [_item(id_) for id_ in ids]


_lists = st.lists(st.tuples(texts, _times, _times), max_size=30, unique_by=lambda each: each[0]).map(
    lambda rows: [_item(*row) for row in rows]
)
_sized = st.lists(st.integers(0, 900), max_size=30).map(
    lambda sizes: [_item(f"id-{index}", size=size) for index, size in enumerate(sizes)]
)


def _ids(found: Page) -> list[str]:
    return [unified["id"] for unified, _ in found.items]


def _at(items: list[Item], cursor: str | None, limit: int, filters: tuple[Filter, ...] = ()) -> Page:
    return page(items, ListOptions(limit, Cursor.decode(cursor) if cursor else None, filters))


def _forward(items: list[Item], limit: int, filters: tuple[Filter, ...] = ()) -> list[Page]:
    pages = [_at(items, None, limit, filters)]
    while pages[-1].next_cursor is not None:
        assert len(pages) < _PAGES, "the pages do not come to an end"
        pages.append(_at(items, pages[-1].next_cursor, limit, filters))
    return pages


def _back(items: list[Item], last: Page, limit: int, filters: tuple[Filter, ...] = ()) -> list[Page]:
    pages = [last]
    while pages[-1].prev_cursor is not None:
        assert len(pages) < _PAGES, "the pages do not come to an end"
        pages.append(_at(items, pages[-1].prev_cursor, limit, filters))
    return pages[::-1]


def _text(json_text: str) -> str:
    return urlsafe_b64encode(json_text.encode()).decode().rstrip("=")


# Cursors


@bounded
@given(_cursors)
def test_a_cursor_comes_back_as_it_was(cursor: Cursor) -> None:
    text = cursor.encode()
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text), "it goes into a query as it is"
    assert Cursor.decode(text) == cursor


def _is_refused_or_ours(text: str) -> None:
    try:
        found = Cursor.decode(text)
    except InvalidRequest as error:
        assert error.message.startswith("next_cursor")
    else:
        assert found.encode() == text


@bounded
@given(any_text | json_values.map(lambda value: _text(json.dumps(value))))
def test_every_other_text_is_an_invalid_request(text: str) -> None:
    _is_refused_or_ours(text)


@bounded
@given(_cursors, st.data())
def test_a_cursor_that_was_tampered_with_is_an_invalid_request_or_another_cursor(
    cursor: Cursor, data: st.DataObject
) -> None:
    text = cursor.encode()
    at = data.draw(st.integers(0, len(text)))
    piece = data.draw(st.sampled_from(["", "=", "A", "-", "_", "+", "/", " ", "\n", "é", "\ud800"]))
    _is_refused_or_ours(text[:at] + piece + text[at + data.draw(st.integers(0, 1)) :])


@pytest.mark.parametrize(
    "content",
    [
        *("", "null", "1", '"abcd"', "[]", "[1]", "{}", '{"1": 1, "b": 2, "c": 3, "d": 4}'),
        *('[1,"a","b"]', '[1,"a","b","c","d"]', '["1","a","b","c"]', '[true,"a","b","c"]', '[1.0,"a","b","c"]'),
        *('[-1,"a","b","c"]', '[2147483648,"a","b","c"]', '[NaN,"a","b","c"]', '[1e2,"a","b","c"]'),
        *('[1,2,"b","c"]', '[1,["a"],"b","c"]', '[1,false,"b","c"]', '[1,"a",2,"c"]', '[1,"a","b",null]'),
        *('[1, "a", "b", "c"]', ' [1,"a","b","c"]', '[1,"a","b","c"', '[1,"é","b","c"]', '[01,"a","b","c"]'),
        "[" + "9" * 5000 + ',"a","b","c"]',
        "[" * 6000,
        '{"a":' * 1200,
    ],
    ids=lambda content: content[:12],
)
def test_what_a_cursor_could_hold_and_never_does_is_an_invalid_request(content: str) -> None:
    with pytest.raises(InvalidRequest, match="next_cursor"):
        Cursor.decode(_text(content))


@pytest.mark.parametrize("spoil", ["{}=", "{}==", " {}", "{} ", "{}\n", "={}", "{0}{0}", "{}.", "{}AAAA"])
def test_a_cursor_has_one_spelling(spoil: str) -> None:
    with pytest.raises(InvalidRequest, match="next_cursor"):
        Cursor.decode(spoil.format(Cursor(1, "a", "b", "c").encode()))


# Filters


@bounded
@given(_moments, _moments, st.sampled_from(lists.OPERATORS), st.integers(-14, 14))
def test_a_filter_compares_moments_whatever_their_offset(
    moment: datetime, bound: datetime, operator: str, hours: int
) -> None:
    elsewhere = parse_time(bound.astimezone(timezone(timedelta(hours=hours))).isoformat())
    unified = {"created_at": timestamp(moment.isoformat())}
    assert Filter("created_at", operator, elsewhere).lets_pass(unified) is _COMPARE[operator](moment, bound)


@pytest.mark.parametrize("operator", lists.OPERATORS)
@pytest.mark.parametrize("unified", [{}, {"created_at": None}, {"updated_at": "2026-01-01T00:00:00Z"}])
def test_what_has_no_known_time_passes_no_filter(unified: dict[str, Any], operator: str) -> None:
    assert not Filter("created_at", operator, _START).lets_pass(unified)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T12:00:00z", "2026-01-31T12:00:00+00:00"),  # RFC 3339, 5.6: T and Z may be in lower case
        ("2026-01-31t12:00:00Z", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31T12:00:00.123456Z", "2026-01-31T12:00:00.123456+00:00"),
        ("2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.500000+00:00"),
        ("2026-01-31T12:00:00+05:30", "2026-01-31T06:30:00+00:00"),
        ("2026-01-31T12:00:00-08:00", "2026-01-31T20:00:00+00:00"),
        ("2026-01-31T12:00:00", "2026-01-31T12:00:00+00:00"),
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
    ],
)
def test_a_time_is_read_as_utc_if_it_says_nothing(text: str, read: str) -> None:
    assert parse_time(text) == datetime.fromisoformat(read)


@pytest.mark.parametrize(
    "text",
    ["", " ", "now", "2026", "2026-13-01", "2026-02-30", "12:00", "1767225600", "2026-01-31T12:00:00 02:00", "\ud800"],
)
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them
        parse_time(text)


@bounded
@given(any_text)
def test_no_text_raises_anything_but_a_value_error(text: str) -> None:
    with suppress(ValueError):
        assert parse_time(text).tzinfo is not None


@bounded
@given(_lists, _filters)
def test_a_filter_and_its_opposite_divide_what_has_a_time(items: list[Item], filters: tuple[Filter, ...]) -> None:
    opposite = {"gt": "lte", "gte": "lt", "lt": "gte", "lte": "gt"}
    for each in filters:
        other = Filter(each.field, opposite[each.operator], each.value)
        found = [_ids(_at(items, None, 1000, (one,))) for one in (each, other)]
        assert sorted(found[0] + found[1]) == sorted(item["id"] for item, _ in items if item[each.field])


# Pages


@bounded
@given(_lists, _limits, _filters)
def test_pages_join_to_the_whole_and_none_is_empty_with_a_cursor(
    items: list[Item], limit: int, filters: tuple[Filter, ...]
) -> None:
    wanted = [item["id"] for item, _ in items if all(each.lets_pass(item) for each in filters)]
    pages = _forward(items, limit, filters)
    assert [id_ for each in pages for id_ in _ids(each)] == wanted
    assert all(len(each.items) == limit for each in pages[:-1])
    assert len(pages[-1].items) <= limit
    assert all(each.items for each in pages) or wanted == []


@bounded
@given(_lists, _limits, _filters)
def test_walking_back_gives_the_same_pages(items: list[Item], limit: int, filters: tuple[Filter, ...]) -> None:
    pages = _forward(items, limit, filters)
    assert _back(items, pages[-1], limit, filters) == pages


@bounded
@given(_lists, _limits, st.integers(0, 40), st.none() | texts, st.none() | texts)
def test_no_cursor_leads_to_an_empty_page_with_a_next(
    items: list[Item], limit: int, index: int, after: str | None, first: str | None
) -> None:
    ours = page(_items("a", "b"), ListOptions(1)).next_cursor
    cursor = Cursor(index, after, first, Cursor.decode(ours or "").of)
    found = page(items, ListOptions(limit, cursor))
    assert found.items or found.next_cursor is None


@bounded
@given(_lists, _filters, st.sampled_from(["", "other"]), _filters)
def test_a_cursor_of_another_list_or_of_other_filters_is_refused(
    items: list[Item], filters: tuple[Filter, ...], of: str, others: tuple[Filter, ...]
) -> None:
    cursor = page(items, ListOptions(1, None, filters)).next_cursor
    if cursor is None:
        return
    options = ListOptions(1, Cursor.decode(cursor), others)
    if of == "" and sorted(map(str, filters)) == sorted(map(str, others)):
        assert page(items, options, of).items
    else:
        with pytest.raises(InvalidRequest, match="next_cursor"):
            page(items, options, of)


@pytest.mark.parametrize("hours", [0, 2])
def test_the_same_filters_may_be_written_in_another_way(hours: int) -> None:
    late = _START + timedelta(days=1)
    items = [_item("a", "2026-01-01T00:00:00Z"), _item("b", "2026-01-01T00:00:00Z")]
    filters = Filter("created_at", "gte", _START), Filter("created_at", "lt", late)
    cursor = Cursor.decode(page(items, ListOptions(1, None, filters)).next_cursor or "")
    elsewhere = late.astimezone(timezone(timedelta(hours=hours)))
    same = Filter("created_at", "lt", elsewhere), Filter("created_at", "gte", _START)
    assert _ids(page(items, ListOptions(1, cursor, same))) == ["b"]


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_filter_may_name_the_ends_of_time(text: str) -> None:
    items = [_item("a", "2026-01-01T00:00:00Z")]
    filters = Filter("created_at", "gt", parse_time(text)), Filter("created_at", "lt", parse_time(text))
    found = [_ids(page(items, ListOptions(1, None, (each,)))) for each in filters]
    assert found == ([["a"], []] if text.startswith("0001") else [[], ["a"]])


@pytest.mark.parametrize("gone", [0, 2, 3, 4])
def test_a_page_goes_on_at_the_right_place_when_an_item_was_deleted(gone: int) -> None:
    items = _items(*"abcde")
    cursor = _at(items, None, 2).next_cursor
    del items[gone]
    assert _ids(_at(items, cursor, 5)) == [id_ for id_ in "cde" if id_ != "abcde"[gone]]


def test_a_page_goes_on_at_the_right_place_when_one_was_added_before() -> None:
    cursor = _at(_items(*"abcd"), None, 2).next_cursor
    assert _ids(_at(_items(*"xabycd"), cursor, 9)) == ["y", "c", "d"]


@pytest.mark.parametrize(("rest", "ids"), [("acd", "cd"), ("cd", "cd"), ("xacd", "cd"), ("axyd", "yd"), ("bd", "d")])
def test_the_item_before_the_page_may_be_gone_and_the_next_one_too(rest: str, ids: str) -> None:
    cursor = _at(_items(*"abcd"), None, 2).next_cursor
    assert _ids(_at(_items(*rest), cursor, 9)) == [*ids]


def test_a_list_that_shrank_ends() -> None:
    cursor = _at(_items(*"abcd"), None, 3).next_cursor
    found = _at(_items("x"), cursor, 3)
    assert (found.items, found.next_cursor) == ([], None)


@pytest.mark.parametrize("ids", ["aab", "aaa", "abab", "abcabc"])
def test_an_id_that_comes_twice_is_no_endless_list(ids: str) -> None:
    items = _items(*ids)
    assert "".join(id_ for each in _forward(items, 1) for id_ in _ids(each)) == ids


@pytest.mark.parametrize(("cursor", "read"), [(None, "abc"), ("c", "deabc")])
def test_only_what_may_be_shown_is_read_whole(cursor: str | None, read: str) -> None:
    seen: list[str] = []

    def whole(item: Item) -> Item:
        seen.append(item[0]["id"])
        return _item(seen[-1])

    first = page(_items(*"abcde"), ListOptions(3))
    options = ListOptions(3, Cursor.decode(first.next_cursor or "") if cursor else None)
    found = page([({"id": id_}, None) for id_ in "abcde"], options, whole=whole)
    assert sorted(seen) == sorted(read)
    assert found.items == _items(*("de" if cursor else "abc"))
    assert [json.loads(text) for text in found.texts] == [
        {**unified, "remote_data": rec} for unified, rec in found.items
    ]


@bounded
@given(_sized, _limits)
def test_where_only_texts_are_wanted_the_page_is_the_same_without_its_items(items: list[Item], limit: int) -> None:
    whole = page(items, ListOptions(limit))
    assert page(items, ListOptions(limit, texts_only=True)) == whole._replace(items=[])


# Pages cut by their size


@bounded
@given(_sized, _limits, st.integers(1, 3000))
def test_pages_cut_by_their_size_join_to_the_whole(items: list[Item], limit: int, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "MAX_PAGE_BYTES", most)
        pages = _forward(items, limit)
    assert [item for each in pages for item in each.items] == items
    assert all(0 < len(each.items) <= limit for each in pages) or items == []
    sizes = [sum(len(json.dumps(unified)) + len(json.dumps(record)) for unified, record in p.items) for p in pages]
    assert all(size <= most or len(each.items) == 1 for size, each in zip(sizes, pages, strict=True))


@bounded
@given(_sized, _limits, st.integers(1, 3000))
def test_walking_back_passes_nothing_over_where_pages_are_cut_by_their_size(
    items: list[Item], limit: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "MAX_PAGE_BYTES", most)
        pages = _forward(items, limit)
        back = _back(items, pages[-1], limit)
    # Cut from the other side, they may be other pages; none of their items is passed over.
    assert {id_ for each in back for id_ in _ids(each)} == {id_ for each in pages for id_ in _ids(each)}


def test_an_item_larger_than_a_page_is_a_page() -> None:
    items = [_item("a"), _item("b", size=lists.MAX_PAGE_BYTES), _item("c")]
    assert [_ids(each) for each in _forward(items, 50)] == [["a"], ["b"], ["c"]]
