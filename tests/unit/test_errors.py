"""The error tree, as its docstring draws it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from unified_crm import errors
from unified_crm.errors import REMOTE_CODES, PartialFailure, ProviderError, RemoteError, UnifiedError

RESENT = {408, 409, 425, 429, 502, 503, 504}
"""What the official clients send again by themselves, POST included."""


def _classes(root: type[UnifiedError] = UnifiedError) -> list[type[UnifiedError]]:
    return [root, *(found for each in root.__subclasses__() for found in _classes(each))]


def _drawn() -> dict[str, tuple[int, str]]:
    """From the docstring: each class with its depth in the tree and the text beside it."""
    found = {}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ([│├└─ ]*)([A-Z]\w+)\s{2,}(.*)", line):
            found[match[2]] = (len(match[1]) // 4, match[3])
    return found


def _make(kind: type[UnifiedError]) -> UnifiedError:
    more: dict[type[UnifiedError], dict[str, Any]] = {
        RemoteError: {"code": "invalid", "remote_status": 400, "body": {}},
        PartialFailure: {"leftovers": [{"resource": "pipeline", "id": "1", "name": None}], "cause": UnifiedError("x")},
    }
    return kind("It went wrong", **more.get(kind, {}))


def test_every_class_is_drawn_once_and_where_it_stands() -> None:
    drawn, parents, tree = _drawn(), {}, list[str]()
    for name, (depth, _) in drawn.items():
        tree[depth:] = [name]
        parents[name] = tree[depth - 1] if depth else "Exception"
    assert parents == {each.__name__: each.__mro__[1].__name__ for each in _classes()}


@pytest.mark.parametrize(
    "kind", [each for each in _classes() if each not in (UnifiedError, ProviderError, RemoteError)]
)
def test_the_drawing_tells_status_and_code(kind: type[UnifiedError]) -> None:
    status, code = re.match(r"(\d{3}) (\w+)(?::|$)", _drawn()[kind.__name__][1]).groups()  # type: ignore[union-attr]
    assert (int(status), code) == (kind.status, kind.code) == (_make(kind).status, _make(kind).code)


def test_codes_are_words_and_none_means_two_things() -> None:
    leaves = [each.code for each in _classes() if each not in (UnifiedError, ProviderError)]
    assert len(leaves) == len(set(leaves))
    shared = set(leaves) & set(REMOTE_CODES)
    assert shared == {"in_use", "needs_reauth", "not_found", "remote_error"}, (
        "ours and theirs differ by truto_is_remote_error"
    )
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in {*leaves, *REMOTE_CODES})


@pytest.mark.parametrize("code", REMOTE_CODES)
def test_each_remote_code_is_explained(code: str) -> None:
    assert re.fullmatch(r"[A-Z].+\.", REMOTE_CODES[code])


@pytest.mark.parametrize("kind", _classes())
def test_each_class_says_what_it_means(kind: type[UnifiedError]) -> None:
    assert kind.__doc__
    assert isinstance(_make(kind), UnifiedError)
    assert str(_make(kind)) == _make(kind).message == "It went wrong"


@pytest.mark.parametrize("kind", [each for each in _classes() if each not in (UnifiedError, ProviderError)])
def test_what_must_not_be_sent_again_has_no_status_that_clients_send_again(kind: type[UnifiedError]) -> None:
    error = _make(kind)
    if error.retryable:
        assert error.status in RESENT
    assert not ({"partial_failure", "outcome_unknown", "internal_error"} & {error.code} and error.status in RESENT)


@pytest.mark.parametrize(
    ("remote", "status", "code", "may_have_acted", "retryable"),
    [
        (400, 400, "invalid", False, False),
        (401, 401, "needs_reauth", False, False),
        (409, 409, "duplicate", False, False),
        (429, 429, "rate_limited", False, True),
        (500, 502, "remote_error", True, True),
        (503, 502, "remote_error", True, True),
    ],
)
def test_a_remote_error_keeps_the_providers_4xx_only(
    remote: int, status: int, code: str, may_have_acted: bool, retryable: bool
) -> None:
    error = RemoteError("No", code=code, remote_status=remote, body={"a": 1})
    assert (error.status, error.may_have_acted, error.retryable) == (status, may_have_acted, retryable)
    assert error.details == {"truto_is_remote_error": True, "raw_response": {"a": 1}}


@pytest.mark.parametrize("kind", [each for each in _classes() if issubclass(each, ProviderError)])
def test_only_a_call_that_was_not_made_and_a_4xx_are_certain_to_have_done_nothing(kind: type[UnifiedError]) -> None:
    error = _make(kind)
    assert isinstance(error, ProviderError)
    assert error.may_have_acted is (kind.__name__ not in ("ProviderUnreachable", "RemoteError", "CircuitOpen"))


def test_a_partial_failure_keeps_the_cause_and_names_what_is_left() -> None:
    left = [{"resource": "pipeline", "id": "1", "name": "Sales"}]
    cause = UnifiedError("x", details={"truto_is_remote_error": True, "raw_response": ""}, insight={"a": {}})
    error = PartialFailure("No", leftovers=left, cause=cause)
    assert error.details == {"truto_is_remote_error": True, "raw_response": "", "leftovers": left}
    assert error.insight == {"a": {}}


def test_errors_share_no_state() -> None:
    first, second = _make(UnifiedError), _make(UnifiedError)
    first.details["a"] = first.insight["a"] = first.headers["a"] = "x"
    assert (second.details, second.insight, second.headers) == ({}, {}, {})
