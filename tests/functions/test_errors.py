"""Every error of the contract, as a caller sees it."""

from __future__ import annotations

import gc
import json
import logging
import re
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any
from uuid import uuid4

import pytest

from local.simulators.base import Fault, Kind, closed_port
from local.world import World
from tests.conftest import CLOSE, HUBSPOT, Answer, Http
from tests.functions.conftest import PATH, PIPELINE, STAGES, Place, an_event
from unified_crm import accounts

ENVELOPE = ["statusCode", "error", "message", "code", "request_id"]
Api = Callable[..., Answer]


def _is_ours(answer: Answer, status: int, code: str, *more: str) -> dict[str, Any]:
    """The envelope with its members in order, `more` after them."""
    body: dict[str, Any] = answer.json
    assert (answer.status, body["statusCode"], body["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/json"
    assert list(body) == [*ENVELOPE, *more]
    assert body["message"]
    assert body["request_id"]
    assert "Traceback" not in answer.text
    return body


def _is_remote(answer: Answer, status: int, code: str, *more: str) -> dict[str, Any]:
    body = _is_ours(answer, status, code, "truto_is_remote_error", "raw_response", *more, "truto_error_insight")
    assert body["truto_is_remote_error"] is True
    return body


# The gateway's own refusals


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("unknown", 403)])
def test_without_a_good_token_the_function_is_never_reached(place: Place, token: str | None, status: int) -> None:
    answer = place.create(token=token)
    assert answer.status == status
    assert answer.json.keys() == {"message"}
    assert place.simulator.received == []


# 400


def test_the_request_id_is_the_gateways(http: Http) -> None:
    answer = http("POST", PATH, PIPELINE)
    assert answer.json["request_id"] == answer.headers["apigw-requestid"]


@pytest.mark.parametrize("query", ["", "integrated_account_id=", "other=1"])
def test_an_account_is_required(http: Http, query: str) -> None:
    body = _is_ours(http("POST", f"{PATH}?{query}", PIPELINE), 400, "invalid_request", "truto_error_insight")
    assert body["error"] == "Bad Request"
    insight = body["truto_error_insight"]["missing_required_query_parameters"]
    assert insight["value"] == ["integrated_account_id"]
    assert insight["description"]


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "0",
        CLOSE[:-1],
        CLOSE + "0",
        CLOSE.replace("-", ""),
        "{" + CLOSE + "}",
        "urn:uuid:" + CLOSE,
        "%20" + CLOSE,
        "../" + CLOSE,
        CLOSE.replace("6", "%D9%A6"),
        CLOSE + "%0A",
    ],
)
def test_an_account_id_is_a_uuid(http: Http, value: str) -> None:
    body = _is_ours(http("POST", f"{PATH}?integrated_account_id={value}", PIPELINE), 400, "invalid_request")
    assert body["message"] == "integrated_account_id must be a UUID"


