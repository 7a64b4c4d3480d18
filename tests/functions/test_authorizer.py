"""The authorizer: from a bearer token to a tenant, or to nobody."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from time import time
from typing import Any

import boto3
import pytest
from botocore.exceptions import BotoCoreError
from hypothesis import given
from hypothesis import strategies as st

from local.simulators.base import closed_port
from local.world import REGION, TABLE, World
from tests.conftest import CLOSE, HUBSPOT, Http
from tests.functions.conftest import PIPELINE, Log
from tests.unit.strategies import any_text, bounded, json_values

Authorize = Callable[[Any], Any]
REFUSED = {"isAuthorized": False}
DEMO = {"isAuthorized": True, "context": {"tenant": "demo", "accounts": "*"}}


def _event(value: Any = "Bearer demo-token", name: str = "authorization") -> dict[str, Any]:
    return {"version": "2.0", "type": "REQUEST", "headers": {"accept": "*/*", name: value}, "identitySource": [value]}


@pytest.fixture
def table(world: World) -> Iterator[Any]:
    """The table itself, to put items there as they should not be."""
    client = boto3.client(
        "dynamodb",
        endpoint_url=world.aws_url,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )

    def put(token: str, **more: Any) -> None:
        client.put_item(TableName=TABLE, Item={"token_hash": {"S": sha256(token.encode()).hexdigest()}, **more})

    yield put
    client.close()


def test_a_good_token_is_its_tenant(authorize: Authorize) -> None:
    assert authorize(_event()) == DEMO
    assert authorize(_event("Bearer other-token"))["context"]["tenant"] == "other"


@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION", "aUTHORIZATION"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_header_name_and_scheme_are_read_in_any_case(authorize: Authorize, name: str, scheme: str) -> None:
    assert authorize(_event(f"{scheme} demo-token", name)) == DEMO


@pytest.mark.parametrize("value", ["Bearer  demo-token", "Bearer demo-token ", "Bearer demo-token\t"])
def test_white_space_around_a_token_is_passed_over(authorize: Authorize, value: str) -> None:
    assert authorize(_event(value)) == DEMO


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "demo-token",
        "Basic demo-token",
        "Token demo-token",
        "Bearer: demo-token",
        "Bearer\tdemo-token",
        "Bearer unknown",
        "Bearer DEMO-TOKEN",
        "Bearer demo-token,Bearer demo-token",
        "Bearer demo token",
        "Bearer " + sha256(b"demo-token").hexdigest(),
        "Bearer \x00",
        "Bearer \ud800",
        "Bearer " + "x" * 10_000,
        None,
        5,
        [],
    ],
)
def test_anything_else_lets_nobody_in(authorize: Authorize, value: Any) -> None:
    assert authorize(_event(value)) == REFUSED


@pytest.mark.parametrize("event", [{}, {"headers": None}, {"headers": {}}, {"headers": {"accept": "*/*"}}])
def test_an_event_without_the_header_lets_nobody_in(authorize: Authorize, event: Any) -> None:
    assert authorize(event) == REFUSED


@pytest.mark.parametrize(("ahead", "let_in"), [(3600, True), (5, True), (-1, False), (-86400 * 30, False)])
def test_a_token_that_ran_out_lets_nobody_in_though_its_item_lingers(
    authorize: Authorize, world: World, ahead: int, let_in: bool
) -> None:
    world.add_token(f"runs-out-{ahead}", "demo", expires_at=int(time()) + ahead)
    assert authorize(_event(f"Bearer runs-out-{ahead}")) == (DEMO if let_in else REFUSED)


def test_a_token_that_runs_out_this_second_has_run_out(authorize: Authorize, world: World) -> None:
    world.add_token("now", "demo", expires_at=int(time()))
    assert authorize(_event("Bearer now")) == REFUSED


@pytest.mark.parametrize(
    ("accounts", "told"),
    [([CLOSE], CLOSE), ([HUBSPOT, CLOSE], f"{CLOSE},{HUBSPOT}"), ([CLOSE.upper()], CLOSE), ([], "")],
)
def test_a_token_may_be_for_some_accounts_only(
    authorize: Authorize, world: World, accounts: list[str], told: str
) -> None:
    world.add_token(f"some-{len(told)}-{accounts}", "demo", accounts=accounts)
    answer = authorize(_event(f"Bearer some-{len(told)}-{accounts}"))
    assert answer["context"] == {"tenant": "demo", "accounts": told}


def test_accounts_may_be_a_set_of_texts(authorize: Authorize, table: Any) -> None:
    table("a-set", tenant={"S": "demo"}, accounts={"SS": [HUBSPOT, CLOSE]})
    assert authorize(_event("Bearer a-set"))["context"]["accounts"] == f"{CLOSE},{HUBSPOT}"


def test_a_tenant_that_is_a_number_is_its_digits(authorize: Authorize, table: Any) -> None:
    """As API Gateway hands it on, and as an account's secret has it."""
    table("a-number", tenant={"N": "5"}, accounts={"L": [{"N": "7"}]})
    assert authorize(_event("Bearer a-number"))["context"] == {"tenant": "5", "accounts": "7"}


