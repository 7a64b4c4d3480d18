"""What no caller should send and no operator should store, on every route that reads it: a clear error, never a 500."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest

from api.body import MAX_BYTES
from local.world import PREFIX, REGION, World
from tests.conftest import CLOSE, HUBSPOT, Answer, Http
from tests.functions.conftest import PIPELINE, an_event

Api = Callable[..., Answer]
BASE = "/unified/crm"
STAGE = {"name": "New", "pipeline": {"id": "1"}}
WRITES = [
    ("POST", f"{BASE}/pipelines"),
    ("PATCH", f"{BASE}/pipelines/1"),
    ("POST", f"{BASE}/stages"),
    ("PATCH", f"{BASE}/stages/1"),
]
READS = [
    ("GET", f"{BASE}/pipelines"),
    ("GET", f"{BASE}/pipelines/1"),
    ("GET", f"{BASE}/stages"),
    ("GET", f"{BASE}/stages/1"),
    ("GET", f"{BASE}/stages/meta/create"),
]
DELETES = [("DELETE", f"{BASE}/pipelines/1"), ("DELETE", f"{BASE}/stages/1")]
EVERY = [*READS, *WRITES, *DELETES]


@pytest.fixture(autouse=True)
def _nothing_is_sent(world: World) -> Iterator[None]:
    """To no provider, whatever the mistake: it is found before."""
    yield
    assert not any(each.received for each in world.simulators.values())  # type: ignore[attr-defined]


def _refused(answer: Answer, status: int, code: str, *words: str) -> None:
    body = answer.json
    assert (answer.status, body["statusCode"], body["code"]) == (status, status, code), answer.text[:300]
    assert list(body)[:5] == ["statusCode", "error", "message", "code", "request_id"]
    assert answer.headers["content-type"] == "application/json"
    assert all(word in body["message"] for word in words), body["message"]
    assert len(answer.text) < 2000, "an error does not throw back what it was sent"
    assert "Traceback" not in answer.text


# Bodies

TOO_LARGE = {
    "a long text": b'{"name": "' + b"x" * MAX_BYTES + b'"}',
    "few characters of many bytes": '{{"name": "{}"}}'.format("é" * (MAX_BYTES // 2)).encode(),
    "white space": b" " * (MAX_BYTES + 1),
    "not even JSON": b"\xff" * (MAX_BYTES + 1),
    "all that API Gateway lets through": b"[" * 7_000_000,
}
NO_JSON = {
    "nested 200 deep": b'{"remote_data": ' + b"[" * 200 + b"]" * 200 + b"}",
    "objects nested 200 deep": b'{"remote_data": ' + b'{"a":' * 200 + b"1" + b"}" * 201,
    "nested without end": b'{"a":' * 100_000,
    "a key twice": b'{"name": "a", "name": "b"}',
    "a key twice inside": b'{"remote_data": {"a": [{"b": 1, "b": 1}]}}',
    "a key twice, written differently": b'{"name": "a", "n\\u0061me": "b"}',
    "half a surrogate pair": b'{"name": "\\ud83d"}',
    "half a surrogate pair in a key": b'{"remote_data": {"\\udc00": 1}}',
    "NaN": b'{"position": NaN}',
    "infinity": b'{"remote_data": {"a": -Infinity}}',
    "an integer of 65 bits": b'{"position": 18446744073709551616}',
    "an integer of a million digits": b'{"position": ' + b"9" * 1_000_000 + b"}",
    "a negative one": b'{"remote_data": {"a": -9223372036854775809}}',
    "a float beyond all bounds": b'{"remote_data": {"a": 1e309}}',
    "an exponent without end": b'{"remote_data": {"a": 1e' + b"9" * 10_000 + b"}}",
    "a NUL": b'{"name": "\x00"}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "UTF-8 cut short": b'{"name": "\xc3"}',
    "two values": b'{"name": "a"}{"name": "b"}',
}


@pytest.mark.parametrize("body", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_body_over_a_mebibyte_is_413(api: Api, body: bytes) -> None:
    for method, path in WRITES:
        _refused(api(an_event(body, method=method, path=path)), 413, "payload_too_large", str(MAX_BYTES))


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
@pytest.mark.parametrize("media_type", ["application/json", "application/merge-patch+json", None])
def test_a_body_that_is_no_strict_json_is_400(api: Api, body: bytes, media_type: str | None) -> None:
    for method, path in WRITES:
        headers = {"content-type": media_type} if media_type else {}
        _refused(api(an_event(body, method=method, path=path, headers=headers)), 400, "invalid_json")


@pytest.mark.parametrize("text", ["a", "=", "====", "e30", "e30=\n", "e3 0=", "{}", "é", "\ud800", "\x00"])
def test_base64_that_is_none_is_400(api: Api, text: str) -> None:
    for method, path in WRITES:
        _refused(api(an_event(text, method=method, path=path, isBase64Encoded=True)), 400, "invalid_json", "base64")


@pytest.mark.parametrize("position", [-1, 2**31, 2**63 - 1, -(2**63), 1.5, 1e308, True, "1"])
def test_a_position_that_is_none_is_400(api: Api, position: Any) -> None:
    for method, path in WRITES:
        _refused(api(an_event({**STAGE, "position": position}, method=method, path=path)), 400, "invalid_request")


@pytest.mark.parametrize("name", ["__proto__", "a" * 1000, "x\r\nset-cookie: a=b", "<script>", "\x1b[2J", "\u202e"])
def test_an_unknown_field_is_named_and_not_thrown_back_whole(api: Api, name: str) -> None:
    for method, path in WRITES:
        answer = api(an_event({name: "y" * 100_000}, method=method, path=path))
        _refused(answer, 400, "invalid_request", "is not a known field")
        assert "y" * 8 not in answer.text


def test_ten_thousand_mistakes_are_a_short_answer(api: Api) -> None:
    for method, path in WRITES:
        body = {"stages": [{"nam": 1}] * 10_000, **{f"x{index}": index for index in range(10_000)}}
        _refused(api(an_event(body, method=method, path=path)), 400, "invalid_request")


@pytest.mark.parametrize("media_type", ["x" * 5000, "text/\u2028", "multipart/form-data; boundary=\x00", "a\r\nb: c"])
def test_an_odd_media_type_is_415(api: Api, media_type: str) -> None:
    for method, path in WRITES:
        event = an_event({}, method=method, path=path, headers={"content-type": media_type})
        _refused(api(event), 415, "unsupported_media_type")


@pytest.mark.parametrize(("method", "path"), [("GET", f"{BASE}/nowhere"), ("PUT", f"{BASE}/pipelines")])
@pytest.mark.parametrize("body", [b"x" * 7_000_000, b"[" * 100_000, b"\xff"], ids=["large", "deep", "no text"])
def test_a_body_that_nobody_reads_is_no_mistake_of_its_own(api: Api, method: str, path: str, body: bytes) -> None:
    assert api(an_event(body, method=method, path=path)).status in (404, 405)


# Queries

QUERIES = {
    "a thousand keys": ("&".join(f"k{index}=1" for index in range(1000)), "100"),
    "a thousand of one key": ("&".join(["x[]=a"] * 1000), "100"),
    "nested without end": ("remote_query" + "[a]" * 1000 + "=1", "deeper than 5"),
    "too long": ("remote_query[a]=" + "x" * 9000, "8192"),
    "too long when encoded as it was sent": ("remote_query[a]=" + "%41" * 3000, "8192"),
    "too long by characters of many bytes": ("remote_query[a]=" + "€" * 3000, "8192"),
    "a line break in a value": ("remote_query[a]=1%0d%0ax-evil:%201", "remote_query"),
    "a line feed": ("remote_query[a]=1%0a", "remote_query"),
    "a line break in a key": ("remote_query[a%0d%0ax-evil: 1]=1", "remote_query"),
    "a NUL": ("remote_query[a]=%00", "remote_query"),
    "no UTF-8": ("remote_query[a]=%ff", "UTF-8"),
    "half a surrogate pair": ("remote_query[a]=%ed%a0%80", "UTF-8"),
    "UTF-8 that is too long": ("remote_query[a]=%c0%8a", "UTF-8"),
    "brackets that do not match": ("remote_query[a=1", "remote_query"),
    "no key": ("remote_query[]=1", "remote_query"),
    "no object": ("remote_query=1", "remote_query"),
}


@pytest.mark.parametrize(("query", "word"), QUERIES.values(), ids=QUERIES)
def test_a_bad_query_is_400_on_every_route(api: Api, query: str, word: str) -> None:
    for method, path in EVERY:
        event = an_event(STAGE, f"integrated_account_id={CLOSE}&{query}", method=method, path=path)
        _refused(api(event), 400, "invalid_request", word)


@pytest.mark.parametrize(
    "value",
    [
        "%00",
        f"{CLOSE}%00",
        f"{CLOSE}%0d%0a",
        f"%09{CLOSE}",
        f"{CLOSE}%7f",
        f"{CLOSE[:-1]}%0a",
        f"{CLOSE[:-1]}%ef%bc%90",  # a digit, but a wide one
        f"{CLOSE[:-1]}_",
        f"..%2f..%2f{CLOSE}",
        f"{CLOSE}/../{HUBSPOT}",
        "*",
        "x" * 5000,
        "9" * 5000,
    ],
)
def test_an_account_id_with_anything_in_it_is_400(api: Api, value: str) -> None:
    for method, path in EVERY:
        answer = api(an_event(STAGE, f"integrated_account_id={value}", method=method, path=path))
        _refused(answer, 400, "invalid_request", "integrated_account_id must be a UUID")


@pytest.mark.parametrize("path", [f"{BASE}/pipelines", f"{BASE}/stages"])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("limit", ["0", "-1", "1e3", "9" * 30, "9" * 5000, "%d9%a3", "0x10", "1_0", "%00", "NaN"]),
        ("next_cursor", ["x", "%00", "W10", "W10=", "bnVsbA", "W1tbW1tb", "9" * 4000, "%ff".replace("f", "e9%80")]),
        ("created_at[gt]", ["0", "9" * 30, "2026-13-01", "0000-01-01", "2026-01-01T00:00:00%2B99:99", "%00", "now"]),
    ],
    ids=["limit", "next_cursor", "created_at"],
)
def test_a_lists_parameter_is_refused_by_name(api: Api, path: str, name: str, values: list[str]) -> None:
    for value in values:
        answer = api(an_event(None, f"integrated_account_id={CLOSE}&{name}={value}", method="GET", path=path))
        _refused(answer, 400, "invalid_request")
        assert name.partition("[")[0] in answer.json["message"] or "UTF-8" in answer.json["message"]


# Paths


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("resource", ["pipelines", "stages"])
@pytest.mark.parametrize(
    "id_", ["a%2Fb", "a%2fb", "a%252Fb", "%2F", "a%2F..%2Fb", "..%2F", "%2e%2e%2fpipelines", "a%5cb", "a%0d%0ab", "%00"]
)
def test_an_encoded_slash_reaches_nobody(http: Http, method: str, resource: str, id_: str) -> None:
    body: Any = {} if method == "PATCH" else None
    _refused(http(method, f"{BASE}/{resource}/{id_}?integrated_account_id={CLOSE}", body), 400, "invalid_request")


@pytest.mark.parametrize(
    "path", ["/unified%2Fcrm%2F..%2Fx", "/%2e%2e/unified", "/unified//crm", "/unified/crm/%00", "//"]
)
def test_an_odd_address_is_404(http: Http, path: str) -> None:
    _refused(http("GET", path), 404, "not_found")


# What an operator stored


@pytest.fixture
def store(world: World) -> Iterator[Callable[..., str]]:
    """Store a secret as it is, which no helper of the world does; gives the account's id."""
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": REGION}
    client = boto3.client("secretsmanager", endpoint_url=world.aws_url, **keys)

    def put(*, days_to_deletion: int | None = None, **content: Any) -> str:
        account = str(uuid4())
        client.create_secret(Name=f"{PREFIX}/accounts/{account}", **content)
        if days_to_deletion is not None:
            client.delete_secret(SecretId=f"{PREFIX}/accounts/{account}", RecoveryWindowInDays=days_to_deletion)
        return account

    yield put
    client.close()


