"""A request's JSON body, read strictly."""

from __future__ import annotations

import json
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.body import MAX_BYTES, MAX_DEPTH, parse
from tests.unit.strategies import bounded, json_values
from unified_crm.errors import InvalidJson, PayloadTooLarge, UnifiedError, UnsupportedMediaType


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t "])
@pytest.mark.parametrize("media_type", [None, "application/json", "text/plain"])
def test_an_empty_body_is_an_empty_object_whatever_it_calls_itself(body: bytes, media_type: str | None) -> None:
    assert parse(body, media_type) == {}


@pytest.mark.parametrize(
    "media_type",
    [
        None,
        "",
        "application/json",
        "Application/JSON",
        "application/json;charset=UTF-8",
        " application/json ; charset=utf-8",
        "application/merge-patch+json",
        "application/vnd.api+json; ext=x",
    ],
)
def test_json_media_types_and_none_count_as_json(media_type: str | None) -> None:
    assert parse(b'{"a":1}', media_type) == {"a": 1}


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "json"],
)
def test_another_media_type_is_refused_by_name(media_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=media_type.partition(";")[0]):
        parse(b'{"a":1}', media_type)


def test_a_mebibyte_is_read_and_one_byte_more_refused() -> None:
    body = b'{"a":"' + b"x" * (MAX_BYTES - 8) + b'"}'
    assert len(body) == MAX_BYTES == 1024 * 1024
    assert len(parse(body, None)["a"]) == MAX_BYTES - 8
    with pytest.raises(PayloadTooLarge):
        parse(body + b" ", None)


def test_a_body_of_white_space_is_measured_too() -> None:
    with pytest.raises(PayloadTooLarge):
        parse(b" " * (MAX_BYTES + 1), None)


@pytest.mark.parametrize("around", [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_sixty_four_levels_are_read_and_one_more_refused(around: tuple[str, str]) -> None:
    left, right = around
    times = MAX_DEPTH // len(left.replace('"a":', ""))
    inside = left * times + right * times
    assert parse(inside.replace(left + right, left + "1" + right).encode(), None)
    with pytest.raises(InvalidJson, match="deeper than 64"):
        parse(f"[{inside.replace(left + right, left + '1' + right)}]".encode(), None)


@pytest.mark.parametrize("depth", [200, 2_000, 100_000, 500_000])
@pytest.mark.parametrize("letter", ["[", '{"a":'])
def test_any_depth_is_refused_and_not_a_fault(depth: int, letter: str) -> None:
    body = (letter * depth + "1" + ("]" if letter == "[" else "}") * depth)[: MAX_BYTES - 1]
    with pytest.raises(InvalidJson):
        parse(body.encode(), None)


@pytest.mark.parametrize("body", ['{"a":1,"a":1}', '{"b":{"a":1,"c":2,"a":3}}', '[{"a":1,"\\u0061":2}]'])
def test_a_key_twice_in_one_object_is_refused_by_name(body: str) -> None:
    with pytest.raises(InvalidJson, match="'a' twice"):
        parse(body.encode(), None)


def test_a_key_twice_among_thousands_is_found_without_delay() -> None:
    keys = [f"k{index}" for index in range(8_000)]
    body = "{" + ",".join(f'"{key}":0' for key in [*keys, keys[-1]]) + "}"
    started = process_time()
    with pytest.raises(InvalidJson, match="'k7999' twice"):
        parse(body.encode(), None)
    assert process_time() - started < 0.5


def test_a_key_in_two_objects_is_no_key_twice() -> None:
    assert parse(b'[{"a":1},{"a":{"a":2}}]', None) == [{"a": 1}, {"a": {"a": 2}}]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1E+400"])
def test_what_is_no_finite_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidJson):
        parse(f'{{"a":[{text}]}}'.encode(), None)


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 0, -1, 1e308, 5e-324, 0.1])
def test_numbers_of_64_bits_are_read_exactly(number: float) -> None:
    assert parse(json.dumps([number]).encode(), None) == [number]


@pytest.mark.parametrize("text", [str(2**63), str(-(2**63) - 1), "9" * 19, "9" * 20, "-" + "9" * 20, "1" * 10_000])
def test_numbers_beyond_64_bits_are_refused(text: str) -> None:
    with pytest.raises(InvalidJson, match="64 bits"):
        parse(f'{{"a":{text}}}'.encode(), None)


@pytest.mark.parametrize("body", [r'"\ud800"', r'{"a":["\udfff"]}', r'{"\ud800":1}', r'{"a":"\udc00\ud800"}'])
def test_half_a_surrogate_pair_is_refused_in_texts_and_keys(body: str) -> None:
    with pytest.raises(InvalidJson, match="surrogate"):
        parse(body.encode(), None)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert parse(rb'"\ud83d\ude00"', None) == "😀"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{}{}",
        b"{'a':1}",
        b'{"a":1,}',
        b"[1,]",
        b"undefined",
        b'{"a":01}',
        b'"\x01"',
        b"// c\n{}",
        b'{"a":"\xff"}',
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b"\xed\xa0\x80",
    ],
)
def test_what_is_not_json_in_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJson, match="not JSON"):
        parse(body, None)


def test_the_place_of_the_mistake_is_named_and_nothing_of_the_body_shown() -> None:
    with pytest.raises(InvalidJson, match="line 2 column 8") as caught:
        parse(b'{"a": "private",\n  "b": }', None)
    assert "private" not in str(caught.value)
    assert caught.value.__cause__ is None


@bounded
@given(json_values)
def test_every_json_value_is_read_as_it_was_written(value: Any) -> None:
    assert parse(json.dumps(value).encode(), None) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode(), "application/json") == value


@bounded
@given(
    st.binary(max_size=60) | st.text('{}[]":,\\u0123456789abdeft.-+ ', max_size=60).map(str.encode),
    st.none() | st.text(max_size=20),
)
def test_any_bytes_raise_an_error_of_the_tree_or_nothing(body: bytes, media_type: str | None) -> None:
    try:
        parse(body, media_type)
    except UnifiedError as error:
        assert error.status in (400, 413, 415)
