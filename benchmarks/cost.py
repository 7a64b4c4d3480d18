"""What a million creates cost, from measured durations and public list prices; writes its tables into docs/cost.md.

    python -m benchmarks.cost --build DIRECTORY --emulator FILE --python FILE     # `make bench-cost`

`--build` is what `sam build` made for this machine, `--emulator` the runtime interface emulator that the SAM CLI
brings, `--python` a Python 3.13 with Lambda's runtime client. The function gets the part of one core that its memory
size buys: by a control group where one can be made (Linux, cgroup v1, root), else by arithmetic from processor time.
The provider, HubSpot, is a stand-in that takes PROVIDER_SECONDS to answer; AWS's services answer at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import platform
import re
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import urllib3

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "cost.md"
TEMPLATE = ROOT / "template.yaml"

SIZES = (128, 256, 512, 1024)
"""Memory sizes, in MB."""
CORE_MB = 1769
"""The memory that buys one core: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""
PROVIDER_SECONDS = 0.15
MILLION = 1_000_000
GB = 1_000_000_000
MONTH_SECONDS = 30 * 24 * 60 * 60


# ---- Prices ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Price:
    """A list price in dollars of us-east-1, without any free tier.

    `seen`: the number was found in a public text of PRICES_OF or some months before. The others are what the source was
    known to state: look there before you rely on one.
    """

    name: str
    dollars: float
    unit: str
    source: str
    seen: bool


PRICES_OF = "2026-11"
"""When the prices were last looked at."""
_LAMBDA = "https://aws.amazon.com/lambda/pricing/"
_CLOUDWATCH = "https://aws.amazon.com/cloudwatch/pricing/"
_DYNAMODB = "https://aws.amazon.com/dynamodb/pricing/on-demand/"
_SECRETS = "https://aws.amazon.com/secrets-manager/pricing/"

PRICES = {
    "duration": Price("Lambda, arm64", 0.0000133334, "GB-second", _LAMBDA, True),
    "duration_x86": Price("Lambda, x86_64", 0.0000166667, "GB-second", _LAMBDA, True),
    "snapshot": Price("Lambda SnapStart, snapshot kept", 0.0000015046, "GB-second", _LAMBDA, True),
    "restore": Price("Lambda SnapStart, restored", 0.0001397998, "GB", _LAMBDA, True),
    "requests": Price("Lambda requests", 0.20, "million", _LAMBDA, True),
    "api": Price("HTTP API", 1.00, "million, 512 KB each", "https://aws.amazon.com/api-gateway/pricing/", True),
    "secret": Price("Secrets Manager, a secret", 0.40, "month", _SECRETS, True),
    "secret_calls": Price("Secrets Manager calls", 5.00, "million", _SECRETS, True),
    "reads": Price("DynamoDB read units", 0.125, "million", _DYNAMODB, True),
    "writes": Price("DynamoDB write units", 0.625, "million", _DYNAMODB, True),
    "table": Price("DynamoDB storage", 0.25, "GB-month", _DYNAMODB, False),
    "recovery": Price("DynamoDB point-in-time recovery", 0.20, "GB-month", _DYNAMODB, False),
    "logs": Price("CloudWatch Logs, taken in", 0.50, "GB", _CLOUDWATCH, True),
    "archive": Price("CloudWatch Logs, kept", 0.03, "GB-month, compressed", _CLOUDWATCH, True),
    "metric": Price("CloudWatch metric", 0.30, "series and month", _CLOUDWATCH, True),
    "alarm": Price("CloudWatch alarm", 0.10, "month", _CLOUDWATCH, False),
    "dashboard": Price("CloudWatch dashboard", 3.00, "month", _CLOUDWATCH, False),
    "traces": Price("X-Ray traces", 5.00, "million", "https://aws.amazon.com/xray/pricing/", True),
    "transfer": Price("Data to the internet", 0.09, "GB", "https://aws.amazon.com/ec2/pricing/on-demand/", True),
    "kms": Price("KMS requests, own key", 3.00, "million", "https://aws.amazon.com/kms/pricing/", False),
}


