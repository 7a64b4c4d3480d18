"""Another tenant's account looks as if it did not exist, and no secret is read before the token's own list."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from api.routes import ROUTES as SERVED
from local.simulators.base import Received
from local.world import World
from tests.conftest import CLOSE, HUBSPOT, Answer, Http
from tests.functions.conftest import PIPELINE, an_event
from unified_crm import accounts, describe

Api = Callable[..., Answer]
STAGE = {"name": "New", "pipeline": {"id": "1"}, "status": "active"}
ROUTES: list[tuple[str, str, Any]] = [
    route
    for resource, body in (("pipelines", PIPELINE), ("stages", STAGE))
    for base in (f"/unified/crm/{resource}",)
    for route in (
        ("GET", base, None),
        ("POST", base, body),
        ("GET", f"{base}/1", None),
        ("PATCH", f"{base}/1", {"name": "New"}),
        ("DELETE", f"{base}/1", None),
        *(("GET", f"{base}/meta/{method}", None) for method in describe.METHODS),
    )
]
every_route = pytest.mark.parametrize(
    ("method", "path", "body"), ROUTES, ids=[f"{method} {path}" for method, path, _ in ROUTES]
)


@pytest.fixture(scope="module")
def counted_aws() -> Iterator[tuple[str, list[str]]]:
    """Another address of the world's AWS, and the operations that were asked for there."""
    app, asked = DomainDispatcherApplication(create_backend_app), []

    def counting(environ: dict[str, Any], start: Any) -> Any:
        asked.append(environ.get("HTTP_X_AMZ_TARGET", "?"))
        return app(environ, start)

    server = make_server("127.0.0.1", 0, counting, threaded=True, request_handler=MotoRequestHandler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def asked(
    world: World,  # noqa: ARG001 - its environment is what is changed
    counted_aws: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], list[str]]]:
    """What was asked of Secrets Manager since the last time that this was called."""
    url, targets = counted_aws
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    accounts._secrets.cache_clear()
    targets.clear()

    def since() -> list[str]:
        found = [target for target in targets if target.startswith("secretsmanager.")]
        targets.clear()
        return found

    yield since
    accounts._secrets.cache_clear()


def _call(api: Api, route: tuple[str, str, Any], account: str, context: dict[str, str], **more: Any) -> Answer:
    method, path, body = route
    return api(an_event(body, f"integrated_account_id={account}", method=method, path=path, context=context, **more))


def _shown(answer: Answer, account: str) -> tuple[int, dict[str, str], dict[str, Any]]:
    """All that a caller can see of an answer, without the id that the caller sent and the request's own."""
    body = answer.json
    assert body.pop("request_id")
    assert account in body["message"]
    return answer.status, answer.headers, {**body, "message": body["message"].replace(account, "…")}


def _nothing_was_sent(world: World) -> bool:
    received: list[list[Received]] = [each.received for each in world.simulators.values()]  # type: ignore[attr-defined]
    return not any(received)


def test_every_route_is_here() -> None:
    for address, methods in SERVED.items():
        if "crm" in address:
            here = {method for method, path, _ in ROUTES if re.fullmatch(address, path)}
            assert here >= set(methods), address


@every_route
def test_a_tenant_sees_no_other_tenants_account(api: Api, world: World, method: str, path: str, body: Any) -> None:
    route, other = (method, path, body), {"tenant": "other", "accounts": "*"}
    nowhere = str(uuid4())
    expected = _shown(_call(api, route, nowhere, other), nowhere)
    assert (expected[0], expected[2]["code"]) == (404, "not_found")
    for simulator in world.simulators.values():
        account = simulator.demo_account_id
        assert _shown(_call(api, route, account, other), account) == expected
        assert _shown(_call(api, route, account, {**other, "accounts": account}), account) == expected
    assert _nothing_was_sent(world)


