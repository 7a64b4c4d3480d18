"""A client that openapi-python-client makes of the description, and nobody has touched."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from local.world import World
from tests.conftest import CLOSE, HUBSPOT

pytest.importorskip("openapi_python_client")

DESCRIPTION = Path(__file__).resolve().parents[2] / "functions/api/openapi.json"
PACKAGE = "made_client"
ACCOUNTS = pytest.mark.parametrize(("account", "provider"), [(CLOSE, "close"), (HUBSPOT, "hubspot")])
STAGES = [{"name": "Qualified", "status": "active"}, {"name": "Won", "status": "won"}]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Imports a module of the client that is made."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "config.yml").write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", str(DESCRIPTION), "--meta", "none"]
    options = ["--config", str(folder / "config.yml"), "--output-path", str(folder / PACKAGE), "--fail-on-warning"]
    run = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    sys.path.insert(0, str(folder))
    yield lambda name: importlib.import_module(f"{PACKAGE}.{name}")
    sys.path.remove(str(folder))
    for name in [each for each in sys.modules if each.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture
def client(made: Callable[[str], Any], world: World) -> Iterator[Any]:
    """The client, logged in."""
    with made("client").AuthenticatedClient(base_url=world.url, token="demo-token") as client:
        yield client


@ACCOUNTS
def test_it_creates_lists_and_deletes_a_pipeline(
    made: Callable[[str], Any], client: Any, world: World, account: str, provider: str
) -> None:
    about: Any = {"client": client, "integrated_account_id": UUID(account)}
    body = made("models").PipelineWrite.from_dict({"name": "Sales", "stages": STAGES})
    created = made("api.pipelines.create_pipeline").sync(**about, body=body)
    assert (type(created).__name__, created.name, created.entity) == ("Pipeline", "Sales", "opportunity")
    assert [(stage.name, stage.status.value) for stage in created.stages] == [("Qualified", "active"), ("Won", "won")]

    listed = made("api.pipelines.list_pipelines").sync(**about, limit=10)
    assert [(each.id, each.name) for each in listed.result] == [(created.id, "Sales")]
    assert (listed.result_count, listed.next_cursor) == (1, None)

    stages = made("api.stages.list_stages").sync(**about, truto_exclude_fields=["remote_data", "position"])
    assert [stage.name for stage in stages.result] == ["Qualified", "Won"]
    assert not {"remote_data", "position"} & stages.result[0].to_dict().keys()

    planned = made("api.pipelines.delete_pipeline").sync(created.id, **about, truto_dry_run=True)
    assert (type(planned).__name__, planned.requests[-1].method) == ("DryRun", "DELETE")

    deleted = made("api.pipelines.delete_pipeline").sync(created.id, **about)
    assert (type(deleted).__name__, deleted.id) == ("Deleted", created.id)
    simulator: Any = world.simulators[provider]
    assert simulator.pipelines() == []


@ACCOUNTS
def test_it_reads_an_error(made: Callable[[str], Any], client: Any, account: str, provider: str) -> None:  # noqa: ARG001
    body = made("models").PipelineWrite.from_dict({"stages": STAGES})
    answer = made("api.pipelines.create_pipeline").sync_detailed(
        client=client, integrated_account_id=UUID(account), body=body
    )
    assert (answer.status_code, type(answer.parsed).__name__) == (400, "Error")
    assert answer.parsed.code.value == "invalid_request"
    assert "name is required" in answer.parsed.message
