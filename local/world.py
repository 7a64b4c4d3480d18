"""The whole cloud in one process: Secrets Manager, DynamoDB, every provider, and the front door before the functions.

    with World(port=0) as world:
        ...  # call world.url with "Authorization: Bearer demo-token"

Only what surrounds the functions is a stand-in. The handlers are the real ones, in this process, and find everything
through the same environment variables as in the cloud.
"""

import errno
import hashlib
import importlib
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from local import simulators as folder
from local.gateway import Gateway

DEMO_TOKEN = "demo-token"
OTHER_TOKEN = "other-token"
PREFIX = "unified-crm"
TABLE = "unified-crm-tokens"
IDEMPOTENCY_TABLE = "unified-crm-idempotency"
PUBLIC = frozenset({"GET /docs", "GET /openapi.json"})
REGION = "us-east-1"
ROOT = Path(__file__).resolve().parent.parent

# Settings of the developer's own AWS work, none of which may leak in here.
UNSET = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)


class Simulator(Protocol):
    """What a world needs of a provider's simulator; the simulators themselves are in `local/simulators`."""

    name: ClassVar[str]
    demo_account_id: ClassVar[str]
    demo_account: ClassVar[dict[str, Any]]

    def start(self) -> Any: ...

    def stop(self) -> None: ...

    @property
    def url(self) -> str: ...


class PortInUseError(OSError):
    """An address that someone else listens on."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(errno.EADDRINUSE, f"port {port} on {host} is in use")
        self.host, self.port = host, port


class World:
    """Use it as a context manager.

    - `host`: where everything listens; `advertise`: the host in the URLs that functions and people are given, for
      functions in a container, which reach this machine by another name than its own.
    - `port`: the front door's. With a fixed one the simulators stand on the ports after it, in the order of their
      names; 0 takes free ports. AWS always gets a free port.
    - `simulators`: by provider, not started; one of each in the folder if None. The world starts and stops them.
    - `gateway`: False leaves the front door and the functions out.
    - `timeout`: of the function, in seconds. `log_level`: of the functions' logs. `public`: see `Gateway`.

    Afterwards `url`, `gateway`, `simulators`, `environment` (what the functions were given) and `aws_url` are there.
    The environment of the process is put back at the end.
    """

    _open: ClassVar[int] = 0
    # A module that makes its AWS client when it is imported keeps the first world's address: later worlds try to have
    # the same.
    _aws_port: ClassVar[int] = 0

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8000,
        simulators: Mapping[str, Simulator] | None = None,
        *,
        gateway: bool = True,
        advertise: str | None = None,
        timeout: float = 29.0,
        log_level: str = "INFO",
        public: Set[str] = PUBLIC,
        access_log: Callable[[str], None] | None = None,
    ) -> None:
        self.host, self.port = host, port
        self.reachable = "127.0.0.1" if host in ("", "0.0.0.0") else host
        self.advertise = advertise or self.reachable
        self._ports: dict[str, int] = {}
        if simulators is None:
            self._ports = {name: port and port + at for at, name in enumerate(folder.names(), start=1)}
            simulators = {name: folder.load(name)(host=host, port=at) for name, at in self._ports.items()}
        self.simulators = dict(simulators)
        self.gateway: Gateway | None = None
        self.environment: dict[str, str] = {}
        self.aws_url = ""
        self._with_gateway, self._timeout, self._public, self._access_log = gateway, timeout, public, access_log
        self._log_level = log_level
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """The front door's origin."""
        if self.gateway is None:
            raise RuntimeError("this world has no front door, or is not started")
        return f"http://{self.advertise}:{self.gateway.port}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._with_gateway:
                _listen(self.host, self.port).close()  # a taken port shows before anything slow
            for name, simulator in self.simulators.items():
                with _naming(self.host, self._ports.get(name, 0)):
                    simulator.start()
                stack.callback(simulator.stop)
            aws = stack.enter_context(_aws(self.host, World._aws_port, fresh=World._open == 0))
            World._aws_port = aws
            World._open += 1
            stack.callback(_close_one)
            self.aws_url = f"http://{self.advertise}:{aws}"
            self.environment = self._describe()
            stack.callback(_cold_start)
            stack.enter_context(_environment(self.environment, {self.host, self.reachable, self.advertise}))
            _cold_start()
            self._connect(stack, f"http://{self.reachable}:{aws}")
            self._seed()
            if self._with_gateway:
                gateway = self._front_door()
                with _naming(self.host, self.port):
                    self.gateway = stack.enter_context(gateway)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
        self.gateway = None

    def add_account(self, account_id: str, secret: Mapping[str, Any]) -> None:
        """Store an integrated account as its secret; one that is there gets the new content."""
        name, content = f"{PREFIX}/accounts/{account_id}", json.dumps(secret)
        try:
            self._secrets.create_secret(Name=name, SecretString=content)
        except self._secrets.exceptions.ResourceExistsException:
            self._secrets.put_secret_value(SecretId=name, SecretString=content)
            _cold_start()

    def add_token(
        self, token: str, tenant: str, expires_at: int | None = None, accounts: list[str] | None = None
    ) -> None:
        """Let a bearer token in. `expires_at` in seconds since 1970; `accounts` narrows it to those of the tenant."""
        item: dict[str, Any] = {
            "token_hash": {"S": hashlib.sha256(token.encode()).hexdigest()},
            "tenant": {"S": tenant},
        }
        if expires_at is not None:
            item["expires_at"] = {"N": str(expires_at)}
        if accounts is not None:
            item["accounts"] = {"L": [{"S": account} for account in accounts]}
        self._tables.put_item(TableName=TABLE, Item=item)

    def _describe(self) -> dict[str, str]:
        origins = {
            name: f"http://{self.advertise}:{urlsplit(simulator.url).port}"
            for name, simulator in self.simulators.items()
        }
        return {
            "AWS_ENDPOINT_URL": self.aws_url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "ACCOUNTS_SECRET_PREFIX": PREFIX,
            "TOKENS_TABLE": TABLE,
            "IDEMPOTENCY_TABLE": IDEMPOTENCY_TABLE,
            "PROVIDER_BASE_URLS": json.dumps(origins),
            "POWERTOOLS_SERVICE_NAME": "unified-crm",
            "POWERTOOLS_METRICS_NAMESPACE": "UnifiedCRM",
            "POWERTOOLS_TRACE_DISABLED": "true",
            "POWERTOOLS_LOG_LEVEL": self._log_level,
        }

    def _connect(self, stack: ExitStack, url: str) -> None:
        session = boto3.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)
        config = Config(retries={"total_max_attempts": 2}, proxies={})
        self._secrets = session.client("secretsmanager", endpoint_url=url, config=config)
        self._tables = session.client("dynamodb", endpoint_url=url, config=config)
        for client in (self._secrets, self._tables):
            stack.callback(client.close)

    def _seed(self) -> None:
        for name, key, ends in ((TABLE, "token_hash", "expires_at"), (IDEMPOTENCY_TABLE, "id", "expiration")):
            try:
                self._tables.create_table(
                    TableName=name,
                    AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                    KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
                    BillingMode="PAY_PER_REQUEST",
                )
                self._tables.update_time_to_live(
                    TableName=name, TimeToLiveSpecification={"AttributeName": ends, "Enabled": True}
                )
            except self._tables.exceptions.ResourceInUseException:
                pass  # a world inside a world: moto has one state for the process
        self.add_token(DEMO_TOKEN, "demo")
        self.add_token(OTHER_TOKEN, "other")
        for simulator in self.simulators.values():
            self.add_account(simulator.demo_account_id, simulator.demo_account)

    def _front_door(self) -> Gateway:
        for source in (ROOT / "layers" / "crm", ROOT / "functions"):
            if str(source) not in sys.path:
                sys.path.insert(0, str(source))
        # Only now: a function may read its environment when it is imported, as Lambda lets it.
        api, authorizer = (importlib.import_module(f"{name}.app").handler for name in ("api", "authorizer"))
        return Gateway(
            api,
            authorizer,
            self.host,
            self.port,
            public=self._public,
            timeout=self._timeout,
            access_log=self._access_log,
        )


