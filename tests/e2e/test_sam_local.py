"""What `make sam-local` built, in containers, by the real SAM CLI.

The functions call AWS and the providers of a local world on this machine: at SAM_HOST_IP where a stand-in for Docker
runs them, otherwise at host.docker.internal, which `--add-host` makes known where Docker does not.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3

from local.world import World
from tests.e2e.built import ACCOUNTS, MACHINE, ROOT, at_provider, event, leaked, stages, told

SAM = told("SAM")
BUILD = told("SAM_BUILD")
STAND_IN = os.environ.get("SAM_HOST_IP")
HOST = STAND_IN or "host.docker.internal"

pytestmark = pytest.mark.timeout(600)  # the first container may have to pull its image

BODY = {
    "name": "From sam local",
    "stages": [
        {"name": "Qualified", "status": "active"},
        {"name": "Signed", "status": "won"},
        {"name": "Gone", "status": "lost"},
    ],
}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(host="0.0.0.0", advertise=HOST, port=0, gateway=False) as world:
        yield world


@pytest.fixture(scope="module")
def options(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What every `sam local` command is told."""
    variables = tmp_path_factory.mktemp("sam") / "environment.json"
    variables.write_text(json.dumps({"Parameters": world.environment}))
    return [
        *("--template-file", str(BUILD / "template.yaml"), "--parameter-overrides", f"Architecture={MACHINE}"),
        *("--env-vars", str(variables)),
        *(["--skip-pull-image"] if STAND_IN else ["--add-host", f"{HOST}:host-gateway"]),
    ]


def invoke(function: str, name: str, options: list[str]) -> dict[str, Any]:
    """`sam local invoke` with an event of `events/`; the function's answer."""
    command = [str(SAM), "local", "invoke", function, "--event", f"events/{name}.json", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert leaked(done.stdout + done.stderr) == []
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


@pytest.mark.parametrize("provider", ACCOUNTS)
def test_invoked_function_creates_a_pipeline_at_the_provider(world: World, options: list[str], provider: str) -> None:
    name = f"create-pipeline-{provider}"
    wanted = json.loads(event(name)["body"])
    answer = invoke("ApiFunction", name, options)
    created = json.loads(answer["body"])
    assert answer["statusCode"] == 200, created
    assert stages(created) == stages(wanted)
    held = at_provider(world, provider, created["id"])
    assert held["name"] == wanted["name"]
    assert stages(held) == stages(wanted)
    assert len(held["stages"]) == 3


def test_invoked_function_refuses_the_account_of_another_tenant(options: list[str]) -> None:
    answer = invoke("ApiFunction", "account-of-another-tenant", options)
    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (404, "not_found")


@pytest.mark.parametrize(("name", "authorized"), [("authorizer", True), ("authorizer-unknown-token", False)])
def test_invoked_authorizer_knows_the_token(options: list[str], name: str, authorized: bool) -> None:
    assert invoke("AuthorizerFunction", name, options)["isAuthorized"] is authorized


class Front:
    """`sam local start-api`, and calls to it."""

    def __init__(self, port: int, log: Path) -> None:
        self.port, self.log = port, log
        self._pool = urllib3.HTTPConnectionPool("127.0.0.1", port, retries=False, timeout=120)

    def call(self, method: str, path: str, token: str | None, body: Any = None) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        reply = self._pool.request(method, path, headers=headers, json=body)
        return reply.status, reply.json()

    def create(self, provider: str, token: str | None = "demo-token") -> tuple[int, dict[str, Any]]:
        query = f"integrated_account_id={ACCOUNTS[provider]}&truto_exclude_fields%5B%5D=remote_data"
        return self.call("POST", f"/unified/crm/pipelines?{query}", token, BODY)


@pytest.fixture(scope="module")
def front(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    log = tmp_path_factory.mktemp("start-api") / "log"
    command = [str(SAM), "local", "start-api", "--port", str(port), "--warm-containers", "LAZY", *options]
    with log.open("wb") as output, subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output) as process:
        try:
            _wait_for(port, process, log)
            yield Front(port, log)
        finally:
            process.send_signal(signal.SIGINT)  # it takes its containers along
            process.wait(60)


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    pytest.fail(f"sam local start-api does not answer:\n{log.read_text()}")


@pytest.mark.parametrize("provider", ACCOUNTS)
def test_call_with_a_good_token_creates_a_pipeline(world: World, front: Front, provider: str) -> None:
    status, created = front.create(provider)
    assert status == 200, created
    assert "remote_data" not in created
    assert stages(created) == stages(at_provider(world, provider, created["id"])) == stages(BODY)


@pytest.mark.parametrize("provider", ACCOUNTS)
def test_each_address_of_the_api_answers(world: World, front: Front, provider: str) -> None:
    account = f"integrated_account_id={ACCOUNTS[provider]}&truto_ignore_remote_data=true"

    def call(method: str, path: str, body: Any = None, query: str = "") -> dict[str, Any]:
        status, answer = front.call(method, f"/unified/crm/{path}?{account}{query}", "demo-token", body)
        assert status == 200, (method, path, answer)
        return answer

    made = call("POST", "pipelines", {**BODY, "name": "All of it"})
    path = f"pipelines/{made['id']}"
    assert call("GET", path)["name"] == "All of it"
    assert call("PATCH", path, {"name": "Renamed"})["name"] == "Renamed"
    assert made["id"] in [each["id"] for each in call("GET", "pipelines")["result"]]
    stage = call("POST", "stages", {"name": "Fresh", "pipeline": {"id": made["id"]}})
    assert call("GET", f"stages/{stage['id']}")["position"] == 3
    assert call("PATCH", f"stages/{stage['id']}", {"name": "Fresher"})["name"] == "Fresher"
    listed = call("GET", "stages", query=f"&pipeline%5Bid%5D={made['id']}")
    assert [each["name"] for each in listed["result"]][-1] == "Fresher"
    assert call("DELETE", f"stages/{stage['id']}") == {"id": stage["id"]}
    assert len(at_provider(world, provider, made["id"])["stages"]) == 3
    assert call("DELETE", path) == {"id": made["id"]}
    for resource in ("pipelines", "stages"):
        assert call("GET", f"{resource}/meta/create")["supported"] is True


def test_the_documents_are_public(front: Front) -> None:
    status, description = front.call("GET", "/openapi.json", None)
    assert (status, description["openapi"][:3]) == (200, "3.1")


def test_nobody_gets_in_without_a_good_token(world: World, front: Front) -> None:
    before = world.simulators["close"].pipelines()  # type: ignore[attr-defined]
    assert front.create("close", token=None) == (401, {"message": "Unauthorized"})
    assert front.create("close", token="nobodys-token")[0] == 403
    assert world.simulators["close"].pipelines() == before  # type: ignore[attr-defined]


def test_token_of_another_tenant_finds_no_account(front: Front) -> None:
    status, error = front.create("close", token="other-token")
    assert (status, error["code"]) == (404, "not_found")


def test_any_other_address_or_method_gets_the_functions_own_answer(front: Front) -> None:
    status, error = front.call("GET", "/nothing/here", "demo-token")
    assert (status, error["code"]) == (404, "not_found")
    status, error = front.call("PUT", "/unified/crm/pipelines", "demo-token", BODY)
    assert (status, error["code"]) == (405, "method_not_allowed")


def test_no_credential_was_printed(front: Front) -> None:
    front.create("hubspot")
    assert leaked(front.log.read_text()) == []
