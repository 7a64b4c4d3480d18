"""What a provider's error replies mean to a caller."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import bounded, json_values
from unified_crm import providers
from unified_crm.errors import REMOTE_CODES, RemoteError
from unified_crm.provider import Reply
from unified_crm.remote_errors import explain, message_of

CLOSE, HUBSPOT = providers.load("close"), providers.load("hubspot")


def _reply(status: int, body: Any = b"", **headers: str) -> Reply:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "Object not found."}, "Object not found."),
        ({"message": "It is so."}, "It is so."),
        ({"status": "error", "message": "First", "errors": [{"message": "Second"}]}, "First"),
        ({"error": {"message": "API call count exceeded", "rate_reset": 1}}, "API call count exceeded"),
        ({"error": "invalid_grant", "error_description": "Token ran out"}, "invalid_grant"),
        ({"error_description": "Token ran out"}, "Token ran out"),
        ({"title": "Bad", "detail": "Very"}, "Very"),
        ({"detail": "Very"}, "Very"),
        ({"errors": [], "field-errors": {"name": "This field is required."}}, "name: This field is required."),
        ({"errors": [], "field-errors": {"a": "no", "b": "yes"}}, "a: no; b: yes"),
        ({"field-errors": {"statuses": {"0": "x"}}}, "statuses: {'0': 'x'}"),
        ({"field-errors": {"name": ["short", "odd"]}}, "name: short"),
        (
            {"errors": ["You can only delete an empty pipeline."], "field-errors": {}},
            "You can only delete an empty pipeline.",
        ),
        ({"errors": [{"message": "Inner"}]}, "Inner"),
        ({"errors": {"name": "x"}}, None),
        ({"message": "", "error": "Second"}, "Second"),
        ({"message": None, "errors": ["", "Third"]}, "Third"),
        ({"message": 5}, None),
        ([{"message": "In a list"}], "In a list"),
        ("  a text  ", "a text"),
        ("", None),
        (" ", None),
        ({}, None),
        ([], None),
        (None, None),
        (5, None),
    ],
)
def test_the_sentence_is_found_wherever_providers_put_it(body: Any, message: str | None) -> None:
    assert message_of(body) == message


@bounded
@given(json_values | st.dictionaries(st.sampled_from(["message", "error", "errors", "field-errors"]), json_values))
def test_no_body_makes_explaining_fail(body: Any) -> None:
    for provider in (CLOSE, HUBSPOT):
        for status in (400, 403, 429, 500):
            error = explain(provider, _reply(status, body))
            assert error.message
            assert error.body == body


@bounded
@given(
    st.recursive(
        json_values,
        lambda inner: st.fixed_dictionaries(
            {},
            optional={
                "errors": st.lists(inner) | inner,
                "context": inner,
                "requiredScopes": inner,
                "requiredGranularScopes": inner,
            },
        ),
        max_leaves=8,
    )
)
def test_no_body_makes_looking_for_scopes_fail(body: Any) -> None:
    assert explain(HUBSPOT, _reply(403, body)).status == 403


def test_a_body_of_any_depth_is_explained() -> None:
    body = b'{"error":' * 3000 + b'"deep"' + b"}" * 3000
    try:
        status = explain(CLOSE, _reply(400, body)).status
    except RecursionError:
        status = None  # its traceback would take a minute to print
    assert status == 400


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 408, 409, 415, 422, 423, 425, 429, 477, 499])
def test_a_providers_4xx_is_kept(status: int) -> None:
    error = explain(HUBSPOT, _reply(status))
    assert (error.status, error.remote_status, error.may_have_acted) == (status, status, False)
    assert error.code in REMOTE_CODES
    assert error.details == {"truto_is_remote_error": True, "raw_response": ""}
    assert error.insight["remote_error"]["value"] == {"provider": "hubspot", "status": status}


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 521, 525, 599, 600, 999])
def test_a_providers_5xx_is_ours_to_pass_on_as_502(status: int) -> None:
    error = explain(CLOSE, _reply(status, {"message": "broken"}))
    assert (error.status, error.remote_status, error.code) == (502, status, "remote_error")
    assert (error.may_have_acted, error.retryable) == (True, True)
    assert error.message == "broken"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid"),
        (401, "needs_reauth"),
        (402, "remote_error"),
        (403, "forbidden"),
        (404, "not_found"),
        (405, "remote_error"),
        (409, "duplicate"),
        (422, "invalid"),
        (423, "remote_error"),
        (429, "rate_limited"),
        (500, "remote_error"),
    ],
)
def test_a_status_alone_has_a_meaning(status: int, code: str) -> None:
    for provider in (CLOSE, HUBSPOT):
        error = explain(provider, _reply(status, {"message": "Something else"}))
        assert (error.code, error.retryable) == (code, code == "rate_limited" or status >= 500)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (
            400,
            {"category": "VALIDATION_ERROR", "message": "An active pipeline with label Sales already exists."},
            "duplicate",
        ),
        (400, {"subCategory": "PipelineError.STAGE_LABEL_EXISTS"}, "duplicate"),
        (409, {"category": "OBJECT_ALREADY_EXISTS"}, "duplicate"),
        (400, {"category": "VALIDATION_ERROR", "subCategory": "PipelineError.STAGE_ID_IN_USE"}, "in_use"),
        (400, {"message": "Pipeline must have at least one stage"}, "invalid"),
        (400, {"message": "must specify probability when writing a dealstage"}, "invalid"),
        (400, {"subCategory": "PipelineError.MISSING_CLOSED_STAGE"}, "invalid"),
        (401, {"category": "EXPIRED_AUTHENTICATION"}, "needs_reauth"),
        (403, {"category": "MISSING_SCOPES"}, "missing_scope"),
        (403, {"category": "FORBIDDEN"}, "forbidden"),
        (404, b"", "not_found"),
        (404, b"<html><body>Not Found</body></html>", "not_found"),
        (429, {"errorType": "RATE_LIMIT", "policyName": "DAILY"}, "rate_limited"),
    ],
)
def test_hubspots_bodies_mean_what_its_file_says(status: int, body: Any, code: str) -> None:
    assert explain(HUBSPOT, _reply(status, body)).code == code


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"errors": [], "field-errors": {"name": "A pipeline of this name already exists."}}, "duplicate"),
        (400, {"error": "The request contains invalid JSON."}, "invalid"),
        (400, {"errors": [], "field-errors": {"name": "This field is required."}}, "invalid"),
        (401, {"error": "Please enter a valid API key."}, "needs_reauth"),
        (402, {"error": "Your plan has no more pipelines."}, "remote_error"),
        (404, {"error": "Object not found."}, "not_found"),
    ],
)
def test_closes_bodies_mean_what_its_file_says(status: int, body: Any, code: str) -> None:
    assert explain(CLOSE, _reply(status, body)).code == code


@pytest.mark.parametrize(
    "text", ["You cannot delete a status that is assigned to opportunities.", "It has 3 deals.", "already in use"]
)
def test_whatever_close_says_of_a_refused_deletion_it_is_in_use(text: str) -> None:
    assert explain(CLOSE, _reply(400, {"errors": [text]}), "DELETE").code == "in_use"
    assert explain(CLOSE, _reply(400, {"errors": [text]}), "POST").code == "invalid"


@pytest.mark.parametrize("key", ["requiredGranularScopes", "requiredScopes"])
def test_missing_scopes_are_named(key: str) -> None:
    scopes = ["crm.schemas.deals.write", "crm.schemas.deals.read"]
    body = {
        "category": "MISSING_SCOPES",
        "errors": [{"context": {key: scopes}}, {"context": {key: scopes[:1]}}, {"context": None}, {}],
    }
    insight = explain(HUBSPOT, _reply(403, body)).insight
    assert insight["forbidden_error"]["value"] == {"missing_scopes": scopes}


def test_a_refusal_without_scopes_names_none() -> None:
    for provider in (CLOSE, HUBSPOT):
        insight = explain(provider, _reply(403, {"error": "No."})).insight
        assert insight["forbidden_error"]["value"] == {"missing_scopes": []}


def test_only_a_refusal_has_the_insight_of_one() -> None:
    assert "forbidden_error" not in explain(HUBSPOT, _reply(401)).insight
    assert "rate_limit_error" not in explain(HUBSPOT, _reply(400)).insight


@pytest.mark.parametrize(
    "body",
    [b"", b"<!DOCTYPE html><html><title>Please wait</title></html>", b"x" * 301, b"<b>", b"{}", b"[]", b"null"],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_without_a_sentence_gets_ours(body: bytes) -> None:
    error = explain(CLOSE, _reply(404, body))
    assert error.message == "Close answered 404 Not Found"
    assert explain(CLOSE, _reply(477, body)).message == "Close answered 477"


def test_a_page_is_passed_on_as_the_raw_response() -> None:
    error = explain(HUBSPOT, _reply(502, b"<html>Bad gateway</html>"))
    assert error.details["raw_response"] == "<html>Bad gateway</html>"


def test_a_short_text_is_the_message() -> None:
    assert explain(CLOSE, _reply(400, b"Nope.\n")).message == "Nope."


def test_a_rate_limit_tells_the_wait_in_header_and_insight() -> None:
    error = explain(CLOSE, _reply(429, {"error": {"message": "Slow down"}}, retry_after="7"))
    assert error.headers["retry-after"] == "7"
    assert error.insight["rate_limit_error"]["value"] == 7
    assert (error.message, error.retryable, error.status) == ("Slow down", True, 429)


def test_another_error_says_when_to_come_back_if_the_provider_does() -> None:
    assert explain(CLOSE, _reply(503, b"", retry_after="7")).headers == {"retry-after": "7"}
    assert explain(CLOSE, _reply(503, b"")).headers == {}


def test_a_rule_fits_its_own_status_only() -> None:
    error: RemoteError = explain(HUBSPOT, _reply(422, {"message": "already exists"}))
    assert error.code == "invalid"