def test_an_account_is_given_once(http: Http) -> None:
    answer = http.create(CLOSE, PIPELINE, f"&integrated_account_id={HUBSPOT}")
    assert _is_ours(answer, 400, "invalid_request")["message"].startswith("integrated_account_id must be given once")


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("&" + "&".join(f"x{index}=1" for index in range(100)), "100"),
        ("&x=" + "y" * 8192, "8192"),
        ("&remote_query[a][b][c][d][e][f]=1", "deeper than 5"),
        ("&x=%FF", "UTF-8"),
        ("&" + "&".join(["k=1"] * 1000), "100"),
    ],
)
def test_a_query_beyond_the_bounds_is_refused(place: Place, query: str, word: str) -> None:
    assert word in _is_ours(place.create(query=query), 400, "invalid_request")["message"]
    assert place.simulator.received == []


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({**PIPELINE, "nam": "x"}, ["nam is not a known field"]),
        ({"name": "x", "stages": [{"name": "One"}, {"label": "Two"}]}, ["stages[1].label is not a known field"]),
        ({"name": 5, "stages": STAGES}, ["name: "]),
        ({"name": ["x"]}, ["name: "]),
        ({"name": "x", "stages": "One"}, ["stages: "]),
        ({"name": "x", "stages": {"0": {}}}, ["stages: "]),
        ({"name": "x", "stages": ["One"]}, ["stages[0] must be a JSON object"]),
        ({"name": "x", "stages": [None]}, ["stages[0] must be a JSON object"]),
        ({"name": "x", "stages": [{"name": True}]}, ["stages[0].name: "]),
        ({"name": "x", "stages": [{"name": "One", "status": "open"}]}, ["stages[0].status: "]),
        ({"name": "x", "stages": [{"name": "One", "status": "Won"}]}, ["stages[0].status: "]),
        ({"name": "x", "stages": [{"name": "One", "remote_data": []}]}, ["stages[0].remote_data: "]),
        ({"name": "x", "remote_data": "x"}, ["remote_data: "]),
        ({"name": "x", "entity": 5}, ["entity: "]),
        ({"id": "x", "created_at": "y"}, ["id is not a known field", "created_at is not a known field"]),
        ([], ["The body must be a JSON object"]),
        ("text", ["The body must be a JSON object"]),
        (5, ["The body must be a JSON object"]),
    ],
)
def test_a_body_of_another_form_is_refused_naming_each_field(place: Place, body: Any, names: list[str]) -> None:
    message = _is_ours(place.create(body), 400, "invalid_request")["message"]
    assert all(name in message for name in names)
    assert place.simulator.received == []


def test_null_is_no_pipeline(place: Place) -> None:
    assert place.create(b"null").json["code"] == "invalid_request"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"name": "x",}',
        b'{"name": "x", "name": "y"}',
        b'{"name": NaN}',
        b'{"name": 1e999}',
        b'{"remote_data": {"n": 9223372036854775808}}',
        b'{"name": "\\ud800"}',
        b'{"remote_data": ' + b'{"a":' * 200 + b"1" + b"}" * 201,
        b"[" * 100_000,
        b'{"name": "\xff"}',
        b"name=x",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_a_body_that_is_no_json_is_refused(place: Place, api: Api, body: bytes) -> None:
    answer = api(an_event(body, f"integrated_account_id={place.account}"))
    _is_ours(answer, 400, "invalid_json")
    assert place.simulator.received == []


def test_base64_that_is_none_is_refused(api: Api) -> None:
    _is_ours(api(an_event("a", isBase64Encoded=True)), 400, "invalid_json")
    _is_ours(api(an_event("€", isBase64Encoded=True)), 400, "invalid_json")


# 404 and 405


def test_an_account_that_is_not_there_and_one_of_another_tenant_are_the_same_404(http: Http) -> None:
    shown = []
    for account, token in ((str(uuid4()), "demo-token"), (CLOSE, "other-token"), (HUBSPOT, "other-token")):
        answer = http.create(account, PIPELINE, token=token)
        body = _is_ours(answer, 404, "not_found")
        assert body["error"] == "Not Found"
        shown.append((body["message"].replace(account, "…"), sorted(answer.headers)))
    assert shown[0] == shown[1] == shown[2]


def test_a_token_for_some_accounts_sees_no_other(http: Http, world: World) -> None:
    world.add_token("only-close", "demo", accounts=[CLOSE.upper()])
    assert http.create(CLOSE, PIPELINE, token="only-close").status == 200
    _is_ours(http.create(HUBSPOT, PIPELINE, token="only-close"), 404, "not_found")


def test_a_token_for_no_account_sees_none(http: Http, world: World) -> None:
    world.add_token("none-at-all", "demo", accounts=[])
    _is_ours(http.create(CLOSE, PIPELINE, token="none-at-all"), 404, "not_found")