# ---- What is assumed -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traffic:
    """How the calls come. Shares are of calls, from 0 to 1."""

    cold: float = 0.01
    """Calls that find no warm sandbox; AWS says that fewer than one in a hundred do."""
    token_miss: float = 0.1
    """Calls whose token's verdict is not remembered: 1 / (calls of one token in 60 s), if more than one."""
    secret_miss: float = 0.1
    """Calls whose account's secret the process has not read in the last 60 s."""
    traced: float = 0.05
    """X-Ray's default rule: one a second and a twentieth of the rest."""
    keyed: bool = False
    """Whether each call has an `Idempotency-Key`."""


# ---- What is measured ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timed:
    """Durations in milliseconds, as Lambda would report them, of one memory size."""

    init: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    """The first create after `init`."""
    warm: list[float] = field(default_factory=list)
    missing: list[float] = field(default_factory=list)
    """Warm, of an account whose secret has to be read."""
    keyed: list[float] = field(default_factory=list)
    """Warm, with an `Idempotency-Key`."""
    authorizer_init: list[float] = field(default_factory=list)
    authorizer_first: list[float] = field(default_factory=list)
    authorizer: list[float] = field(default_factory=list)

    @property
    def cold(self) -> list[float]:
        """A create that finds no warm sandbox: the init phase and the create."""
        return [init + first for init, first in zip(self.init, self.first, strict=True)]


@dataclass(frozen=True)
class Sizes:
    """Bytes of one create. Log lines include the 26 that CloudWatch Logs counts for each event."""

    application: int
    """With the metrics that are in its lines."""
    platform: int
    access: int
    authorizer: int
    """All lines of one invocation of the authorizer."""
    answer: int
    """To the caller, headers included."""
    asked: int
    """To the provider, headers included."""
    item: int
    """The stored answer of an `Idempotency-Key`."""
    peak: int = 0
    """Resident memory of the function's process at its largest."""
    events: int = 0
    """Lines of a create that the application writes."""

    def logged(self, token_miss: float) -> float:
        """Bytes that one create writes into logs."""
        return self.application + self.platform + self.access + self.authorizer * token_miss


# ---- The arithmetic --------------------------------------------------------------------------------------------------


def billed(milliseconds: Sequence[float]) -> float:
    """The mean in seconds, each rounded up to a millisecond, as Lambda bills."""
    return statistics.fmean(math.ceil(each) for each in milliseconds) / 1000


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def duration(memory: int, seconds: float) -> float:
    """Dollars of Lambda time for a million invocations of so many seconds."""
    return memory / 1024 * seconds * MILLION * PRICES["duration"].dollars


def units(size: int, each: int = 1024) -> int:
    """DynamoDB's units for an item: one for each KB begun, or 4 KB of a strongly consistent read."""
    return max(1, math.ceil(size / each))


def create_seconds(timed: Timed, traffic: Traffic) -> float:
    """What Lambda bills for a create, on average; a cold one with its init phase."""
    hit, miss = billed(timed.warm), billed(timed.missing)
    warm = hit + traffic.secret_miss * (miss - hit) + (billed(timed.keyed) - hit if traffic.keyed else 0)
    return (1 - traffic.cold) * warm + traffic.cold * billed(timed.cold)


def authorizer_seconds(timed: Timed, traffic: Traffic) -> float:
    """What Lambda bills for one invocation of the authorizer."""
    cold = billed([init + first for init, first in zip(timed.authorizer_init, timed.authorizer_first, strict=True)])
    return (1 - traffic.cold) * billed(timed.authorizer) + traffic.cold * cold


