"""What a million creates cost, from measured durations and public list prices; writes its tables into docs/cost.md.

    make bench-cost

The function gets the part of one core that its memory size buys: by a control group where one can be made (Linux,
cgroup v1, root), else by arithmetic from processor time. The provider, HubSpot, is a fake one that takes
PROVIDER_SECONDS to answer; AWS's services answer at once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from benchmarks import artefact, emulator, work
from benchmarks.artefact import ROOT
from benchmarks.emulator import Start
from benchmarks.fake_provider import Fake
from benchmarks.prices import (
    CORE_MB,
    SIZES,
    Sizes,
    Timed,
    Traffic,
    bill,
    bill_table,
    case_table,
    dominating,
    log_table,
    money,
    month_table,
    price_table,
    rate_table,
    reading_table,
    scale_table,
    size_table,
    snapstart,
)

PAGE = ROOT / "docs" / "cost.md"
TEMPLATE = ROOT / "template.yaml"
PROVIDER_SECONDS = 0.15


# ---- The log lines that are not the function's own -------------------------------------------------------------------

EVENT_BYTES = 26
"""Counted for each log event: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html"""
_REQUEST = "8f507cfc-8f36-4a5e-9f5c-2f1d5a7f4b11"
_AT = "2026-11-21T12:00:00.000Z"
_TRACE = "Root=1-6352a70e-1e2c502e358361800241fd45;Parent=35465b3a9e2f7c6a;Sampled=0;Lineage=1:0a1b2c3d:0"
FUNCTION = "unified-crm-ApiFunction-a1B2c3D4e5F6"
AUTHORIZER = "unified-crm-AuthorizerFunction-a1B2c3D4e5F6"


def platform_lines(memory: int = 512) -> list[str]:
    """What Lambda itself writes for a warm invocation, where the log format is JSON and tracing is on."""
    tracing = {"spanId": "24cd7d670fa455f0", "type": "X-Amzn-Trace-Id", "value": _TRACE}
    start = {"requestId": _REQUEST, "functionArn": f"arn:aws:lambda:us-east-1:123456789012:function:{FUNCTION}:live"}
    metrics = {"durationMs": 161.234, "billedDurationMs": 162, "memorySizeMB": memory, "maxMemoryUsedMB": 112}
    records = {
        "platform.start": {**start, "version": "12", "tracing": tracing},
        "platform.report": {"requestId": _REQUEST, "metrics": metrics, "tracing": tracing, "status": "success"},
    }
    return [_dump({"time": _AT, "type": name, "record": record}) for name, record in records.items()]


_CONTEXT = {
    "requestId": "TIzuJUaRIa3mr50=",
    "requestTime": "21/Nov/2026:12:00:00 +0000",
    "routeKey": "ANY /unified/crm/pipelines",
    "httpMethod": "POST",
    "status": "200",
    "authorizer.tenant": "demo",
    "identity.sourceIp": "203.0.113.7",
    "responseLength": "2048",
    "responseLatency": "171",
    "integrationLatency": "168",
    "integrationStatus": "200",
}


def access_line(template: str) -> str:
    """The access log's line of a create, in the format that template.yaml has; `-` is API Gateway's nothing."""
    found = re.search(r"\n( +)Format: >-\n((?:\1 +\S.*\n)+)", template)
    if found is None:
        raise ValueError("The template has no access log format")
    text = " ".join(line.strip() for line in found[2].splitlines())
    return re.sub(r"\$context\.([\w.]+)", lambda name: _CONTEXT.get(name[1], "-"), text)


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _counted(lines: Sequence[str]) -> int:
    return sum(len(line.encode()) + EVENT_BYTES for line in lines)


# ---- The function, at the speed of a memory size ---------------------------------------------------------------------

_GROUPS = Path("/sys/fs/cgroup/cpu")
_PERIOD = 20_000
"""Microseconds in which a control group's share is given out."""


@contextmanager
def limited(share: float) -> Iterator[Path | None]:
    """The file that a process writes its id to so that it gets this share of one core, None where there is none."""
    group = _GROUPS / f"unified-crm-cost-{uuid4().hex[:8]}"
    try:
        group.mkdir()
    except OSError:
        yield None
        return
    try:
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(round(share * _PERIOD)))
        yield group / "cgroup.procs"
    finally:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.05)