@pytest.mark.parametrize(
    "path", ["/", "/unified", "/unified/crm/pipeline", "/unified/crm/contacts/1", "/crm/v3/pipelines", "/x%2Fy"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_address_is_404(http: Http, path: str, method: str) -> None:
    body = _is_ours(http(method, path), 404, "not_found")
    assert "There is no" in body["message"]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_known_address_with_another_method_is_405(http: Http, method: str) -> None:
    answer = http(method, PATH, headers={"content-type": "application/json"})
    body = _is_ours(answer, 405, "method_not_allowed")
    assert method in body["message"]
    assert "POST" in answer.headers["allow"].split(", ")


def test_head_has_no_body_and_the_same_status(http: Http) -> None:
    answer = http("HEAD", PATH)
    assert (answer.status, answer.text) == (405, "")


# 413 and 415


def test_a_body_over_a_mebibyte_is_413(place: Place) -> None:
    answer = place.create(b'{"name": "' + b"x" * 1024 * 1024 + b'"}')
    _is_ours(answer, 413, "payload_too_large")
    assert place.simulator.received == []


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream"])
def test_a_body_that_is_no_json_by_its_media_type_is_415(place: Place, media_type: str) -> None:
    answer = place.create(json.dumps(PIPELINE).encode(), headers={"content-type": media_type})
    assert media_type in _is_ours(answer, 415, "unsupported_media_type")["message"]
    assert place.simulator.received == []


@pytest.mark.parametrize(
    "media_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+json"]
)
def test_json_by_any_of_its_names_is_read(place: Place, media_type: str) -> None:
    assert place.create(json.dumps(PIPELINE).encode(), headers={"content-type": media_type}).status == 200


# What the provider answers


def test_a_duplicate_keeps_hubspots_status(hubspot: Place) -> None:
    hubspot.create()
    body = _is_remote(hubspot.create({**PIPELINE, "name": "SALES"}), 400, "duplicate")
    assert body["message"] == "An active pipeline with label SALES already exists."
    assert body["raw_response"]["category"] == "VALIDATION_ERROR"
    assert body["truto_error_insight"]["remote_error"]["value"] == {"provider": "hubspot", "status": 400}


def test_an_id_that_is_taken_is_409(hubspot: Place) -> None:
    hubspot.create({**PIPELINE, "remote_data": {"pipelineId": "mine"}})
    answer = hubspot.create({**PIPELINE, "name": "Other", "remote_data": {"pipelineId": "mine"}})
    assert _is_remote(answer, 409, "duplicate")["error"] == "Conflict"


def test_closes_validation_is_put_in_a_sentence(close: Place) -> None:
    body = _is_remote(close.create({**PIPELINE, "name": " "}), 400, "invalid")
    assert body["message"] == "name: This field may not be blank."
    assert body["raw_response"] == {"errors": [], "field-errors": {"name": "This field may not be blank."}}


def test_refused_credentials_keep_the_providers_401(place: Place, world: World) -> None:
    account = str(uuid4())
    secret = place.simulator.demo_account
    wrong = {key: value if key == "type" else "wrong-credential" for key, value in secret["credentials"].items()}
    world.add_account(account, {**secret, "credentials": wrong})
    answer = place.http.create(account, PIPELINE)
    assert _is_remote(answer, 401, "needs_reauth")["error"] == "Unauthorized"
    assert "wrong-credential" not in answer.text


def test_a_missing_scope_is_named(hubspot: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hubspot.simulator.world, "scopes", ["crm.schemas.deals.read"])
    body = _is_remote(hubspot.create(), 403, "missing_scope")
    insight = body["truto_error_insight"]["forbidden_error"]
    assert insight["value"] == {"missing_scopes": ["crm.schemas.deals.write"]}
    assert insight["description"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid"),
        (402, "remote_error"),
        (403, "forbidden"),
        (404, "not_found"),
        (422, "invalid"),
        (423, "remote_error"),
    ],
)
def test_a_providers_4xx_is_kept(place: Place, status: int, code: str) -> None:
    place.simulator.fault(Fault("status", status=status, body={"message": "No."}))
    body = _is_remote(place.create(), status, code)
    assert (body["message"], body["raw_response"]) == ("No.", {"message": "No."})


