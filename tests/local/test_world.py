"""The local world: AWS and the simulators as the functions find them, the front door, and `python -m local`."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import boto3
import pytest

from local import simulators
from local.__main__ import main
from local.world import DEMO_TOKEN, OTHER_TOKEN, PortInUseError, World

ROOT = Path(__file__).resolve().parents[2]
CREDENTIALS = {"type": "api_key", "api_key": "toy-secret"}
THREE_STAGES = [
    {"name": "Qualified", "status": "active"},
    {"name": "Won", "status": "won"},
    {"name": "Lost", "status": "lost"},
]


class Toy:
    """The least that a world asks of a simulator."""

    name: ClassVar[str] = "toy"
    demo_account_id: ClassVar[str] = "3f6f0f2e-2f43-4f6e-9d5e-6d1f7d0c5a11"
    demo_account: ClassVar[dict[str, Any]] = {"provider": "toy", "tenant": "demo", "credentials": CREDENTIALS}
    url = "http://0.0.0.0:4711"
    running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(port=0, log_level="CRITICAL") as world:
        yield world


@pytest.fixture
def bare() -> Iterator[World]:
    with World(port=0, gateway=False) as world:
        yield world


def token_item(token: str) -> Any:
    key = {"token_hash": sha256(token.encode()).hexdigest()}
    resource = boto3.resource("dynamodb")
    try:
        return resource.Table(os.environ["TOKENS_TABLE"]).get_item(Key=key).get("Item")
    finally:
        resource.meta.client.close()


def secret(account_id: str) -> Any:
    client = boto3.client("secretsmanager")
    try:
        name = f"{os.environ['ACCOUNTS_SECRET_PREFIX']}/accounts/{account_id}"
        return json.loads(client.get_secret_value(SecretId=name)["SecretString"])
    finally:
        client.close()


def call(
    url: str, method: str, target: str, body: Any = None, token: str | None = DEMO_TOKEN
) -> tuple[int, dict[str, Any]]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        connection.request(method, target, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


# AWS and the environment, found with nothing but what the functions are given


@pytest.mark.parametrize("name", simulators.names())
def test_each_provider_has_its_demo_account(bare: World, name: str) -> None:
    simulator = simulators.load(name)
    assert secret(simulator.demo_account_id) == simulator.demo_account
    assert simulator.demo_account["tenant"] == "demo"
    assert json.loads(os.environ["PROVIDER_BASE_URLS"])[name] == bare.simulators[name].url


def test_environment_is_what_the_functions_need(bare: World) -> None:
    assert bare.environment.items() <= dict(os.environ).items()
    assert (
        bare.environment.items()
        >= {
            "AWS_ENDPOINT_URL": bare.aws_url,
            "ACCOUNTS_SECRET_PREFIX": "unified-crm",
            "TOKENS_TABLE": "unified-crm-tokens",
            "POWERTOOLS_SERVICE_NAME": "unified-crm",
            "POWERTOOLS_METRICS_NAMESPACE": "UnifiedCRM",
            "POWERTOOLS_TRACE_DISABLED": "true",
            "POWERTOOLS_LOG_LEVEL": "INFO",
        }.items()
    )
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION"} <= os.environ.keys()


def test_environment_is_put_back_and_keeps_what_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "somebodys-production")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "example.com")
    monkeypatch.setenv("TOKENS_TABLE", "before")
    before = dict(os.environ)
    with World(port=0, gateway=False):
        assert token_item(DEMO_TOKEN)["tenant"] == "demo"
        assert "AWS_PROFILE" not in os.environ
        assert os.environ["no_proxy"] == "example.com,127.0.0.1"
    assert dict(os.environ) == before


def test_table_is_keyed_by_the_tokens_hash_and_forgets_expired_ones(bare: World) -> None:
    client = boto3.client("dynamodb")
    table = client.describe_table(TableName=bare.environment["TOKENS_TABLE"])["Table"]
    expiry = client.describe_time_to_live(TableName=bare.environment["TOKENS_TABLE"])["TimeToLiveDescription"]
    client.close()
    assert table["KeySchema"] == [{"AttributeName": "token_hash", "KeyType": "HASH"}]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert expiry == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}


@pytest.mark.usefixtures("bare")
def test_two_tenants_have_a_token_kept_as_its_hash() -> None:
    assert token_item(DEMO_TOKEN) == {"token_hash": sha256(b"demo-token").hexdigest(), "tenant": "demo"}
    assert token_item(OTHER_TOKEN)["tenant"] == "other"


def test_tokens_and_accounts_can_be_added(bare: World) -> None:
    bare.add_token("narrow", "demo", expires_at=1900000000, accounts=["a", "b"])
    assert token_item("narrow") == {
        "token_hash": sha256(b"narrow").hexdigest(),
        "tenant": "demo",
        "expires_at": 1900000000,
        "accounts": ["a", "b"],
    }
    bare.add_account("new", {"provider": "toy", "tenant": "demo"})
    bare.add_account("new", {"provider": "toy", "tenant": "moved"})
    assert secret("new")["tenant"] == "moved"


AFRESH = """
import json
from local.world import World
with World(port=0, gateway=False) as first:
    first.add_token("mine", "demo")
    first.add_account("mine", {})
