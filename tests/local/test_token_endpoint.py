"""The simulators give OAuth 2 tokens to who asks as the provider wants it, and to nobody else."""

from base64 import b64encode
from collections.abc import Iterator
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest

from local.simulators.base import Fault, Simulator, Tokens
from local.simulators.close import CloseSimulator
from local.simulators.hubspot import HubSpotSimulator
from local.simulators.pipedrive import PipedriveSimulator
from tests.local.client import Answer, call

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": ""}
LISTS = {"close": "/api/v1/pipeline/", "hubspot": "/crm/v3/pipelines/deals"}


class JsonAndBasic(PipedriveSimulator):
    tokens: ClassVar[Tokens] = Tokens(
        "/oauth/token", client_auth="basic", body="json", extra={"kind": "x"}, camel_case=True, adds={"domain": "d"}
    )


@pytest.fixture(params=[CloseSimulator, HubSpotSimulator])
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    with request.param() as simulator:
        yield simulator


def _credentials(simulator: Simulator) -> dict[str, str]:
    found: dict[str, str] = next(
        each["credentials"] for each in simulator.accounts if each["credentials"]["type"] == "oauth2"
    )
    return found


def _fields(simulator: Simulator, **changes: Any) -> dict[str, Any]:
    held = {name: _credentials(simulator)[name] for name in ("refresh_token", "client_id", "client_secret")}
    fields = {"grant_type": "refresh_token", **held, **changes}
    return {name: value for name, value in fields.items() if value is not None}


def _ask(simulator: Simulator, query: str = "", headers: dict[str, str] = FORM, **changes: Any) -> Answer:
    assert simulator.tokens
    body = urlencode(_fields(simulator, **changes)).encode()
    return call(simulator, "POST", simulator.tokens.path + query, body, headers=headers)


def _list(simulator: Simulator, token: str) -> Answer:
    return call(simulator, "GET", LISTS[simulator.name], headers={"Authorization": f"Bearer {token}"})


def test_a_refresh_token_gets_an_access_token_that_is_taken(simulator: Simulator) -> None:
    answer = _ask(simulator)
    assert answer.status == 200
    assert set(answer.json) == {"access_token", "refresh_token", "expires_in", "token_type"}
    assert answer.json["expires_in"] == {"close": 3600, "hubspot": 1800}[simulator.name]
    assert answer.headers["cache-control"] == "no-store"
    assert _list(simulator, answer.json["access_token"]).status == 200
    assert simulator.refreshes == 1


def test_a_refresh_token_is_used_up_where_it_rotates(simulator: Simulator) -> None:
    first = _ask(simulator).json["refresh_token"]
    again = _ask(simulator)
    assert simulator.tokens
    if simulator.tokens.rotates:
        assert (again.status, again.json["error"]) == (400, "invalid_grant")
        assert first != _credentials(simulator)["refresh_token"]
        assert _ask(simulator, refresh_token=first).status == 200
    else:
        assert again.status == 200
        assert first == _credentials(simulator)["refresh_token"]
    assert simulator.refreshes == 2


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": None}, 401, "invalid_client"),
        ({"refresh_token": "wrong"}, 400, "invalid_grant"),
        ({"refresh_token": "wrong", "client_id": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"query": "?grant_type=refresh_token"}, 400, "invalid_request"),
        ({"headers": {**FORM, "Content-Type": "application/json"}}, 400, "invalid_request"),
        ({"headers": {**FORM, "Authorization": "Basic YTpi"}}, 400, "invalid_request"),
    ],
)
def test_a_wrong_request_gets_none(simulator: Simulator, changes: dict[str, Any], status: int, error: str) -> None:
    answer = _ask(simulator, **changes)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert simulator.refreshes == 0
    assert _ask(simulator).status == 200, "and nothing is used up"


def test_only_post_is_taken(simulator: Simulator) -> None:
    assert simulator.tokens
    assert call(simulator, "GET", simulator.tokens.path).status == 405


def test_tokens_run_out_and_can_be_revoked(simulator: Simulator) -> None:
    demo = _credentials(simulator)["access_token"]
    assert _list(simulator, demo).status == 200
    simulator.expire_tokens()
    assert _list(simulator, demo).status == 401
    simulator.revoke_tokens()
    assert _ask(simulator).json["error"] == "invalid_grant"
    simulator.reset()
    assert _list(simulator, demo).status == 200
    assert _ask(simulator).status == 200


@pytest.mark.parametrize("kind", [CloseSimulator, HubSpotSimulator])
def test_how_long_a_token_lives_can_be_set(kind: type[Simulator]) -> None:
    now = 100.0
    with kind(token_seconds=5) as simulator:
        simulator.clock = lambda: now
        answer = _ask(simulator)
        assert answer.json["expires_in"] == 5
        assert _list(simulator, answer.json["access_token"]).status == 200
        now = 105.0
        assert _list(simulator, answer.json["access_token"]).status == 401


def test_a_fault_can_hit_it_before_and_after(simulator: Simulator) -> None:
    simulator.fault(Fault("status", status=503), Fault("status", at=2, status=502, after=True))
    assert [_ask(simulator).status for _ in range(2)] == [503, 502]
    assert simulator.refreshes == 1


def test_tokens_are_no_part_of_what_stands_there(simulator: Simulator) -> None:
    before = simulator.snapshot()
    _ask(simulator)
    assert simulator.snapshot() == before


def test_another_form_is_taken_where_it_is_the_providers() -> None:
    with JsonAndBasic() as simulator:
        held = _credentials(simulator)
        basic = b64encode(f"{held['client_id']}:{held['client_secret']}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}"}
        fields = _fields(simulator, client_id=None, client_secret=None, kind="x")
        for wrong in ({**fields, "kind": "y"}, {**fields, "client_secret": "twice"}, [1]):
            assert call(simulator, "POST", "/oauth/token", wrong, headers=headers).json["error"] == "invalid_request"
        answer = call(simulator, "POST", "/oauth/token", fields, headers=headers)
        assert (answer.status, answer.json["domain"]) == (200, "d")
        assert {"accessToken", "refreshToken", "expiresIn"} < set(answer.json)
        refused = call(simulator, "POST", "/oauth/token", fields, headers={"Authorization": "Basic YTpi"})
        assert (refused.status, refused.json["error"]) == (401, "invalid_client")
