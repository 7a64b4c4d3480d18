"""`python -m local`: the local world on a fixed port until ctrl-C, with lines to paste. `make run` is this."""

import argparse
import io
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TextIO
from urllib.parse import urlencode

from local import simulators
from local.world import DEMO_TOKEN, PortInUseError, Simulator, World

STAGES = {"active": "Qualified", "won": "Won", "lost": "Lost"}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 after ctrl-C or SIGTERM, 1 where a port is taken."""
    options = _options(arguments)
    # Both signals end the wait below, from the first moment on, and the world is taken down in order.
    stop = threading.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda *_: stop.set())
    world = World(
        options.host,
        options.port,
        gateway=not options.aws_only,
        advertise=options.advertise,
        log_level=os.environ.get("LOG_LEVEL", "WARNING"),
        access_log=lambda line: print(line, flush=True),
    )
    try:
        with redirect_stdout(_WithoutMetrics(sys.stdout)), world:
            shown = json.dumps({"Parameters": world.environment}, indent=2) if options.aws_only else _banner(world)
            print(shown, flush=True)
            stop.wait()
    except PortInUseError as error:
        print(f"{error.strerror}: choose another one, such as PORT={options.port % 60000 + 100}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local", description="The whole cloud on this machine.")
    parser.add_argument(
        "--port",
        type=int,
        default=os.environ.get("PORT") or "8000",
        help="of the front door; the provider simulators stand on the ports after it; 0 takes free ones",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--advertise", help="the host to write into URLs, where callers know this machine by another")
    parser.add_argument(
        "--aws-only",
        action="store_true",
        help="without the front door; prints the functions' environment, as `sam local --env-vars` takes it",
    )
    options = parser.parse_args(arguments)
    last = 65535 - len(simulators.names())
    if not 0 <= options.port <= last:
        parser.error(f"the port is a number from 0 to {last}")
    return options


def _banner(world: World) -> str:
    lines = [
        f"Unified CRM on {world.url}",
        f"The demo token is {DEMO_TOKEN}. Paste any of these into another terminal:",
    ]
    for name, simulator in world.simulators.items():
        lines += ["", f"{name}: create a pipeline", *_create(world, simulator)]
        if look := _look(simulator):
            lines += [f"{name}: see what the provider holds now", look]
    return "\n".join([*lines, "", "ctrl-C stops everything.", ""])


def _create(world: World, simulator: Simulator) -> list[str]:
    address = f"{world.url}/unified/crm/pipelines?integrated_account_id={simulator.demo_account_id}"
    return [
        f"  curl -sS '{address}' \\",
        f"    -H 'Authorization: Bearer {DEMO_TOKEN}' -H 'Content-Type: application/json' \\",
        f'    -d \'{{"name": "Sales \'"$(date +%T)"\'", "stages": {json.dumps(_stages(simulator.name))}}}\'',
    ]


def _stages(name: str) -> list[dict[str, str]]:
    """A stage of each status that the provider can express."""
    from unified_crm import providers  # importable once a world is there

    try:
        provider = providers.load(name)
    except LookupError:  # a simulator whose provider is still to be written
        return [{"name": STAGES["active"]}]
    stage = provider.pipelines.table(next(iter(provider.entities.names.values())))["stages"].each
    known = (stage["status"].values or {}) if stage and "status" in stage else {}
    return [{"name": each, "status": status} for status, each in STAGES.items() if status in known]


def _look(simulator: Simulator) -> str:
    """The provider's own list of pipelines, asked for as its file asks, with the demo account's credentials."""
    from unified_crm import accounts  # importable once a world is there
    from unified_crm.errors import AccountUnusable
    from unified_crm.provider import Call

    try:
        account = accounts.load(simulator.demo_account_id, simulator.demo_account["tenant"])
    except AccountUnusable:  # a simulator whose provider is still to be written
        return ""
    provider, entity = account.provider, account.provider.entities.to_remote("opportunity")
    if provider.pipelines.list is None or entity is None:
        return ""
    first = next(provider.pipelines.list(Call(entity, settings=account.settings)))
    url = (
        accounts.base_url(provider, account.settings)
        + first.path
        + (f"?{urlencode(first.query)}" if first.query else "")
    )
    headers = {**provider.headers, **provider.auth[account.credentials.type](account.credentials)}
    words = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    return "  " + shlex.join(["curl", "-sS", url, *words])


class _WithoutMetrics(io.TextIOBase):
    """Standard output without the lines that CloudWatch would take as metrics, which would flood a terminal.

    Powertools' own switch is no help: with POWERTOOLS_METRICS_DISABLED it keeps all metrics and never forgets them.
    """

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self._thread = threading.local()

    def write(self, text: str) -> int:
        if text.startswith('{"_aws"'):
            self._thread.newline = True
        elif not (text == "\n" and self._thread.__dict__.pop("newline", False)):
            self.out.write(text)
        return len(text)

    def flush(self) -> None:
        self.out.flush()


if __name__ == "__main__":
    sys.exit(main())
