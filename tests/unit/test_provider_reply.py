"""A provider's reply, as flows and callers see it; and the small helpers of a provider's file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import any_text, bounded, json_values
from unified_crm.errors import ProviderBadReply
from unified_crm.models import path_segment
from unified_crm.provider import Entities, Reply, segment


def _reply(body: Any, status: int = 200) -> Reply:
    return Reply(status, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"<html></html>",
        b'{"a": ',
        b"{}{}",
        b"NaN",
        b'{"a": NaN}',
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e999]",
        b"[-1e999]",
        b'"\xff"',
        b"1" * 10_000,
        b"[" * 200_000,
        b'{"a":' * 200_000,
    ],
    ids=lambda body: f"{body[:12]!r}x{len(body)}",
)
def test_a_body_that_is_no_json_is_a_bad_reply_and_its_content_the_text(body: bytes) -> None:
    reply = _reply(body, 299)
    with pytest.raises(ProviderBadReply, match="answered 299 with a body that is not JSON"):
        _ = reply.json
    with pytest.raises(ProviderBadReply):
        reply.object()
    with pytest.raises(ProviderBadReply):
        reply.records()
    assert reply.content() == body.decode("utf-8", "replace")


@bounded
@given(json_values)
def test_any_json_is_its_own_content(value: Any) -> None:
    assert _reply(value).content() == value


@bounded
@given(st.binary(max_size=80))
def test_any_bytes_have_a_content_that_json_can_carry(body: bytes) -> None:
    json.dumps(_reply(body).content(), allow_nan=False)


def test_objects_and_lists_are_found_at_their_path() -> None:
    reply = _reply({"a": {"b": {"c": 1}}, "list": [{"x": 1}, {"y": 2}], "empty": []})
    assert reply.object()["empty"] == []
    assert reply.object("a") == {"b": {"c": 1}}
    assert reply.object("a", "b") == {"c": 1}
    assert reply.records("list") == [{"x": 1}, {"y": 2}]
    assert reply.records("empty") == []
    assert _reply([{"x": 1}]).records() == [{"x": 1}]


@pytest.mark.parametrize(
    ("body", "path"),
    [([], ()), (None, ()), ("text", ()), (5, ()), ({}, ("a",)), ({"a": []}, ("a",)), ({"a": 1}, ("a", "b"))],
)
def test_an_object_that_is_not_there_is_a_bad_reply(body: Any, path: tuple[str, ...]) -> None:
    with pytest.raises(ProviderBadReply, match="where dict was expected"):
        _reply(body).object(*path)


@pytest.mark.parametrize(
    ("body", "path"),
    [({}, ()), (None, ()), ("text", ()), ({}, ("a",)), ({"a": {}}, ("a",)), ([1], ()), ([{}, None], ()), ([[]], ())],
)
def test_a_list_of_objects_that_is_not_there_is_a_bad_reply(body: Any, path: tuple[str, ...]) -> None:
    with pytest.raises(ProviderBadReply, match="was expected"):
        _reply(body).records(*path)


def test_a_bad_reply_shows_nothing_of_what_came() -> None:
    with pytest.raises(ProviderBadReply) as caught:
        _reply(["private"]).object()
    assert "private" not in str(caught.value)


# Path segments


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ("a", "a"),
        ("2-1234567", "2-1234567"),
        ("a b", "a%20b"),
        ("é", "%C3%A9"),
        ("a+b&c=d:e", "a%2Bb%26c%3Dd%3Ae"),
        ("%", "%25"),
    ],
)
def test_a_segment_is_percent_encoded(value: str, encoded: str) -> None:
    assert segment(path_segment(value)) == encoded


@pytest.mark.parametrize(
    "value",
    [
        "",
        ".",
        "..",
        "/",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        "%2e",
        "%2F",
        "%2f..",
        "a%00",
        "%25",
        "\n",
        "a\rb",
        "\0",
        "\x7f",
        "\x85",
        "\ud800",
    ],
)
def test_what_could_be_more_than_a_segment_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="must"):
        path_segment(value)


@bounded
@given(any_text)
def test_a_segment_that_is_let_in_stays_one(value: str) -> None:
    try:
        found = path_segment(value)
    except ValueError:
        return
    sent = segment(found)
    assert sent.isascii()
    assert sent not in ("", ".", "..")
    assert not set(sent) & set("/?#\\\r\n ")


# Entities


def test_an_entity_is_named_in_both_directions() -> None:
    closed, opened = Entities({"contact": "contacts"}), Entities({"contact": "contacts"}, others=True)
    assert (closed.to_remote("contact"), closed.to_remote("tickets")) == ("contacts", None)
    assert (opened.to_remote("contact"), opened.to_remote("tickets")) == ("contacts", "tickets")
    assert (closed.to_unified("contacts"), opened.to_unified("tickets")) == ("contact", "tickets")