def _close_one() -> None:
    World._open -= 1


def _cold_start() -> None:
    """Empty what the functions keep between events: another world has other secrets, at another address."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("api", "authorizer", "unified_crm"):
            for value in list(vars(module).values()):
                if callable(clear := getattr(value, "cache_clear", None)):
                    clear()
    if parameters := sys.modules.get("aws_lambda_powertools.utilities.parameters"):
        parameters.clear_caches()


@contextmanager
def _naming(host: str, port: int) -> Iterator[None]:
    """Say which port is taken; the system's own error does not."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(host, port) from None
        raise


def _listen(host: str, port: int) -> socket.socket:
    with _naming(host, port):
        return socket.create_server((host, port), backlog=128)


@contextmanager
def _aws(host: str, port: int, fresh: bool) -> Iterator[int]:
    """Moto's server; gives its port, which is `port` if that is still free. Its state is the process's: `fresh`."""
    try:
        listener = _listen(host, port)
    except OSError:
        listener = _listen(host, 0)
    werkzeug = logging.getLogger("werkzeug")
    level = werkzeug.level
    werkzeug.setLevel(logging.CRITICAL)  # one line for each call otherwise
    with listener:
        port = listener.getsockname()[1]
        app = DomainDispatcherApplication(create_backend_app)
        # moto's own ThreadedMotoServer leaves its socket open and takes half a second to stop
        server = make_server(host, port, app, threaded=True, request_handler=MotoRequestHandler, fd=listener.fileno())
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="aws", daemon=True)
    thread.start()
    try:
        if fresh:
            for service in ("secretsmanager", "dynamodb"):
                get_backend(service).reset()
        yield port
    finally:
        server.shutdown()
        thread.join()
        werkzeug.setLevel(level)


@contextmanager
def _environment(values: Mapping[str, str], hosts: Set[str]) -> Iterator[None]:
    """The functions' environment for this process, without whatever this machine has set for AWS and proxies."""
    changes: dict[str, str | None] = {
        **dict.fromkeys(UNSET),
        **values,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        **{name: ",".join(filter(None, [os.environ.get(name), *sorted(hosts)])) for name in ("NO_PROXY", "no_proxy")},
    }
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