def bill(memory: int, timed: Timed, sizes: Sizes, traffic: Traffic) -> dict[str, float]:
    """Dollars for a million creates, by what is paid for."""
    gigabytes = MILLION / GB
    checks = traffic.token_miss
    logged = sizes.logged(checks) * gigabytes
    lines = {
        "Lambda, time": duration(memory, create_seconds(timed, traffic)),
        "Lambda, requests": PRICES["requests"].dollars,
        "API Gateway": PRICES["api"].dollars * units(sizes.answer, 512 * 1024),
        # The table's read is eventually consistent: half a unit.
        "Authorizer": checks
        * (
            duration(memory, authorizer_seconds(timed, traffic))
            + PRICES["requests"].dollars
            + PRICES["reads"].dollars / 2
        ),
        "Secrets Manager, calls": PRICES["secret_calls"].dollars * traffic.secret_miss,
        # Kept for 30 days, as the template has it, in a tenth of the room: repeated JSON compresses that well.
        "Logs": logged * (PRICES["logs"].dollars + PRICES["archive"].dollars / 10),
        "X-Ray": PRICES["traces"].dollars * traffic.traced,
        "Data out": (sizes.answer + sizes.asked) * gigabytes * PRICES["transfer"].dollars,
    }
    if traffic.keyed:
        kept = sizes.item * gigabytes * 2 / 30  # a day, and another until DynamoDB comes to delete it
        lines["DynamoDB, Idempotency-Key"] = (1 + units(sizes.item)) * PRICES["writes"].dollars + kept * (
            PRICES["table"].dollars + PRICES["recovery"].dollars
        )
    return lines


def reads_per_call(rate: float, processes: float, accounts: float, seconds: float = 60, kept: float = 1000) -> float:
    """The share of calls that must read their account's secret, calls being spread evenly over accounts and processes.

    An account's calls reach one process at rate / (processes * accounts); one reading serves the calls of `seconds`. A
    process that holds more than `kept` secrets forgets all of them: one reading serves at most the calls until then.
    """
    expiring = 1 / (1 + rate / (processes * accounts) * seconds)
    # Until `kept` of the accounts were seen at random, -accounts * ln(1 - kept / accounts) calls come.
    forgetting = kept / (-accounts * math.log1p(-kept / accounts)) if accounts > kept else 0.0
    return max(expiring, forgetting)


