"""One suite for every provider found in the folder, in each of its simulator's worlds, over real HTTP.

A provider without a simulator is an error here: the suite cannot be collected.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import TypeAdapter

from local import simulators
from local.simulators.base import Simulator
from unified_crm import providers
from unified_crm.accounts import Account
from unified_crm.credentials import Credentials
from unified_crm.deadline import Deadline
from unified_crm.engine import Options
from unified_crm.mapping import Table
from unified_crm.provider import Provider
from unified_crm.verbs import Result, Verbs

_CREDENTIALS: TypeAdapter[Any] = TypeAdapter(Credentials)


@dataclass
class Subject:
    """A provider in front of its simulator."""

    provider: Provider
    simulator: Simulator

    @property
    def entity(self) -> str:
        """The provider's own name of the object type that pipelines are for when nothing is said."""
        found = self.provider.entities.to_remote("opportunity")
        assert found is not None
        return found

    @property
    def pipeline(self) -> Table:
        return self.provider.pipelines.table(self.entity)

    @property
    def stage(self) -> Table:
        stage = self.pipeline["stages"].each
        assert stage is not None
        return stage

    def statuses(self) -> list[str | None]:
        """Every status of a stage that this provider can be told; [None] where it has none."""
        return list(self.stage["status"].values or [None]) if "status" in self.stage else [None]

    def values(self, name: str = "Sales") -> dict[str, Any]:
        """A pipeline with a stage of each status, everything that the provider requires included."""
        stages = [{"name": f"Stage {status or 'one'}", "status": status} for status in self.statuses()]
        return {"name": name, "stages": [{k: v for k, v in stage.items() if v} for stage in stages]}

    def account(self, secret: Mapping[str, Any] | None = None) -> Account:
        secret = secret or self.simulator.demo_account
        credentials = _CREDENTIALS.validate_python(secret["credentials"])
        return Account("an-account", "demo", self.provider, credentials, dict(secret["settings"]))

    def create(
        self,
        values: dict[str, Any] | None = None,
        *,
        seconds: float = 20,
        account: Account | None = None,
        **options: Any,
    ) -> Result:
        values = self.values() if values is None else values
        return self.verbs(seconds=seconds, account=account, **options).create_pipeline(values)

    def verbs(
        self, *, seconds: float = 20, account: Account | None = None, entity: str | None = None, **options: Any
    ) -> Verbs:
        return Verbs(account or self.account(), Options(**options), Deadline(seconds), entity=entity, creates=True)

    def seed(self, name: str = "Sales", stages: Sequence[Any] = ("One", "Two", "Three")) -> dict[str, Any]:
        """A pipeline that is there already, as the simulator shows it."""
        return self.simulator.seed(name, stages)

    def held(self, id_: str) -> dict[str, Any] | None:
        """What the simulator holds under an id."""
        return next((each for each in self.simulator.pipelines() if each["id"] == id_), None)


def _subjects() -> list[Any]:
    return [
        pytest.param((name, world), id="-".join([name, *(f"{key}={value}" for key, value in world.items())]))
        for name in providers.names()
        for world in simulators.load(name).worlds
    ]


@pytest.fixture(params=_subjects())
def subject(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    name, world = request.param
    with simulators.load(name)(**world) as simulator:
        monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({name: simulator.url}))
        yield Subject(providers.load(name), simulator)


@pytest.fixture(params=providers.names())
def provider(request: pytest.FixtureRequest) -> Provider:
    return providers.load(request.param)