with World(port=0, gateway=False) as second:
    import boto3
    table = boto3.resource("dynamodb").Table("unified-crm-tokens")
    second.add_account("mine", {"new": True})
    print(json.dumps([first.aws_url, second.aws_url, len(table.scan()["Items"])]))
"""


def test_each_world_starts_afresh_at_the_same_aws_address() -> None:
    """In a process of its own: here the session's world is open, and moto's state is one for all worlds at once."""
    run = subprocess.run(
        [sys.executable, "-c", AFRESH], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT
    )
    first, second, tokens = json.loads(run.stdout)
    assert (first, tokens) == (second, 2), "the two tokens that every world begins with"


def test_world_inside_a_world_takes_nothing_away() -> None:
    with World(port=0, gateway=False) as outer:
        outer.add_token("mine", "demo")
        with World(port=0, gateway=False, simulators={"toy": Toy()}) as inner:
            assert inner.aws_url != outer.aws_url
            assert secret(Toy.demo_account_id) == Toy.demo_account
        assert os.environ["AWS_ENDPOINT_URL"] == outer.aws_url
        assert token_item("mine") is not None


def test_given_simulators_are_started_and_stopped_and_are_the_only_ones() -> None:
    toy = Toy()
    with World(port=0, gateway=False, simulators={"toy": toy}) as world:
        assert toy.running
        assert json.loads(world.environment["PROVIDER_BASE_URLS"]) == {"toy": "http://127.0.0.1:4711"}
        assert secret(toy.demo_account_id)["credentials"] == CREDENTIALS
    assert not toy.running


def test_advertised_host_stands_in_every_url() -> None:
    with World("0.0.0.0", 0, gateway=False, advertise="localhost") as world:
        urls = [world.aws_url, *json.loads(world.environment["PROVIDER_BASE_URLS"]).values()]
        assert {urlsplit(url).hostname for url in urls} == {"localhost"}
        assert token_item(DEMO_TOKEN) is not None


def test_front_door_is_absent_unless_asked_for(bare: World) -> None:
    assert bare.gateway is None
    with pytest.raises(RuntimeError):
        _ = bare.url


def test_nothing_is_left_behind(capfd: pytest.CaptureFixture[str]) -> None:
    before = set(threading.enumerate())
    with World(port=0, gateway=False) as world:
        assert token_item(DEMO_TOKEN) is not None
    assert set(threading.enumerate()) <= before
    for url in (world.aws_url, *json.loads(world.environment["PROVIDER_BASE_URLS"]).values()):
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(url, timeout=1)
    assert capfd.readouterr() == ("", "")


def test_taken_port_leaves_nothing_running_and_is_named() -> None:
    before, environment = set(threading.enumerate()), dict(os.environ)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} ") as caught, World(port=port):
            pass
        assert caught.value.port == port
        with pytest.raises(PortInUseError, match=f"port {port} "), World(port=port - 1, gateway=False):
            pass  # the first simulator stands one above
    assert set(threading.enumerate()) <= before
    assert dict(os.environ) == environment


# The whole way, through the real functions


@pytest.mark.parametrize("name", simulators.names())
def test_pipeline_is_created_through_the_front_door(world: World, name: str) -> None:
    account = simulators.load(name).demo_account_id
    body = {"name": "Sales", "stages": THREE_STAGES}
    target = f"/unified/crm/pipelines?integrated_account_id={account}&truto_unsupported=skip"
    status, pipeline = call(world.url, "POST", target, body)
    assert status == 200, pipeline
    assert [stage["name"] for stage in pipeline["stages"]] == ["Qualified", "Won", "Lost"]


@pytest.mark.parametrize("name", simulators.names())
def test_account_of_another_tenant_does_not_exist(world: World, name: str) -> None:
    target = f"/unified/crm/pipelines?integrated_account_id={simulators.load(name).demo_account_id}"
    status, error = call(world.url, "POST", target, {"name": "Sales"}, token=OTHER_TOKEN)
    assert status == 404, error


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("unknown", 403)])
def test_nobody_gets_in_without_a_token(world: World, token: str | None, status: int) -> None:
    answer = call(world.url, "POST", "/unified/crm/pipelines", {}, token=token)
    assert answer == (status, {"message": {401: "Unauthorized", 403: "Forbidden"}[status]})


# The command


@contextmanager
def command(*arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """`python -m local`; ended by force if the test does not end it."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("PORT", "LOG_LEVEL")}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "local", *arguments],
        cwd=ROOT,
        env={**inherited, "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def free_ports(count: int) -> int:
    """The first of some neighbouring free ports."""
    for first in range(20000 + os.getpid() % 10000, 40000, count):
        with suppress(OSError):
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
            return first
    raise AssertionError("no free ports")


def read_until(process: "subprocess.Popen[str]", last: str) -> str:
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if last in line:
            break
    return "".join(lines)


def test_command_prints_lines_that_work_when_pasted_and_ends_at_ctrl_c() -> None:
    names = simulators.names()
    port = free_ports(len(names) + 1)
    with command(PORT=str(port)) as process:
        banner = read_until(process, "ctrl-C") + read_until(process, "\n")
        assert f"http://127.0.0.1:{port}\n" in banner
        assert DEMO_TOKEN in banner
        pasted = re.findall(r"^  curl .*?(?<!\\)$", banner, re.MULTILINE | re.DOTALL)
        creates = [line for line in pasted if "/unified/crm/pipelines" in line]
        assert len(creates) == len(names)
        for line in creates:
            answer = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=10, check=True)
            stages = [stage["name"] for stage in json.loads(answer.stdout)["stages"]]
            assert stages in (["Qualified"], ["Qualified", "Won", "Lost"])
            assert re.fullmatch(
                r"POST /unified/crm/pipelines 200 \d+ ms\n", read_until(process, "\n")
            )  # and no metrics
        for at, name in enumerate(names, start=1):
            with socket.create_connection(("127.0.0.1", port + at), timeout=1):
                pass  # each simulator on its own fixed port
            looks = [line for line in pasted if f"127.0.0.1:{port + at}/" in line]
            assert len(looks) == 1
            held = subprocess.run(["sh", "-c", looks[0]], capture_output=True, text=True, timeout=10, check=True)
            assert '"Sales ' in held.stdout, name
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=5)
        assert (process.returncode, errors) == (0, "")