class Limited:
    """A function that has `share` of a core."""

    def __init__(self, function: emulator.Function, place: Path, share: float, *, enforced: bool) -> None:
        self._function, self._place, self._share, self._enforced = function, place, share, enforced

    def __call__(self, event: Mapping[str, Any]) -> Start:
        """As long as it takes with that share. Raises RuntimeError where a create is not answered 200."""
        before = self._processor()
        found = self._function(event)
        if found.answer.get("statusCode", 200) != 200:
            raise RuntimeError(f"A create was answered with {found.answer}")
        if self._enforced:
            return found
        waited = (self._processor() - before) * (1 / self._share - 1)
        whole = found.init + found.call
        init, call = (each + waited * each / whole for each in (found.init, found.call))
        return Start(init, call, found.answer)

    def _processor(self) -> float:
        """Milliseconds of processor time so far."""
        try:
            threads = Path(f"/proc/{self._pid}/task").glob("*/schedstat")
            return sum(int(each.read_text().split()[0]) for each in threads) / 1e6
        except OSError:
            return 0.0

    @property
    def _pid(self) -> str:
        return (self._place / "pid").read_text().strip()

    def peak(self) -> int:
        """Bytes of resident memory at most, 0 where the system does not tell."""
        with suppress(OSError):
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self._pid}/status").read_text())
            return int(found[1]) * 1024 if found else 0
        return 0

    def lines(self) -> list[str]:
        """What it has written so far."""
        return [line for line in (self._place / "own").read_text().splitlines() if line.strip()]


# Lambda tells the runtime the trace's id. The emulator does not, and logs and traces would not be those of Lambda.
_RUNTIME = (
    "import sys; from awslambdaric import __main__, bootstrap; "
    "bootstrap.update_xray_env_variable = lambda _: None; __main__.main(sys.argv)"
)
_START = 'echo $$ >"$PID_FILE"; [ -z "$GROUP" ] || echo $$ >"$GROUP"; exec "$@" >"$OWN_LOG" 2>&1'


@contextmanager
def running(handler: Literal["api", "authorizer"], fake: Fake, memory: int) -> Iterator[Limited]:
    """A function, not yet initialised: its first invocation does that."""
    name, folder = {"api": (FUNCTION, artefact.API), "authorizer": (AUTHORIZER, artefact.AUTHORIZER)}[handler]
    share = memory / CORE_MB
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        group = stack.enter_context(limited(share))
        variables = {
            **artefact.environment(fake.port, folder),
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "12",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": "120",
            "_X_AMZN_TRACE_ID": _TRACE,
            "PID_FILE": str(place / "pid"),
            "OWN_LOG": str(place / "own"),
            "GROUP": str(group or ""),
        }
        command = ["/bin/sh", "-c", _START, "sh", str(artefact.PYTHON), "-c", _RUNTIME, f"{handler}.app.handler"]
        function = stack.enter_context(emulator.running(command, folder, variables))
        yield Limited(function, place, share, enforced=group is not None)


# ---- What is called --------------------------------------------------------------------------------------------------


def create_event(account: str = work.HUBSPOT, key: str | None = None) -> dict[str, Any]:
    """API Gateway's event of a create at HubSpot with five stages."""
    event = work.event("create-hubspot", **({"idempotency-key": key} if key else {}))
    return {**event, "rawQueryString": f"integrated_account_id={account}"}


def authorizer_event() -> dict[str, Any]:
    """API Gateway's question to the authorizer."""
    event: dict[str, Any] = json.loads((ROOT / "events" / "authorizer.json").read_text())
    return event


def measure(
    samples: int, starts: int, memories: Sequence[int], say: Callable[[str], None] = lambda _: None
) -> tuple[dict[int, Timed], Sizes]:
    """Durations at each memory size, all sizes taking turns, and the bytes of a create."""
    timed = {memory: Timed() for memory in memories}
    with Fake(seconds=PROVIDER_SECONDS) as fake:
        for turn in range(starts):
            for memory, into in timed.items():
                say(f"start {turn + 1} of {starts} at {memory} MB")
                _start(fake, memory, into)
        with ExitStack() as stack:
            functions = {memory: stack.enter_context(running("api", fake, memory)) for memory in timed}
            authorizers = {memory: stack.enter_context(running("authorizer", fake, memory)) for memory in timed}
            for each in functions.values():
                each(create_event(key=str(uuid4())))
            for each in authorizers.values():
                each(authorizer_event())
            for at in range(samples):
                if at % 20 == 0:
                    say(f"warm, {at} of {samples}")
                for memory, into in timed.items():
                    _warm(functions[memory], authorizers[memory], into, more=at % 4 == 0)
            largest = max(timed)
            sizes = _sizes(functions[largest], authorizers[largest], fake)
    return timed, sizes