# ---- The tables ------------------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A Markdown table; all columns but the first `texts` are numbers."""
    rule = ["---" if at < texts else "--:" for at in range(len(head))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def money(dollars: float) -> str:
    return f"{dollars:,.2f}"


def size_table(timed: Mapping[int, Timed]) -> str:
    """A row for each memory size: how long things take."""
    rows = []
    for memory, each in timed.items():
        figures = (
            statistics.median(each.init),
            statistics.median(each.cold),
            statistics.median(each.warm),
            percentile(each.warm, 0.99),
            statistics.median(each.missing),
            statistics.median(each.keyed),
            statistics.median(each.authorizer),
        )
        rows.append([f"{memory} MB", f"{memory / CORE_MB:.3f}", *(f"{figure:,.0f}" for figure in figures)])
    head = "Memory", "Core", "Init", "Cold create", "Warm p50", "Warm p99", "Secret read", "With a key", "Authorizer"
    return table(head, rows)


def bill_table(timed: Mapping[int, Timed], sizes: Sizes, traffic: Traffic) -> str:
    """A row for each thing paid for, a column for each memory size."""
    bills = {memory: bill(memory, each, sizes, traffic) for memory, each in timed.items()}
    names = list(next(iter(bills.values())))
    rows = [[name, *(money(each[name]) for each in bills.values())] for name in names]
    rows.append(["**Total**", *(f"**{money(sum(each.values()))}**" for each in bills.values())])
    return table(["Dollars for a million creates", *(f"{memory} MB" for memory in bills)], rows)


CASES = {
    "as above": Traffic(),
    "one account, all day: token and secret are at hand": Traffic(cold=0.001, token_miss=0.001, secret_miss=0.001),
    "each call another account and token": Traffic(token_miss=1, secret_miss=1),
    "each call with an `Idempotency-Key`": Traffic(keyed=True),
    "a call now and then: nothing is warm": Traffic(cold=1, token_miss=1, secret_miss=1),
}


def case_table(timed: Mapping[int, Timed], sizes: Sizes) -> str:
    """The total of each kind of traffic, for each memory size."""
    rows = [
        [name, *(money(sum(bill(memory, each, sizes, traffic).values())) for memory, each in timed.items())]
        for name, traffic in CASES.items()
    ]
    return table(["Total, dollars for a million creates", *(f"{memory} MB" for memory in timed)], rows)


def log_table(sizes: Sizes, traffic: Traffic) -> str:
    """What one create writes, and its price."""
    parts = {
        f"the function's own lines, {sizes.events}, with its metrics": sizes.application,
        "Lambda's own start and report": sizes.platform,
        "API Gateway's access log": sizes.access,
        f"the authorizer, for {traffic.token_miss:.0%} of the calls": sizes.authorizer * traffic.token_miss,
    }
    rows = [[name, f"{size:,.0f}", money(size * MILLION / GB * PRICES["logs"].dollars)] for name, size in parts.items()]
    whole = sizes.logged(traffic.token_miss)
    rows.append(["**all**", f"**{whole:,.0f}**", f"**{money(whole * MILLION / GB * PRICES['logs'].dollars)}**"])
    return table(["One create logs", "Bytes", "Dollars for a million, taken in"], rows)


def price_table() -> str:
    """Every price that is used, with its source."""
    rows = [
        [
            f"[{each.name}]({each.source})",
            each.unit,
            "yes" if each.seen else "no",
            f"{each.dollars:.10f}".rstrip("0") if each.dollars < 0.01 else f"{each.dollars:.3f}",
        ]
        for each in PRICES.values()
    ]
    return table(["Price", "For each", "Seen", "Dollars"], rows, texts=3)


def dominating(memory: int, timed: Timed, sizes: Sizes) -> str:
    """A sentence: what is paid for at one memory size, the largest first."""
    lines = bill(memory, timed, sizes, Traffic())
    total = sum(lines.values())
    parts = [f"{name} {part / total:.0%}" for name, part in sorted(lines.items(), key=lambda line: -line[1])]
    return f"At {memory} MB, of ${money(total)}: {'; '.join(parts)}."


OWN_COUNTERS = 8
"""Metrics that are counted apart: five errors of `api.app.COUNTED`, three events of `unified_crm.oauth`."""


def series(providers: int) -> int:
    """CloudWatch metrics of a stack: three for each provider, calls that reach none, cold starts, throttled calls."""
    return 3 * providers + 3 + OWN_COUNTERS


def month_table(template: str, providers: int, total: float) -> str:
    """What is paid each month without a call. `total`: of a million creates."""
    alarms, own = template.count("Type: AWS::CloudWatch::Alarm"), series(providers)
    parts = {
        f"{own} metrics, where all {providers} providers are in use": own * PRICES["metric"].dollars,
        f"{alarms} alarms": alarms * PRICES["alarm"].dollars,
        "the dashboard": PRICES["dashboard"].dollars,
        **{f"secrets of {number:,} accounts": number * PRICES["secret"].dollars for number in (100, 10_000, MILLION)},
    }
    even = PRICES["secret"].dollars / total * MILLION
    text = f"An account's secret costs as much in a month as {even:,.0f} creates."
    return f"{table(['Each month', 'Dollars'], [[name, money(part)] for name, part in parts.items()])}\n\n{text}"


RATE = 10_000
"""Calls a second of the page's last part, from a million accounts."""


def scale_table(timed: Mapping[int, Timed]) -> str:
    """What RATE needs at once, every call reading its account's secret."""
    rows = []
    for memory, each in timed.items():
        seconds = statistics.fmean(each.missing) / 1000
        processes = RATE * seconds
        rows.append(
            [
                f"{memory} MB",
                f"{seconds * 1000:,.0f} ms",
                f"{processes:,.0f}",
                f"{math.ceil(processes / 1000) * 10} s",
                f"{RATE * statistics.fmean(each.authorizer) / 1000:,.0f}",
            ]
        )
    return table(["Memory", "A create", "API function at once", "Grown to in", "Authorizer at once"], rows)


def reading_table(seconds: float) -> str:
    """The share of calls that read a secret, by how many accounts are in even use. `seconds`: of a create."""
    accounts = (1, 10, 40, 400, 10_000, MILLION)
    shares = [[f"{each:,}", f"{reads_per_call(RATE, RATE * seconds, each):.1%}"] for each in accounts]
    return table(["Accounts in use", "Calls that read a secret"], shares)


def tiered(amount: float, tiers: Sequence[tuple[float, float]]) -> float:
    """Dollars for an amount, by (size of the tier, dollars for each): the last tier has no end."""
    dollars = 0.0
    for size, each in tiers:
        part = min(amount, size)
        dollars, amount = dollars + part * each, amount - part
    return dollars


API_TIERS = ((300, 1.00), (math.inf, 0.90))
"""Millions of HTTP API calls of a month."""
LOG_TIERS = ((10_000, 0.50), (20_000, 0.25), (20_000, 0.10), (math.inf, 0.05))
"""GB of Lambda's logs in a month, taken in; those of API Gateway are added, which are priced alike."""


def rate_table(memory: int, timed: Timed, sizes: Sizes) -> str:
    """A month of RATE without a pause, from a million accounts with a token for each thousand."""
    traffic = Traffic(cold=0.0001, token_miss=1000 / 60 / RATE, secret_miss=1, traced=0.05)
    millions = RATE * MONTH_SECONDS / MILLION
    lines = {name: each * millions for name, each in bill(memory, timed, sizes, traffic).items()}
    lines["API Gateway"] = tiered(millions, API_TIERS)
    gigabytes = sizes.logged(traffic.token_miss) * millions * MILLION / GB
    lines["Logs"] = tiered(gigabytes, LOG_TIERS) + gigabytes * PRICES["archive"].dollars / 10
    lines["Secrets Manager, a million secrets"] = MILLION * PRICES["secret"].dollars
    keyed = bill(memory, timed, sizes, Traffic(keyed=True))["DynamoDB, Idempotency-Key"]
    rows = [[name, f"{each:,.0f}"] for name, each in sorted(lines.items(), key=lambda line: -line[1])]
    rows.append(["**Total**", f"**{sum(lines.values()):,.0f}**"])
    rows.append(["with an `Idempotency-Key` on every call, more", f"{keyed * millions:,.0f}"])
    rows.append(["with a KMS key of your own, more", f"{millions * PRICES['kms'].dollars:,.0f}"])
    units_each = 1 + units(sizes.item)
    text = (
        f"An `Idempotency-Key` takes {units_each} write units of DynamoDB for such a create (a stored answer of "
        f"{sizes.item:,} bytes), so {units_each * RATE:,} a second; logs are {gigabytes / 1000:,.0f} TB in a month."
    )
    return f"{table([f'A month at {memory} MB', 'Dollars'], rows)}\n\n{text}"


def written(page: str, blocks: Mapping[str, str]) -> str:
    """A page with each block between its markers. Raises ValueError where a marker is missing."""
    for name, block in blocks.items():
        start, end = f"<!-- {name}, by benchmarks/cost.py -->", f"<!-- end of {name} -->"
        if page.count(start) != 1 or page.count(end) != 1:
            raise ValueError(f"The page must have {start} and {end} once each")
        before, rest = page.split(start)
        page = f"{before}{start}\n{block}\n{end}{rest.split(end)[1]}"
    return page


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


# ---- Stand-ins -------------------------------------------------------------------------------------------------------


class StandIn:
    """HubSpot, Secrets Manager and DynamoDB on one port: answers from nothing, keeps what was sent last."""

    def __init__(self, provider_seconds: float) -> None:
        self.provider_seconds = provider_seconds
        self.asked = 0
        self.item = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> StandIn:
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._connection, "127.0.0.1", 0), self._loop
        ).result()
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                target = re.search(rb"(?i)\r\nx-amz-target: *([\w.]+)", head)
                if target:
                    answer = self._aws(target[1].decode().rpartition(".")[2], json.loads(body))
                else:
                    self.asked = len(head) + len(body)
                    await asyncio.sleep(self.provider_seconds)
                    answer = _hubspot(json.loads(body))
                kind = b"application/x-amz-json-1.1" if target else b"application/json"
                payload = json.dumps(answer).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
                    % (kind, len(payload), payload)
                )
        writer.close()

    def _aws(self, action: str, asked: dict[str, Any]) -> dict[str, Any]:
        if action == "GetSecretValue":
            secret = {"provider": "hubspot", "tenant": "demo", "credentials": {"type": "bearer", "token": "pat-demo"}}
            return {"Name": asked["SecretId"], "SecretString": json.dumps({**secret, "settings": {}})}
        if action == "GetItem":
            return {"Item": {"token_hash": {"S": "0" * 64}, "tenant": {"S": "demo"}}}
        if action == "UpdateItem":
            names, values = asked["ExpressionAttributeNames"].values(), asked["ExpressionAttributeValues"].values()
            stored = [text for each in (*values, *asked["Key"].values()) for text in each.values()]
            self.item = sum(len(str(each).encode()) for each in (*names, *stored))
        return {}