@every_route
def test_it_is_so_while_the_account_is_in_use_too(api: Api, world: World, method: str, path: str, body: Any) -> None:
    """The secret is then in memory: read by its own tenant, and by the same function."""
    own, nowhere = {"tenant": "demo", "accounts": "*"}, str(uuid4())
    other = {"tenant": "other", "accounts": "*"}
    route = (method, path, body)
    expected = _shown(_call(api, route, nowhere, other), nowhere)
    for account in (CLOSE, HUBSPOT):
        assert _call(api, ("GET", "/unified/crm/pipelines", None), account, own).status == 200
        world.simulators["close" if account == CLOSE else "hubspot"].reset()  # type: ignore[attr-defined]
        assert _shown(_call(api, route, account, other), account) == expected
    assert _nothing_was_sent(world)


@every_route
def test_it_is_so_through_the_front_door(http: Http, method: str, path: str, body: Any) -> None:
    shown = []
    for account in (str(uuid4()), CLOSE, HUBSPOT):
        answer = http(method, f"{path}?integrated_account_id={account}", body, token="other-token")
        status, headers, content = _shown(answer, account)
        shown.append((status, sorted(headers), content))
    assert shown[0] == shown[1] == shown[2]
    assert shown[0][0] == 404


@every_route
@pytest.mark.parametrize("tenant", ["demo", "other"])
def test_no_secret_is_read_for_an_account_that_is_not_the_tokens(
    api: Api, world: World, asked: Callable[[], list[str]], method: str, path: str, body: Any, tenant: str
) -> None:
    """Not even to find out whose it is: the token's own list comes first."""
    route, nowhere = (method, path, body), str(uuid4())
    for allowed in ("", str(uuid4()), HUBSPOT.upper(), CLOSE[:-1], f"{CLOSE}x"):
        context = {"tenant": tenant, "accounts": allowed}
        expected = _shown(_call(api, route, nowhere, context), nowhere)
        assert _shown(_call(api, route, CLOSE, context), CLOSE) == expected
        assert expected[0] == 404
    assert asked() == []
    assert _nothing_was_sent(world)


@every_route
def test_without_a_list_the_secret_is_read_once_to_see_whose_it_is(
    api: Api, world: World, asked: Callable[[], list[str]], method: str, path: str, body: Any
) -> None:
    context = {"tenant": "other", "accounts": "*"}
    for _ in range(2):
        assert _call(api, (method, path, body), CLOSE, context).status == 404
    assert asked() == ["secretsmanager.GetSecretValue"]
    assert _nothing_was_sent(world)


@every_route
def test_no_secret_is_read_for_nobody(
    api: Api, asked: Callable[[], list[str]], method: str, path: str, body: Any
) -> None:
    for context in ({}, {"tenant": "demo"}, {"accounts": "*"}, {"tenant": "", "accounts": CLOSE}):
        assert _call(api, (method, path, body), CLOSE, context).status == 401
    assert asked() == []


@every_route
def test_no_option_shows_another_tenants_account(api: Api, method: str, path: str, body: Any) -> None:
    for option in ("truto_dry_run=true", "truto_explain=true", "truto_response_format=raw", "truto_force_delete=true"):
        shown = []
        for account in (str(uuid4()), CLOSE):
            event = an_event(
                body,
                f"integrated_account_id={account}&{option}",
                method=method,
                path=path,
                context={"tenant": "other", "accounts": "*"},
                headers={"content-type": "application/json", "idempotency-key": f"the-same-key-{option}"},
            )
            shown.append(_shown(api(event), account))
        assert shown[0] == shown[1]
        assert shown[0][0] == 404


@pytest.mark.parametrize(
    "stored",
    [
        {"provider": "close", "tenant": "demo"},
        {"provider": "nosuch", "tenant": "demo", "credentials": {"type": "api_key", "api_key": "x"}},
        {"tenant": ["demo"], "credentials": {}},
    ],
)
def test_a_broken_account_of_another_tenant_does_not_exist_either(api: Api, world: World, stored: Any) -> None:
    account, nowhere = str(uuid4()), str(uuid4())
    world.add_account(account, stored)
    route, other = ROUTES[0], {"tenant": "other", "accounts": "*"}
    assert _shown(_call(api, route, account, other), account) == _shown(_call(api, route, nowhere, other), nowhere)
