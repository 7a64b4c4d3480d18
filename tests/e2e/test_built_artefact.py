"""What `make sam-local` built, without a container: under the runtime interface emulator that the SAM CLI brings.

Nothing is there but the functions' folder, the two layers in Lambda's order and Lambda's own runtime client, under a
bare Python of Lambda's version: a package that the layers lack is missing here too.
"""

import json
import os
import socket
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import urllib3

from local import simulators
from local.world import World
from tests.e2e.built import ACCOUNTS, MACHINE, at_provider, event, leaked, stages, told

BUILD = told("SAM_BUILD")
PYTHON = told("LAMBDA_PYTHON")
EMULATOR = next(told("SAM").parents[1].glob(f"lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-{MACHINE}"))
HANDLERS = {"ApiFunction": "api.app.handler", "AuthorizerFunction": "authorizer.app.handler"}


class Function:
    """A built function under the emulator; `log` is all that it and the emulator print."""

    def __init__(self, port: int, log: Path) -> None:
        self.port, self.log = port, log

    def __call__(self, name: str) -> dict[str, Any]:
        """Its answer to an event of `events/`."""
        url = f"http://127.0.0.1:{self.port}/2015-03-31/functions/function/invocations"
        answer: dict[str, Any] = urllib3.request("POST", url, json=event(name), retries=False, timeout=60).json()
        return answer


@contextmanager
def run(function: str, environment: Mapping[str, str], log: Path) -> Iterator[Function]:
    """Start a function. `environment` is all that it finds beside what Lambda sets."""
    door, runtime = _free_ports(2)
    command = [
        *(str(EMULATOR), "--runtime-interface-emulator-address", f"127.0.0.1:{door}"),
        *("--runtime-api-address", f"127.0.0.1:{runtime}"),
        *(str(PYTHON), "-m", "awslambdaric", HANDLERS[function]),
    ]
    given = {
        **environment,
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(str(BUILD / layer / "python") for layer in ("CrmLayer", "DependenciesLayer")),
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "29",
    }
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=BUILD / function, env=given, stdout=output, stderr=output) as process,
    ):
        try:
            _wait_for(door, process, log)
            yield Function(door, log)
        finally:
            process.terminate()


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    pytest.fail(f"the emulator does not answer:\n{log.read_text()}")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(port=0, gateway=False) as world:
        yield world


@pytest.fixture(scope="module")
def api(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    with run("ApiFunction", world.environment, tmp_path_factory.mktemp("api") / "log") as function:
        yield function


@pytest.mark.parametrize("provider", ACCOUNTS)
def test_creates_a_pipeline_at_the_provider(world: World, api: Function, provider: str) -> None:
    wanted = json.loads(event(f"create-pipeline-{provider}")["body"])
    answer = api(f"create-pipeline-{provider}")
    created = json.loads(answer["body"])
    assert answer["statusCode"] == 200, created
    assert stages(created) == stages(at_provider(world, provider, created["id"])) == stages(wanted)


@pytest.mark.parametrize(
    ("name", "status"), [("missing-account-id", 400), ("account-of-another-tenant", 404), ("unknown-route", 404)]
)
def test_refuses_what_the_handlers_tests_see_refused(api: Function, name: str, status: int) -> None:
    answer = api(name)
    assert answer["statusCode"] == json.loads(answer["body"])["statusCode"] == status


def test_authorizer_knows_the_token(world: World, tmp_path: Path) -> None:
    with run("AuthorizerFunction", world.environment, tmp_path / "log") as authorizer:
        assert authorizer("authorizer")["isAuthorized"] is True
        assert authorizer("authorizer-unknown-token")["isAuthorized"] is False
        assert leaked(authorizer.log.read_text()) == []


# What create-pipeline-….json becomes at each provider.
OWN_REQUESTS = {
    "close": {
        "target": "/api/v1/pipeline/?source=events",
        "authorization": f"Basic {b64encode(b'api_demo.close.4f9d2b7c1e:').decode()}",
        "body": {
            "name": "New business",
            "statuses": [
                {"label": "Qualified", "type": "active"},
                {"label": "Signed", "type": "won"},
                {"label": "Gone", "type": "lost"},
            ],
        },
    },
    "hubspot": {
        "target": "/crm/v3/pipelines/deals?source=events&tags%5B%5D=a&tags%5B%5D=b%20c",
        "authorization": "Bearer pat-demo-hubspot-7d1a9e",
        "body": {
            "label": "New business",
            "displayOrder": 3,
            "stages": [
                {"label": "Qualified", "displayOrder": 0, "metadata": {"probability": "0.3"}},
                {"label": "Signed", "displayOrder": 1, "metadata": {"probability": "1.0"}},
                {"label": "Gone", "displayOrder": 2, "metadata": {"probability": "0.0"}},
            ],
        },
    },
}


@pytest.mark.parametrize("provider", ACCOUNTS)
def test_base_urls_point_the_same_artefact_at_another_server(world: World, provider: str, tmp_path: Path) -> None:
    """And what arrives there is exactly the provider's own request."""
    usual, other = world.simulators[provider], simulators.load(provider)()
    before = len(usual.received)  # type: ignore[attr-defined]
    with other:
        elsewhere = {**world.environment, "PROVIDER_BASE_URLS": json.dumps({provider: other.url})}
        with run("ApiFunction", elsewhere, tmp_path / "log") as api:
            assert api(f"create-pipeline-{provider}")["statusCode"] == 200
        host, (arrived,) = other.url.removeprefix("http://"), other.received
    assert len(usual.received) == before  # type: ignore[attr-defined]
    wanted = OWN_REQUESTS[provider]
    assert (arrived.method, f"{arrived.path}?{arrived.raw_query}") == ("POST", wanted["target"])
    assert arrived.json == wanted["body"]
    assert arrived.headers == {
        "host": host,
        "user-agent": "unified-crm",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "content-length": str(len(arrived.body)),
        "authorization": wanted["authorization"],
    }


def test_no_credential_was_printed(api: Function) -> None:
    api("create-pipeline-close")
    assert leaked(api.log.read_text()) == []