def _hubspot(asked: dict[str, Any]) -> dict[str, Any]:
    """HubSpot's reply to a create."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    times = {"createdAt": now, "updatedAt": now, "archived": False}
    stages = [
        {**stage, "id": str(1000 + at), **times, "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT"}
        for at, stage in enumerate(asked["stages"])
    ]
    return {
        "id": "123456789",
        "label": asked["label"],
        "displayOrder": asked.get("displayOrder", 0),
        **times,
        "stages": stages,
    }


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


@dataclass(frozen=True)
class Tools:
    """What the function is run with."""

    build: Path
    emulator: Path
    python: Path


@dataclass
class Function:
    """A function under the emulator, `share` of a core."""

    port: int
    process: subprocess.Popen[bytes]
    emulator_log: Path
    own_log: Path
    pid_file: Path
    share: float
    enforced: bool
    answers: list[dict[str, Any]] = field(default_factory=list)
    _seen: int = 0

    def __call__(self, event: Mapping[str, Any]) -> tuple[float, float]:
        """Milliseconds of the init phase, 0 where there was none, and of the invocation."""
        cpu = self._cpu()
        url = f"http://127.0.0.1:{self.port}/2015-03-31/functions/function/invocations"
        self.answers.append(urllib3.request("POST", url, json=event, retries=False, timeout=300).json())
        init, took = self._reported()
        if self.enforced:
            return init, took
        spent = (self._cpu() - cpu) * (1 / self.share - 1)
        return (init + spent * init / (init + took), took + spent * took / (init + took)) if init else (0, took + spent)

    def _reported(self) -> tuple[float, float]:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            text = self.emulator_log.read_text()
            done = re.findall(r"INVOKE RTDONE\(.*?duration: ([\d.]+)ms", text)
            if len(done) > self._seen:
                self._seen = len(done)
                init = re.findall(r"INIT REPORT\(durationMs: ([\d.]+)\)", text) if self._seen == 1 else []
                return float(init[0]) if init else 0.0, float(done[-1])
            time.sleep(0.005)
        raise RuntimeError(f"The emulator reported nothing:\n{self.emulator_log.read_text()[-3000:]}")

    def _cpu(self) -> float:
        """Milliseconds of processor time so far."""
        try:
            threads = Path(f"/proc/{self.pid_file.read_text().strip()}/task").glob("*/schedstat")
            return sum(int(each.read_text().split()[0]) for each in threads) / 1e6
        except OSError:
            return 0.0

    def peak(self) -> int:
        """Bytes of resident memory at most."""
        status = Path(f"/proc/{self.pid_file.read_text().strip()}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0


# Lambda tells the runtime the trace's id. The emulator does not, and logs and traces would not be those of Lambda.
_RUNTIME = (
    "import sys; from awslambdaric import __main__, bootstrap; "
    "bootstrap.update_xray_env_variable = lambda _: None; __main__.main(sys.argv)"
)
_START = 'echo $$ >"$PID_FILE"; [ -z "$GROUP" ] || echo $$ >"$GROUP"; exec "$@" >"$OWN_LOG" 2>&1'


@contextmanager
def running(tools: Tools, handler: Literal["api", "authorizer"], stand_in: StandIn, memory: int) -> Iterator[Function]:
    """A function, not yet initialised: its first invocation does that."""
    name, folder = {"api": (FUNCTION, "ApiFunction"), "authorizer": (AUTHORIZER, "AuthorizerFunction")}[handler]
    share = memory / CORE_MB
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        group = stack.enter_context(limited(share))
        door, runtime = _free_ports(2)
        command = [
            *(str(tools.emulator), "--runtime-interface-emulator-address", f"127.0.0.1:{door}"),
            *("--runtime-api-address", f"127.0.0.1:{runtime}", "/bin/sh", "-c", _START, "sh"),
            *(str(tools.python), "-c", _RUNTIME, f"{handler}.app.handler"),
        ]
        origin = f"http://127.0.0.1:{stand_in.port}"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(
                str(tools.build / layer / "python") for layer in ("CrmLayer", "DependenciesLayer")
            ),
            "PYTHONDONTWRITEBYTECODE": "1",  # a layer cannot be written to
            "LAMBDA_TASK_ROOT": str(tools.build / folder),
            "AWS_LAMBDA_FUNCTION_NAME": name,
            "AWS_LAMBDA_FUNCTION_VERSION": "12",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": "120",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "AWS_LAMBDA_LOG_LEVEL": "INFO",
            "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
            "_X_AMZN_TRACE_ID": _TRACE,
            "AWS_ENDPOINT_URL": origin,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "ACCOUNTS_SECRET_PREFIX": "unified-crm",
            "TOKENS_TABLE": "unified-crm-tokens",
            "IDEMPOTENCY_TABLE": "unified-crm-idempotency",
            "PROVIDER_BASE_URLS": json.dumps({"hubspot": origin}),
            "POWERTOOLS_SERVICE_NAME": "unified-crm",
            "POWERTOOLS_METRICS_NAMESPACE": "UnifiedCRM",
            "POWERTOOLS_LOG_LEVEL": "INFO",
            "PID_FILE": str(place / "pid"),
            "OWN_LOG": str(place / "own"),
            "GROUP": str(group or ""),
        }
        log = stack.enter_context((place / "emulator").open("wb"))
        process = stack.enter_context(
            subprocess.Popen(command, cwd=tools.build / folder, env=environment, stdout=log, stderr=log)
        )
        try:
            _wait_for(door, process)
            yield Function(door, process, place / "emulator", place / "own", place / "pid", share, group is not None)
        finally:
            process.terminate()
            with suppress(OSError, ValueError):
                os.kill(int((place / "pid").read_text()), 9)


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError("The emulator does not answer")


# ---- What is called --------------------------------------------------------------------------------------------------


def create_event(account: str, key: str | None = None) -> dict[str, Any]:
    """API Gateway's event of a create at HubSpot with five stages."""
    event: dict[str, Any] = json.loads((ROOT / "events" / "create-pipeline-hubspot.json").read_text())
    event["rawQueryString"] = f"integrated_account_id={account}"
    event["queryStringParameters"] = {"integrated_account_id": account}
    names = {"Qualified": "active", "Demo": "active", "Offer": "active", "Won": "won", "Lost": "lost"}
    stages = [{"name": name, "status": status} for name, status in names.items()]
    event["body"] = json.dumps({"name": "New business", "stages": stages})
    if key:
        event["headers"]["idempotency-key"] = key
    return event


