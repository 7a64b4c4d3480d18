"""One suite for every provider found in the folder, in each of its simulator's worlds, over real HTTP.

A provider without a simulator is an error here: the suite cannot be collected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import TypeAdapter

from local import simulators
from local.simulators.base import Simulator
from unified_crm import providers
from unified_crm.accounts import Account, settings_for
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
        settings = settings_for(self.provider, secret["settings"], "an-account")
        return Account("an-account", "demo", self.provider, credentials, settings)

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

    def names(self, pipeline: Mapping[str, Any] | None, asked: Sequence[str] = ()) -> list[str]:
        """The stages' names, but for those that the provider keeps in every pipeline and that were not asked for."""
        assert pipeline is not None
        fixed = {each["id"] for held in self.simulator.pipelines() for each in held["stages"] if each.get("fixed")}
        return [each["name"] for each in pipeline["stages"] if each.get("id") not in fixed or each["name"] in asked]

    def remote_data(self, table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
        """`remote_data` that sets unified fields by the provider's own names."""
        own = table.to_remote(dict(values), create=False)
        return {table.envelope: own} if table.envelope else own

    def held(self, id_: str) -> dict[str, Any] | None:
        """What the simulator holds under an id."""
        return next((each for each in self.simulator.pipelines() if each["id"] == id_), None)


Choose = Callable[[Provider, Simulator], bool]
"""Tells of a provider and its simulator in one of its worlds whether a test is about something that it has."""


def first_world(_: Provider, simulator: Simulator) -> bool:
    """For what takes long and does not differ between the worlds of a provider."""
    return all(simulator.world[name] == value for name, value in simulator.worlds[0].items()) and not any(
        simulator.world[name] != default
        for name, default in simulator.settings.items()
        if name not in simulator.worlds[0]
    )


def where(choose: Choose) -> pytest.MarkDecorator:
    """For tests about what not every provider has: the others are not asked, which is no skip."""
    return pytest.mark.where.with_args(choose)


def _simulator(name: str, world: Mapping[str, Any]) -> Simulator:
    return simulators.load(name)(**world)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "subject" not in metafunc.fixturenames:
        return
    chosen = [mark.args[0] for mark in metafunc.definition.iter_markers("where")]
    params = [
        pytest.param((name, world), id="-".join([name, *(f"{key}={value}" for key, value in world.items())]))
        for name in providers.names()
        for world in simulators.load(name).worlds
        if all(choose(providers.load(name), _simulator(name, world)) for choose in chosen)
    ]
    metafunc.parametrize("subject", params, indirect=True)


@pytest.fixture
def subject(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Subject]:
    name, world = request.param
    with simulators.load(name)(**world) as simulator:
        monkeypatch.setenv("PROVIDER_BASE_URLS", json.dumps({name: simulator.url}))
        monkeypatch.setenv("PROVIDER_CALLS_PER_SECOND", json.dumps({name: 0}))  # there is a test for it
        yield Subject(providers.load(name), simulator)


@pytest.fixture(params=providers.names())
def provider(request: pytest.FixtureRequest) -> Provider:
    return providers.load(request.param)