def test_a_status_of_the_providers_own_has_a_name(place: Place) -> None:
    place.simulator.fault(Fault("status", status=477, body=None))
    body = _is_remote(place.create(), 477, "remote_error")
    assert body["error"]
    assert body["raw_response"] == ""


@pytest.mark.parametrize("retry_after", [7, 0, None])
def test_a_rate_limit_is_429_with_its_headers(place: Place, retry_after: int | None) -> None:
    place.simulator.fault(Fault("rate_limit", retry_after=retry_after, repeat=3))  # short waits are taken inside
    answer = place.create()
    body = _is_remote(answer, 429, "rate_limited")
    assert body["error"] == "Too Many Requests"
    for name in ("retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"):
        assert re.fullmatch(r"\d+", answer.headers[name]), name
    wait = int(answer.headers["retry-after"])
    assert wait == (7 if retry_after == 7 else {"close": 1, "hubspot": 10}[place.name])
    assert body["truto_error_insight"]["rate_limit_error"]["value"] == wait


@pytest.mark.parametrize("form", ["comma", "semicolon", "separate"])
def test_closes_rate_limit_is_read_in_each_form(close: Place, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"rate_limit": 1, "rate_window": 30.0, "rate_headers": form}.items():
        monkeypatch.setitem(close.simulator.world, name, value)
    close.create()
    answer = close.create({**PIPELINE, "name": "Other"})
    assert answer.status == 429
    assert (answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"]) == ("1", "0")
    assert 25 <= int(answer.headers["ratelimit-reset"]) <= 30


@pytest.mark.parametrize("status", [500, 502, 503, 504, 521])
def test_a_providers_5xx_is_502(place: Place, status: int) -> None:
    place.simulator.fault(Fault("status", status=status, body={"message": "broken"}))
    body = _is_remote(place.create(), 502, "remote_error")
    assert (body["error"], body["message"]) == ("Bad Gateway", "broken")
    assert body["truto_error_insight"]["remote_error"]["value"]["status"] == status
    assert place.simulator.pipelines() == []


def test_a_page_is_passed_on_as_text_with_a_sentence_of_ours(place: Place) -> None:
    place.simulator.fault(Fault("status", status=403, body="<html>Blocked</html>"))
    body = _is_remote(place.create(), 403, "forbidden")
    assert body["raw_response"] == "<html>Blocked</html>"
    assert "<" not in body["message"]


def test_an_error_body_larger_than_lambda_can_answer_is_still_an_answer(place: Place) -> None:
    place.simulator.fault(Fault("status", status=400, body={"message": "x" * 7_000_000}))
    answer = place.create()
    assert (answer.status, answer.json.get("code")) == (400, "invalid")
    assert answer.json["truto_is_remote_error"] is True


def test_an_error_body_nested_without_end_is_still_an_answer(place: Place) -> None:
    place.simulator.fault(Fault("status", status=400, body='{"error":' * 3000 + "1" + "}" * 3000))
    answer = place.create()
    assert (answer.status, answer.json.get("code")) == (400, "invalid")


# What never came


@pytest.mark.parametrize("kind", ["reset", "cut", "truncated", "redirect"])
def test_an_answer_that_is_none_is_502(place: Place, kind: Kind) -> None:
    """The answer is spoilt each time, and looking shows that nothing happened, or that it did."""
    place.simulator.fault(Fault(kind))
    answer = place.create()
    if kind in ("cut", "truncated"):  # the provider acted: found and adopted
        assert (answer.status, answer.headers["truto-outcome"]) == (200, "adopted")
    else:
        _is_ours(answer, 502, "provider_bad_reply")
        assert place.simulator.pipelines() == []


def test_a_provider_that_cannot_be_reached_is_502(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({place.name: closed_port()}))
    body = _is_ours(place.create(), 502, "provider_unreachable")
    assert "nothing was sent" in body["message"]


def test_a_provider_that_never_answers_is_504_within_the_functions_time(place: Place, api: Api) -> None:
    place.simulator.fault(Fault("hang"))
    answer = api(an_event(query=f"integrated_account_id={place.account}"), seconds=2.5)
    assert _is_ours(answer, 504, "provider_timeout")["error"] == "Gateway Timeout"
    assert place.simulator.pipelines() == []


def test_a_function_with_no_time_left_sends_nothing(place: Place, api: Api) -> None:
    answer = api(an_event(query=f"integrated_account_id={place.account}"), seconds=0.9)
    _is_ours(answer, 504, "provider_timeout")
    assert place.simulator.received == []


# 500


def test_a_failed_step_is_told_with_what_was_taken_back(close: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(close.simulator.world, "inline_statuses", False)
    close.simulator.fault(Fault("status", at=3, status=500, body={"error": "broken"}))
    body = _is_remote(close.create(), 502, "remote_error", "rolled_back")
    assert body["message"].startswith("Step 3 failed: broken Nothing is left behind")
    assert [each["resource"] for each in body["rolled_back"]] == ["pipeline"]
    assert close.simulator.pipelines() == []


def test_what_could_not_be_taken_back_is_500_and_named(close: Place, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(close.simulator.world, "inline_statuses", False)
    close.simulator.fault(
        Fault("status", at=2, status=400, body={"error": "broken"}), Fault("status", method="DELETE", repeat=9)
    )
    answer = api(an_event(), seconds=2.5)
    (left,) = close.simulator.pipelines()
    body = _is_ours(
        answer, 500, "partial_failure", "truto_is_remote_error", "raw_response", "leftovers", "truto_error_insight"
    )
    assert body["error"] == "Internal Server Error"
    assert body["leftovers"] == [
        {"resource": "pipeline", "id": left["id"], "name": "Sales"},
        *({"resource": "stage", "id": stage["id"], "name": stage["name"]} for stage in left["stages"]),
    ]


def test_an_outcome_that_cannot_be_told_is_500(place: Place) -> None:
    place.simulator.fault(Fault("reset", after=True), Fault("status", method="GET", status=500, repeat=9))
    body = _is_ours(place.create(), 500, "outcome_unknown")
    assert "List the pipelines" in body["message"]


def test_a_fault_of_ours_is_500_and_tells_only_its_id(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_BASE_URLS", "nonsense")
    _is_ours(api(an_event()), 500, "internal_error")


def test_an_exception_that_nobody_foresaw_shows_nothing_of_itself(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any, **__: Any) -> None:
        raise RuntimeError("private detail")

    monkeypatch.setattr(accounts, "load", explode)
    answer = api(an_event())
    assert "private" not in answer.text
    assert "request_id" in _is_ours(answer, 500, "internal_error")["message"]


# 503


@pytest.mark.parametrize(
    "stored",
    [
        {"provider": "nowhere", "tenant": "demo", "credentials": {"type": "bearer", "token": "sesame-4711"}},
        {"provider": "close", "tenant": "demo", "credentials": {"type": "bearer", "key": "sesame-4711"}},
        {"provider": "hubspot", "tenant": "demo", "credentials": {"type": "api_key", "api_key": "sesame-4711"}},
        {"provider": "close", "tenant": "demo"},
    ],
)
def test_an_account_that_cannot_be_used_is_503(http: Http, world: World, stored: dict[str, Any]) -> None:
    account = str(uuid4())
    world.add_account(account, stored)
    answer = http.create(account, PIPELINE)
    assert _is_ours(answer, 503, "account_unusable")["error"] == "Service Unavailable"
    assert "sesame" not in answer.text


def test_where_secrets_manager_is_down_the_answer_says_when_to_try_again(
    api: Api, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unified_crm import accounts

    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_port())
    accounts._secrets.cache_clear()
    try:
        answer = api(an_event())
    finally:
        accounts._secrets.cache_clear()
    _is_ours(answer, 503, "credentials_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert world.simulators["close"].received == []  # type: ignore[attr-defined]


# What stays of it


@pytest.fixture
def _no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    ("method", "path", "fault"),
    [
        ("GET", "/unified/crm/stages/nowhere", None),
        ("DELETE", f"{PATH}/nowhere", None),
        ("GET", PATH, Fault("status", status=401)),
        ("GET", PATH, Fault("cut")),  # and then answered
        ("POST", PATH, Fault("cut")),
        ("POST", PATH, Fault("status", status=422)),
        ("POST", PATH, Fault("status", status=503)),
    ],
)
@pytest.mark.usefixtures("_no_collections")
def test_a_failure_is_not_kept(
    place: Place, api: Api, method: str, path: str, fault: Fault | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error holds its traceback, that each frame, and one of these often the error again: with a reply of maybe
    many megabytes, until garbage is looked for. Which it hardly ever is by itself: that is about numbers, not sizes."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's keep what is logged
    if fault:
        place.simulator.fault(fault)
    api(an_event(PIPELINE, f"integrated_account_id={place.account}", method=method, path=path))
    modules = [each.tb_frame.f_globals["__name__"] for each in gc.get_objects() if isinstance(each, TracebackType)]
    assert not [name for name in modules if name.startswith(("api.", "unified_crm."))]


# Events in other forms


def test_a_body_in_base64_is_the_same_body(place: Place, api: Api) -> None:
    event = an_event(
        json.dumps({**PIPELINE, "name": "Été"}, ensure_ascii=False).encode(), f"integrated_account_id={place.account}"
    )
    assert event["isBase64Encoded"]
    assert api(event).json["name"] == "Été"


@pytest.mark.parametrize("name", ["content-type", "Content-Type", "CONTENT-TYPE", "cOnTeNt-TyPe"])
def test_header_names_are_read_in_any_case(api: Api, name: str) -> None:
    assert api(an_event(headers={name: "text/plain"})).status == 415
    assert api(an_event(headers={name: "application/json"})).status == 200


@pytest.mark.parametrize("headers", [{}, None])
def test_an_event_without_headers_is_read(api: Api, headers: dict[str, str] | None) -> None:
    event = an_event()
    event["headers"] = headers
    assert api(event).status == 200
    del event["headers"]
    assert api({**event, "body": json.dumps({**PIPELINE, "name": "Other"})}).status == 200


@pytest.mark.parametrize("body", [None, "", " \n"])
def test_an_event_without_a_body_lacks_fields_and_no_more(api: Api, body: str | None) -> None:
    for event in (an_event(body), {**an_event(body), "body": body}):
        _is_ours(api(event), 400, "invalid_request", "truto_error_insight")


def test_a_content_type_without_a_body_is_no_body(api: Api) -> None:
    assert api(an_event(None, method="GET")).status == 200
    _is_ours(api(an_event(None, method="DELETE")), 405, "method_not_allowed")
    _is_ours(api(an_event(None, method="GET", path="/nowhere")), 404, "not_found")


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"tenant": "demo"},
        {"accounts": "*"},
        {"tenant": "", "accounts": "*"},
        {"tenant": None, "accounts": None},
    ],
)
def test_a_request_that_went_around_the_authorizer_is_401(api: Api, world: World, context: Any) -> None:
    _is_ours(api(an_event(context=context)), 401, "unauthorized")
    assert world.simulators["close"].received == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("authorizer", [None, {}, {"lambda": None}, {"jwt": {"claims": {}}}])
def test_an_event_without_an_authorizers_context_is_401(api: Api, authorizer: Any) -> None:
    event = an_event()
    event["requestContext"]["authorizer"] = authorizer
    _is_ours(api(event), 401, "unauthorized")
    del event["requestContext"]["authorizer"]
    _is_ours(api(event), 401, "unauthorized")


@pytest.mark.parametrize("part", ["isBase64Encoded", "routeKey", "version", "headers"])
def test_an_event_may_lack_a_part(api: Api, part: str) -> None:
    event = an_event()
    event.pop(part, None)
    assert api(event).status == 200


def test_a_stage_in_the_path_is_not_part_of_the_address(api: Api) -> None:
    event = an_event(path=f"/prod{PATH}")
    event["requestContext"]["stage"] = "prod"
    assert api(event).status == 200