def authorizer_event() -> dict[str, Any]:
    """API Gateway's question to the authorizer."""
    event: dict[str, Any] = json.loads((ROOT / "events" / "authorizer.json").read_text())
    return event


def measure(tools: Tools, samples: int, starts: int, say: Callable[[str], None]) -> tuple[dict[int, Timed], Sizes]:
    """Durations at each memory size, all sizes taking turns, and the bytes of a create."""
    timed = {memory: Timed() for memory in SIZES}
    with StandIn(PROVIDER_SECONDS) as stand_in:
        for turn in range(starts):
            for memory, into in timed.items():
                say(f"start {turn + 1} of {starts} at {memory} MB")
                _start(tools, stand_in, memory, into)
        with ExitStack() as stack:
            functions = {memory: stack.enter_context(running(tools, "api", stand_in, memory)) for memory in SIZES}
            authorizers = {
                memory: stack.enter_context(running(tools, "authorizer", stand_in, memory)) for memory in SIZES
            }
            for each in functions.values():
                each(create_event(_ACCOUNT, str(uuid4())))
            for each in authorizers.values():
                each(authorizer_event())
            for at in range(samples):
                if at % 20 == 0:
                    say(f"warm, {at} of {samples}")
                for memory, into in timed.items():
                    _warm(functions[memory], authorizers[memory], into, more=at % 4 == 0)
            sizes = _sizes(functions[512], authorizers[512], stand_in)
            for memory, each in functions.items():
                for answer in each.answers:
                    if answer.get("statusCode") != 200:
                        raise RuntimeError(f"At {memory} MB a create was answered with {answer}")
    return timed, sizes