def test_command_without_front_door_prints_the_environment_and_ends_at_sigterm() -> None:
    arguments = ("--aws-only", "--port", "0", "--host", "0.0.0.0", "--advertise", "127.0.0.1")
    began = time.monotonic()
    with command(*arguments, LOG_LEVEL="DEBUG") as process:
        environment = json.loads(read_until(process, "  }\n") + "}")["Parameters"]
        start = time.monotonic() - began
        assert environment["TOKENS_TABLE"] == "unified-crm-tokens"
        assert environment["POWERTOOLS_LOG_LEVEL"] == "DEBUG"
        with pytest.raises(urllib.error.HTTPError):  # it answers
            urllib.request.urlopen(f"{environment['AWS_ENDPOINT_URL']}/nothing", timeout=5)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        _, errors = process.communicate(timeout=max(5, start))
        assert (process.returncode, errors) == (0, "")
        assert time.monotonic() - began < max(2, start), "a slow machine needs longer, for its start as well"


@pytest.mark.parametrize("above", [0, 1])
def test_command_says_which_port_is_taken(above: int) -> None:
    port = free_ports(2)
    with socket.create_server(("127.0.0.1", port + above)), command(PORT=str(port)) as process:
        out, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out == ""
    assert errors.count("\n") == 1
    assert f"port {port + above} " in errors
    assert "PORT=" in errors


@pytest.mark.parametrize("port", ["http", "65535", "-1"])
def test_command_refuses_what_is_no_port(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([f"--port={port}"])
    assert caught.value.code == 2
    assert "port" in capsys.readouterr().err