def _secret(**more: Any) -> str:
    good = {"provider": "close", "tenant": "demo", "credentials": {"type": "api_key", "api_key": "sesame-4711"}}
    return json.dumps({**good, **more})


UNUSABLE = {
    "no JSON": "sesame-4711",
    "JSON cut short": _secret()[:-2],
    "an array": f"[{_secret()}]",
    "a text": json.dumps(_secret()),
    "null": "null",
    "nested without end": "[" * 60_000,
    "no tenant": json.dumps({**json.loads(_secret()), "tenant": ""}),
    "no credentials": _secret(credentials=None),
    "credentials that are a list": _secret(credentials=["sesame-4711"]),
    "a type that there is not": _secret(credentials={"type": "password", "password": "sesame-4711"}),
    "no type": _secret(credentials={"api_key": "sesame-4711"}),
    "a key that is a number": _secret(credentials={"type": "api_key", "api_key": 314159265358979}),
    "a key with a line break": _secret(credentials={"type": "api_key", "api_key": "sesame\r\nrasputin: x"}),
    "a key that no header carries": _secret(credentials={"type": "api_key", "api_key": "sesame-4711-é"}),
    "an end that is no time": _secret(credentials={"type": "oauth2", "access_token": "sesame", "expires_at": "soon"}),
    "settings that are a list": _secret(settings=["x"]),
    "an unknown provider": _secret(provider="nosuch"),
    "a provider that is a path": _secret(provider="../close"),
    "a provider that is a module": _secret(provider="__init__"),
    "a provider with a line break": _secret(provider="close\n"),
    "a provider without a name": _secret(provider=""),
    "a provider that is a number": _secret(provider=5),
    "a provider with half a surrogate pair": _secret(provider="\ud800"),
    "a provider of a thousand letters": _secret(provider="a" * 1000),
    "a host of its own": _secret(
        provider="kommo", credentials={"type": "bearer", "token": "sesame-4711"}, settings={"subdomain": "evil.test/x?"}
    ),
}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE)
def test_an_account_that_is_stored_wrongly_is_503(api: Api, store: Callable[..., str], content: str) -> None:
    for method, path in EVERY:
        account = store(SecretString=content)
        answer = api(an_event(STAGE if "stages" in path else PIPELINE, _query(account), method=method, path=path))
        _refused(answer, 503, "account_unusable", account)
        assert "retry-after" not in answer.headers, "it stays so until the operator mends it"
        for part in ("sesame", "rasputin", "314159265358979"):  # each too long to be in a random id
            assert part not in answer.text


def test_a_binary_secret_is_read_as_a_text_would_be(api: Api, store: Callable[..., str]) -> None:
    for method, path in EVERY:
        for content in (b"", b"\xff\xfe", b"\x00" * 1000, b64encode(_secret().encode())):
            account = store(SecretBinary=content or b" ")
            answer = api(an_event(STAGE if "stages" in path else PIPELINE, _query(account), method=method, path=path))
            _refused(answer, 503, "account_unusable", account)


def test_an_account_that_is_being_deleted_is_not_there(api: Api, store: Callable[..., str]) -> None:
    for method, path in EVERY:
        account = store(SecretString=_secret(), days_to_deletion=7)
        body = STAGE if "stages" in path else PIPELINE
        _refused(api(an_event(body, _query(account), method=method, path=path)), 404, "not_found", account)


def _query(account: str) -> str:
    return f"integrated_account_id={account}"
