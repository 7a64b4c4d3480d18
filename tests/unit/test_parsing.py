"""JSON of providers, read as a whole or record by record: the same value, and the same refusals."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.strategies import bounded, json_objects, json_values
from unified_crm import parsing
from unified_crm.parsing import parse


def _whole(text: str) -> Any:
    """As it is read where nothing is known of its form."""
    try:
        return parsing._DECODER.decode(text)
    except ValueError:
        return ValueError


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


_records = st.lists(json_objects, min_size=1, max_size=4)
_keys = st.sampled_from(["results", "data", "more", "x"])
_around = st.lists(st.tuples(_keys, json_values), max_size=3)


@st.composite
def _lists(draw: st.DrawFn) -> str:
    """An answer with a list, first or not, its key once or more often."""
    pairs = [*draw(_around), ("results", draw(_records)), *draw(_around)]
    return "{" + ",".join(f"{_compact(key)}:{_compact(value)}" for key, value in pairs) + "}"


@st.composite
def _broken(draw: st.DrawFn) -> str:
    """The same with a letter more, less or of another kind."""
    text = draw(_lists())
    at = draw(st.integers(0, len(text)))
    letter: str = draw(st.sampled_from([*'{}[],:"\\ \n01-e', "é", "\x00", ""]))
    return text[:at] + letter + text[at + draw(st.integers(0, 1)) :]


@bounded
@given(_lists() | _broken() | json_values.map(_compact) | json_values.map(json.dumps))
@example('{"results":[{}],}')
@example('{"results":[{}]}}')
@example('{"results":[{},]}')
@example('{"results":[{}],"results":[]}')
@example('{"results":1,"results":[{}]}')
@example('{"results":[{}],"results":1}')
@example('{"results":[{"a":1e999}]}')
@example('{"results":[{"a":NaN}]}')
@example('{"a":NaN,"results":[{}]}')
@example('{"results":[{}')
@example('{"results":[{"a":"\x00"}]}')
@example('{"results":[{}],"re\\u0073ults":[]}')
@example('{"results":[{}]}x')
@example('{"results":[{}],"x":1}}')
@example('{"x":1,"results":[{}],"x":2}')
def test_a_text_means_the_same_however_it_is_read(text: str) -> None:
    expected = _whole(text)
    try:
        found, texts = parse(text)
    except ValueError:
        assert expected is ValueError
        return
    assert repr(found) == repr(expected)  # which tells 1 from 1.0 and True
    records = {id(each): each for value in found.values() if isinstance(value, list) for each in value} if texts else {}
    for known, (record, each) in texts.items():
        assert each.isascii()
        assert "\\" not in each
        assert records[known] is record
        assert repr(_whole(each)) == repr(record)


@pytest.mark.parametrize("before", ["", '"more":false,', '"success":true,"total":12,"at":"x",'])
@pytest.mark.parametrize("after", ["", ',"paging":{"next":null}'])
def test_a_list_that_comes_first_is_known_record_by_record(before: str, after: str) -> None:
    given_ = ['{"a":1.10,"b":[{"c":"x"}]}', "{}"]
    found, texts = parse(f'{{{before}"results":[{",".join(given_)}]{after}}}')
    assert [texts[id(each)] for each in found["results"]] == list(zip(found["results"], given_, strict=True))


def test_a_record_with_an_escape_or_other_letters_is_not_known_and_those_beside_it_are() -> None:
    found, texts = parse('{"results":[{"a":"\\u0070at"},{"a":"x"},{"a":"é"}]}')
    assert texts == {id(found["results"][1]): ({"a": "x"}, '{"a":"x"}')}


@pytest.mark.parametrize(
    "text",
    [
        '{"results": [{"a": 1}]}',
        '{"results":[{"a": 1}]}',
        '{"results":[{"a":"é"}]}',
        '{"results":[1,{"a":1}]}',
        '{"results":[{"a":1},1]}',
        '{"results":[]}',
        '[{"a":1}]',
        '{"deep":{"results":[{"a":1}]}}',
        '{"results":[{"a":"' + "x" * parsing.MAX_LETTERS + '"}]}',
    ],
)
def test_in_another_form_only_the_value_is(text: str) -> None:
    assert parse(text) == (json.loads(text), {})