def _start(fake: Fake, memory: int, into: Timed) -> None:
    with running("api", fake, memory) as function:
        found = function(create_event())
        into.init.append(found.init)
        into.first.append(found.call)
    with running("authorizer", fake, memory) as function:
        found = function(authorizer_event())
        into.authorizer_init.append(found.init)
        into.authorizer_first.append(found.call)


def _warm(function: Limited, authorizer: Limited, into: Timed, *, more: bool) -> None:
    into.warm.append(function(create_event()).call)
    if more:
        into.missing.append(function(create_event(str(uuid4()))).call)
        into.keyed.append(function(create_event(key=str(uuid4()))).call)
        into.authorizer.append(authorizer(authorizer_event()).call)


def _sizes(function: Limited, authorizer: Limited, fake: Fake) -> Sizes:
    """Of one warm create with its secret at hand."""
    before = len(function.lines())
    answer = function(create_event()).answer
    lines = function.lines()[before:]
    headers = sum(len(f"{name}: {value}\r\n") for name, value in answer["headers"].items())
    before = len(authorizer.lines())
    authorizer(authorizer_event())
    seen = fake.seen()
    return Sizes(
        application=_counted(lines),
        platform=_counted(platform_lines()),
        access=_counted([access_line(TEMPLATE.read_text())]),
        authorizer=_counted([*authorizer.lines()[before:], *platform_lines()]),
        answer=len(answer["body"].encode()) + headers + 200,  # and what API Gateway adds
        asked=seen["asked"],
        item=seen["item"],
        peak=function.peak(),
        events=len(lines),
    )


def _machine() -> str:
    """The processor's name and number of cores."""
    found = None
    with suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} cores of {found[1].strip() if found else platform.machine()}"


# ---- The command -----------------------------------------------------------------------------------------------------


def default_memory(template: str) -> int:
    """The template's MemorySize."""
    found = re.search(r"\n  MemorySize:\n    Type: Number\n    Default: (\d+)\n", template)
    if found is None:
        raise ValueError("The template has no MemorySize")
    return int(found[1])


def blocks(timed: Mapping[int, Timed], sizes: Sizes, how: str) -> dict[str, str]:
    """What is written into the page, by the name of its markers."""
    traffic, template = Traffic(), TEMPLATE.read_text()
    providers = len(list((ROOT / "layers/crm/unified_crm/providers").glob("[a-z]*.py")))
    memory = default_memory(template)
    lines = bill(memory, timed[memory], sizes, traffic)
    total, ours = sum(lines.values()), lines["Lambda, time"] + lines["Lambda, requests"]
    held = f"The function's process held {sizes.peak / 2**20:,.0f} MiB at most."
    return {
        "durations": f"{how} {held}\n\n{size_table(timed)}",
        "dollars": f"{bill_table(timed, sizes, traffic)}\n\n{dominating(memory, timed[memory], sizes)}",
        "cases": case_table(timed, sizes),
        "month": month_table(template, providers, total),
        "logs": f"{log_table(sizes, traffic)}\n\nLambda's time and requests at {memory} MB: {money(ours)}.",
        "snapshots": snapstart(memory),
        "scale": scale_table(timed),
        "readings": reading_table(statistics.fmean(timed[memory].missing) / 1000),
        "rate": rate_table(memory, timed[memory], sizes),
        "prices": price_table(),
    }


def written(page: str, blocks: Mapping[str, str]) -> str:
    """A page with each block between its markers. Raises ValueError where a marker is missing."""
    for name, block in blocks.items():
        start, end = f"<!-- {name}, by benchmarks/cost.py -->", f"<!-- end of {name} -->"
        if page.count(start) != 1 or page.count(end) != 1:
            raise ValueError(f"The page must have {start} and {end} once each")
        before, rest = page.split(start)
        page = f"{before}{start}\n{block}\n{end}{rest.split(end)[1]}"
    return page


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes. The exit code is 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=100, help="warm creates at each memory size")
    parser.add_argument("--starts", type=int, default=3, help="cold starts at each memory size")
    parser.add_argument("--print-only", action="store_true", help="leaves docs/cost.md as it is")
    given = parser.parse_args(arguments)
    with limited(0.5) as group:
        means = "a control group" if group else "arithmetic from processor time"
    timed, sizes = measure(given.samples, given.starts, SIZES, lambda text: print(text, flush=True))
    how = (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {given.samples} warm creates and {given.starts} cold starts at "
        f"each size, in milliseconds; the share of a core by {means}, on {_machine()}."
    )
    made = blocks(timed, sizes, how)
    for name, block in made.items():
        print(f"\n## {name}\n{block}")
    if not given.print_only:
        PAGE.write_text(written(PAGE.read_text(), made))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