_ACCOUNT = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def _start(tools: Tools, stand_in: StandIn, memory: int, into: Timed) -> None:
    with running(tools, "api", stand_in, memory) as function:
        init, first = function(create_event(_ACCOUNT))
        into.init.append(init)
        into.first.append(first)
    with running(tools, "authorizer", stand_in, memory) as function:
        init, first = function(authorizer_event())
        into.authorizer_init.append(init)
        into.authorizer_first.append(first)


def _warm(function: Function, authorizer: Function, into: Timed, *, more: bool) -> None:
    into.warm.append(function(create_event(_ACCOUNT))[1])
    if more:
        into.missing.append(function(create_event(str(uuid4())))[1])
        into.keyed.append(function(create_event(_ACCOUNT, str(uuid4())))[1])
        into.authorizer.append(authorizer(authorizer_event())[1])


def _sizes(function: Function, authorizer: Function, stand_in: StandIn) -> Sizes:
    """Of one warm create with its secret at hand."""
    before = len(_lines(function.own_log))
    function(create_event(_ACCOUNT))
    lines = _lines(function.own_log)[before:]
    answer = function.answers[-1]
    headers = sum(len(f"{name}: {value}\r\n") for name, value in answer["headers"].items())
    before = len(_lines(authorizer.own_log))
    authorizer(authorizer_event())
    return Sizes(
        application=_counted(lines),
        platform=_counted(platform_lines()),
        access=_counted([access_line(TEMPLATE.read_text())]),
        authorizer=_counted([*_lines(authorizer.own_log)[before:], *platform_lines()]),
        answer=len(answer["body"].encode()) + headers + 200,  # and what API Gateway adds
        asked=stand_in.asked,
        item=stand_in.item,
        peak=function.peak(),
        events=len(lines),
    )


def _lines(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if line.strip()]


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
        "scale": scale_table(timed),
        "readings": reading_table(statistics.fmean(timed[memory].missing) / 1000),
        "rate": rate_table(memory, timed[memory], sizes),
        "prices": price_table(),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes. The exit code is 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__.partition("\n")[0])
    for name in ("build", "emulator", "python"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=100, help="warm creates at each memory size")
    parser.add_argument("--starts", type=int, default=3, help="cold starts at each memory size")
    parser.add_argument("--print-only", action="store_true", help="leaves docs/cost.md as it is")
    given = parser.parse_args(arguments)
    tools = Tools(given.build.resolve(), given.emulator.resolve(), given.python.absolute())
    with limited(0.5) as group:
        means = "a control group" if group else "arithmetic from processor time"
    timed, sizes = measure(tools, given.samples, given.starts, lambda text: print(text, flush=True))
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