@pytest.mark.parametrize("tenant", [{}, {"tenant": {"S": ""}}, {"tenant": {"NULL": True}}])
def test_an_item_without_a_tenant_lets_nobody_in(authorize: Authorize, table: Any, tenant: dict[str, Any]) -> None:
    table("no-tenant", **tenant)
    assert authorize(_event("Bearer no-tenant")) == REFUSED


@pytest.mark.parametrize("expires_at", [{"S": "2030-01-01T00:00:00Z"}, {"S": ""}, {"S": "inf"}, {"BOOL": True}])
def test_an_item_whose_end_cannot_be_read_lets_nobody_in(authorize: Authorize, table: Any, expires_at: Any) -> None:
    """Raising is as good: API Gateway then answers 500, and nobody gets in."""
    table("odd-end", tenant={"S": "demo"}, expires_at=expires_at)
    try:
        answer = authorize(_event("Bearer odd-end"))
    except KeyError:
        return
    assert answer == REFUSED


def test_the_answer_is_what_json_can_carry(authorize: Authorize, world: World) -> None:
    world.add_token("carried", "demo", expires_at=int(time()) + 60, accounts=[CLOSE])
    assert json.loads(json.dumps(authorize(_event("Bearer carried"))))["isAuthorized"] is True


def test_where_the_table_cannot_be_read_it_raises(authorize: Authorize, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = importlib.import_module("authorizer.tokens")
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_port())
    tokens.table.cache_clear()
    try:
        with pytest.raises(BotoCoreError):
            authorize(_event())
    finally:
        tokens.table.cache_clear()


def test_where_the_table_cannot_be_read_nobody_gets_in(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = importlib.import_module("authorizer.tokens")
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_port())
    tokens.table.cache_clear()
    try:
        assert http.create(CLOSE, PIPELINE).status == 500
    finally:
        tokens.table.cache_clear()


def test_no_token_is_logged(authorize: Authorize, world: World, log: Log) -> None:
    world.add_token("never-shown-4711", "demo")
    authorize(_event("Bearer never-shown-4711"))
    authorize(_event("Bearer wrong-shown-4711"))
    assert "shown-4711" not in log.text
    assert [line["message"] for line in log.lines] == ["Refused"]


@bounded
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "headers": st.none()
            | st.dictionaries(
                st.sampled_from(["authorization", "Authorization", "accept"]) | any_text,
                st.none() | any_text | any_text.map("Bearer ".__add__) | json_values,
                max_size=4,
            ),
            "identitySource": st.none() | st.lists(any_text),
            "version": any_text,
            "requestContext": json_values,
        },
    )
)
def test_whatever_the_event_the_authorizer_answers(authorize: Authorize, event: dict[str, Any]) -> None:
    assert authorize(event) == REFUSED
