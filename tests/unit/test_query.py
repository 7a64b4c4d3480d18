"""Query strings with brackets, in every spelling that clients use."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.query import MAX_BYTES, Query
from tests.unit.strategies import any_text, bounded
from unified_crm.errors import InvalidRequest

# One value


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("a=1", "1"),
        ("a=", ""),
        ("a", ""),
        ("b=2&a=1&c=3", "1"),
        ("&&a=1&", "1"),
        ("a=1=2", "1=2"),
        ("a=c+d", "c d"),
        ("a=c%20d", "c d"),
        ("a=c%2Bd", "c+d"),
        ("%61=1", "1"),
        ("a=caf%C3%A9", "café"),
        ("a=café", "café"),
        ("a=%26%3D%5B%5D", "&=[]"),
        ("a=%", "%"),
        ("a=%zz", "%zz"),
    ],
)
def test_a_text_is_decoded_once(raw: str, value: str) -> None:
    assert Query(raw).text("a") == value


def test_what_is_not_there_is_none_or_empty() -> None:
    query = Query("b=1")
    assert (query.text("a"), query.array("a"), query.nested("a")) == (None, [], ())


@pytest.mark.parametrize("raw", ["a=1&a=2", "a=1&a=1", "a[]=1", "a[0]=1", "a[b]=1", "a=1&a[]=2", "a%5B%5D=1"])
def test_a_text_given_twice_or_with_brackets_is_refused(raw: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^a must be given once"):
        Query(raw).text("a")


def test_names_are_told_apart_by_case_and_whole() -> None:
    assert Query("A=1&aa=2&a.b=3").text("a") is None


# Arrays


@pytest.mark.parametrize(
    "raw",
    [
        "k[]=x&k[]=y",
        "k%5B%5D=x&k%5B%5D=y",
        "k%5b%5d=x&k%5b%5d=y",
        "k[0]=x&k[1]=y",
        "k[1]=y&k[0]=x",
        "k%5B0%5D=x&k%5B1%5D=y",
        "k[7]=x&k[9]=y",
        "k[9]=x&k[10]=y",
        "k=x,y",
        "k=x%2Cy",
        "k=%20x+,+y",
        "k=x,,y,",
        "k=x&k=y",
        "k[]=x&k=y",
        "k[]=x&other=1&k[1]=y",
        "k=x&k[0]=y",
    ],
)
def test_an_array_reads_the_same_in_every_spelling(raw: str) -> None:
    assert Query(raw).array("k") == ["x", "y"]


def test_a_comma_divides_only_where_there_are_no_brackets() -> None:
    assert Query("k[]=x,y&k[0]=z,w").array("k") == ["x,y", "z,w"]


@pytest.mark.parametrize("raw", ["k=", "k=,", "k=+", "k"])
def test_an_empty_array_is_no_error(raw: str) -> None:
    assert Query(raw).array("k") == []


@pytest.mark.parametrize("raw", ["k[a]=x", "k[][]=x", "k[0][0]=x", "k[-1]=x", "k[1.5]=x", "k[10000]=x", "k[٣]=x"])
def test_an_array_with_another_key_is_refused(raw: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^k must be a list"):
        Query(raw).array("k")


@bounded
@given(st.lists(st.text(min_size=1, max_size=8), max_size=20), st.randoms())
def test_any_array_comes_back_from_both_clients_forms(values: list[str], random: Any) -> None:
    brackets = [f"k%5B%5D={quote_plus(value)}" for value in values]
    indexed = [f"k[{index}]={quote(value, safe='')}" for index, value in enumerate(values)]
    random.shuffle(indexed)
    assert Query("&".join(brackets)).array("k") == values
    assert Query("&".join(indexed)).array("k") == values


# Objects


@pytest.mark.parametrize(
    ("raw", "pairs"),
    [
        ("q[a]=1", [("a", "1")]),
        ("q%5Ba%5D=1", [("a", "1")]),
        ("q[a][b][c]=1", [("a[b][c]", "1")]),
        ("q[a][]=1&q[a][]=2", [("a[]", "1"), ("a[]", "2")]),
        ("q[a][0]=1&q[a][1]=2", [("a[0]", "1"), ("a[1]", "2")]),
        ("q[a][b][]=c+d", [("a[b][]", "c d")]),
        ("q[b]=1&x=0&q[a]=2", [("b", "1"), ("a", "2")]),
        ("q[a]=", [("a", "")]),
        ("q[a b]=%26%3D", [("a b", "&=")]),
        ("q[a.b]=1", [("a.b", "1")]),
        ("q[a]=1&q[a]=2", [("a", "1"), ("a", "2")]),
    ],
)
def test_an_object_is_its_pairs_in_order(raw: str, pairs: list[tuple[str, str]]) -> None:
    assert Query(raw).nested("q") == tuple(pairs)


@pytest.mark.parametrize("raw", ["q=1", "q", "q[]=1", "q[][a]=1", "q[a]=1&q=2"])
def test_an_object_without_a_key_is_refused(raw: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^q must be an object"):
        Query(raw).nested("q")


@pytest.mark.parametrize(
    "raw", ["q[a=1", "q[a]]=1", "q[[a]]=1", "q[a]b=1", "q[a]b[c]=1", "q[a[b]]=1", "q[=1", "q[]]=1", "q%5Ba=1"]
)
@pytest.mark.parametrize("read", ["text", "array", "nested"])
def test_brackets_that_do_not_match_are_refused(raw: str, read: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^q has brackets that do not match"):
        getattr(Query(raw), read)("q")


@pytest.mark.parametrize("piece", ["q[a]=1%0A", "q[a]=%0D1", "q[a%0d%0aX]=1", "q[a][%0A]=1", "q[a]=%00", "q[%00]=1"])
def test_line_breaks_and_nul_in_an_object_are_refused(piece: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^q must not hold line breaks"):
        Query(piece).nested("q")


_keys = st.text(st.characters(codec="utf-8", exclude_characters="[]\0\r\n"), min_size=1, max_size=6)
_leaves = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=6)
_trees = st.dictionaries(
    _keys,
    st.recursive(
        _leaves,
        lambda inner: st.dictionaries(_keys, inner, min_size=1, max_size=3) | st.lists(_leaves, min_size=1, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


def _pairs(tree: Any, path: tuple[str, ...], indexes: bool) -> list[tuple[tuple[str, ...], str]]:
    match tree:
        case str():
            return [(path, tree)]
        case dict():
            return [pair for key, value in tree.items() for pair in _pairs(value, (*path, key), indexes)]
        case _:
            return [
                pair
                for index, value in enumerate(tree)
                for pair in _pairs(value, (*path, str(index) if indexes else ""), indexes)
            ]


@bounded
@given(_trees, st.booleans(), st.booleans())
def test_any_nested_object_comes_back_from_both_clients_forms(tree: Any, indexes: bool, encoded: bool) -> None:
    pairs = [(path, value) for path, value in _pairs(tree, (), indexes) if len(path) <= 5][:60]
    left, right = ("%5B", "%5D") if encoded else "[]"
    pieces = [
        "q" + "".join(f"{left}{quote(key, safe='')}{right}" for key in path) + "=" + quote_plus(value)
        for path, value in pairs
    ]
    expected = [(path[0] + "".join(f"[{key}]" for key in path[1:]), value) for path, value in pairs]
    assert Query("&".join(pieces)).nested("q") == tuple(expected)


# Bounds


def test_five_brackets_are_read_and_six_refused() -> None:
    assert Query("q[a][b][c][d][e]=1").nested("q") == (("a[b][c][d][e]", "1"),)
    with pytest.raises(InvalidRequest, match=r"^q is nested deeper than 5"):
        Query("q[a][b][c][d][e][f]=1")
    with pytest.raises(InvalidRequest, match="deeper"):
        Query("q%5Ba%5D%5Bb%5D%5Bc%5D%5Bd%5D%5Be%5D%5Bf%5D=1")


def test_a_hundred_pairs_are_read_and_one_more_refused() -> None:
    assert len(Query("&".join(["k[]=1"] * 100)).array("k")) == 100
    with pytest.raises(InvalidRequest, match="more than 100"):
        Query("&".join(["k[]=1"] * 101))


@pytest.mark.parametrize(("letter", "size"), [("x", 1), ("é", 2)])
def test_eight_kibibytes_are_read_and_one_more_refused(letter: str, size: int) -> None:
    raw = "ab=" + "y" + letter * ((MAX_BYTES - 4) // size)
    assert len(raw.encode()) == MAX_BYTES == 8192
    assert len(Query(raw).text("ab") or "") == 1 + 8188 // size
    with pytest.raises(InvalidRequest, match="longer than 8192 bytes"):
        Query(raw + "x")


@pytest.mark.parametrize("raw", ["a=%FF", "%FF=1", "a=%C3", "a=%C3%28", "a=%ED%A0%80"])
def test_what_is_not_utf_8_is_refused(raw: str) -> None:
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        Query(raw)


@pytest.mark.parametrize("odd", ["x[=1", "x]y[=1", "x[[]]=1", "=1", "[a]=1", "x=1&x=2", "x[a]=%00", "%=%"])
def test_an_unknown_name_is_ignored_however_odd(odd: str) -> None:
    query = Query(f"{odd}&a=1&k[]=2&q[b]=3&{odd}")
    assert (query.text("a"), query.array("k"), query.nested("q")) == ("1", ["2"], (("b", "3"),))


@bounded
@given(any_text | st.text("qk[]%5BD0=&+,a\n", max_size=40))
def test_no_text_raises_anything_but_an_invalid_request(raw: str) -> None:
    try:
        query = Query(raw)
    except InvalidRequest:
        return
    for name in {"q", "k", "", *query._pairs}:
        for read in (query.text, query.array, query.nested):
            try:
                read(name)
            except InvalidRequest as error:
                assert error.message.startswith(name)


def test_half_a_surrogate_pair_is_refused_as_no_utf_8_could_carry_it() -> None:
    with pytest.raises(InvalidRequest):
        Query("q[a]=\ud800")
