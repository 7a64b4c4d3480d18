"""The official Python client, unmodified, against the local world."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from local.world import World
from tests.conftest import CLOSE, HUBSPOT

truto = pytest.importorskip("truto_python_sdk", reason="truto-python-sdk needs Python 3.12 or newer")

STAGES = [
    {"name": "Qualified", "status": "active"},
    {"name": "Won", "status": "won"},
    {"name": "Lost", "status": "lost"},
]
ACCOUNTS = pytest.mark.parametrize(("account", "provider"), [(CLOSE, "close"), (HUBSPOT, "hubspot")])


def _create(world: World, account: str, body: dict[str, Any], token: str = "demo-token", **params: Any) -> Any:
    async def call() -> Any:
        client = truto.TrutoApi(token=token, base_url=world.url)
        return await client.unified_api.create("crm", "pipelines", body, {"integrated_account_id": account, **params})

    return asyncio.run(call())


@ACCOUNTS
def test_it_creates_a_pipeline(world: World, account: str, provider: str) -> None:
    created = _create(world, account, {"name": "Sales", "stages": STAGES})
    simulator: Any = world.simulators[provider]
    (held,) = simulator.pipelines()
    assert created["id"] == held["id"]
    assert [stage["status"] for stage in created["stages"]] == ["active", "won", "lost"]
    assert created["remote_data"]["id"] == held["id"]


@ACCOUNTS
def test_its_spelling_of_every_parameter_is_understood(world: World, account: str, provider: str) -> None:
    created = _create(
        world,
        account,
        {"name": "Sales", "stages": STAGES},
        truto_response_format="unified",
        truto_ignore_remote_data=True,
        truto_exclude_fields=["id", "name"],
        remote_query={"foo": "bar", "a": {"b": ["c d"]}},
    )
    assert not {"id", "name", "remote_data"} & created.keys()
    simulator: Any = world.simulators[provider]
    assert simulator.received[0].query == [("foo", "bar"), ("a[b][]", "c d")]


@ACCOUNTS
def test_an_error_is_raised_with_our_status(world: World, account: str, provider: str) -> None:  # noqa: ARG001
    with pytest.raises(Exception, match="400") as caught:
        _create(world, account, {"stages": STAGES})
    assert type(caught.value).__name__ == "ClientResponseError"
    with pytest.raises(Exception, match="403"):
        _create(world, account, {"name": "Sales"}, token="unknown-token")


@ACCOUNTS
@pytest.mark.parametrize("resource", ["pipelines", "stages"])
def test_it_does_all_five_verbs(world: World, account: str, provider: str, resource: str) -> None:
    async def work() -> None:
        client = truto.TrutoApi(token="demo-token", base_url=world.url).unified_api

        def params(**more: Any) -> dict[str, Any]:
            return {"integrated_account_id": account, **more}

        pipelines = [
            await client.create("crm", "pipelines", {"name": f"Sales {index}", "stages": STAGES}, params())
            for index in range(5)
        ]
        if resource == "pipelines":
            made, change = pipelines[2], {"name": "Renamed"}
        else:
            body = {"name": "Fresh", "pipeline": {"id": pipelines[0]["id"]}}
            made, change = await client.create("crm", "stages", body, params()), {"name": "Renamed"}
        read = await client.get("crm", resource, made["id"], params())
        assert (read["id"], read["name"]) == (made["id"], made["name"])
        changed = await client.update("crm", resource, made["id"], change, params())
        assert (changed["id"], changed["name"]) == (made["id"], "Renamed")
        listed = await client.list("crm", resource, params(limit=2)).to_array()
        ids = [each["id"] for each in listed]
        assert len(ids) == len(set(ids)) == (5 if resource == "pipelines" else 16)
        deleted = await client.delete("crm", resource, made["id"], params())
        assert deleted == {"id": made["id"]}
        left = await client.list("crm", resource, params(limit=3)).to_array()
        assert [each["id"] for each in left] == [id_ for id_ in ids if id_ != made["id"]]
        with pytest.raises(Exception, match="404"):
            await client.get("crm", resource, made["id"], params())

    asyncio.run(work())
    simulator: Any = world.simulators[provider]
    assert len(simulator.pipelines()) == (4 if resource == "pipelines" else 5)
