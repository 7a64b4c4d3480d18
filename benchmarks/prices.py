"""What is paid for a create: list prices, what is assumed of traffic, and tables of both with measured durations."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

SIZES = (128, 256, 512, 1024)
"""Memory sizes, in MB."""
CORE_MB = 1769
"""The memory that buys one core: https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html"""
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


def key_dollars(sizes: Sizes) -> float:
    """What DynamoDB costs for a million `Idempotency-Key`s: two writes, and room for the answers."""
    kept = sizes.item * MILLION / GB * 2 / 30  # a day, and another until DynamoDB comes to delete it
    stored = kept * (PRICES["table"].dollars + PRICES["recovery"].dollars)
    return (1 + units(sizes.item)) * PRICES["writes"].dollars + stored


def bill(memory: int, timed: Timed, sizes: Sizes, traffic: Traffic) -> dict[str, float]:
    """Dollars for a million creates, by what is paid for."""
    gigabytes = MILLION / GB
    checks = traffic.token_miss
    logged = sizes.logged(checks) * gigabytes
    return {
        "Lambda, time": duration(memory, create_seconds(timed, traffic)),
        "Lambda, requests": PRICES["requests"].dollars,
        "API Gateway": PRICES["api"].dollars * units(sizes.answer, 512 * 1024),
        "Authorizer": checks * (duration(memory, authorizer_seconds(timed, traffic)) + PRICES["requests"].dollars),
        # A token's read is eventually consistent: half a unit.
        "DynamoDB": checks * PRICES["reads"].dollars / 2 + (key_dollars(sizes) if traffic.keyed else 0),
        "Secrets Manager, calls": PRICES["secret_calls"].dollars * traffic.secret_miss,
        # Kept for 30 days, as the template has it, in a tenth of the room: repeated JSON compresses that well.
        "Logs": logged * (PRICES["logs"].dollars + PRICES["archive"].dollars / 10),
        "X-Ray": PRICES["traces"].dollars * traffic.traced,
        "Data out": (sizes.answer + sizes.asked) * gigabytes * PRICES["transfer"].dollars,
    }


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
    key = key_dollars(sizes)
    text = f"With an `Idempotency-Key`, DynamoDB is ${money(key)} more; the rest is Lambda's time."
    return f"{table(['Total, dollars for a million creates', *(f'{memory} MB' for memory in timed)], rows)}\n\n{text}"


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
    parts = [f"{name} {_percent(part / total)}" for name, part in sorted(lines.items(), key=lambda line: -line[1])]
    return f"At {memory} MB, of ${money(total)}: {'; '.join(parts)}."


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1%}"


def snapstart(memory: int) -> str:
    """Sentences: what SnapStart costs, which the template applies to both functions, each at the same size."""
    gigabytes = memory / 1024
    restored = gigabytes * PRICES["restore"].dollars * MILLION
    kept = gigabytes * PRICES["snapshot"].dollars * MONTH_SECONDS
    return (
        f"SnapStart at {memory} MB, {gigabytes:g} GB: a million restores of one function at "
        f"${PRICES['restore'].dollars:.10f} for each GB are ${money(restored)}. A cold call that meets a cold "
        f"authorizer restores two: ${money(2 * restored)}. To keep a snapshot for a month of {MONTH_SECONDS:,} s at "
        f"${PRICES['snapshot'].dollars:.10f} is ${money(kept)}, and ${money(2 * kept)} for each pair of published "
        "versions."
    )


OWN_COUNTERS = 8
"""Metrics that are counted apart: five errors of `api.telemetry.COUNTED`, three events of `unified_crm.oauth`."""


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


RATE_ACCOUNTS = MILLION
SHARING = 1000
"""Accounts that share a token."""
RATE_TRAFFIC = Traffic(cold=0.0001, token_miss=RATE_ACCOUNTS / SHARING / 60 / RATE, secret_miss=1)
"""Sandboxes are kept busy; each token is asked for once in 60 s; `reads_per_call` says why each call reads a secret."""


def rate_bill(memory: int, timed: Timed, sizes: Sizes, traffic: Traffic) -> dict[str, float]:
    """Dollars for a month of RATE without a pause, by what is paid for; the accounts' secrets included."""
    millions = RATE * MONTH_SECONDS / MILLION
    lines = {name: each * millions for name, each in bill(memory, timed, sizes, traffic).items()}
    lines["API Gateway"] = tiered(millions, API_TIERS)
    gigabytes = rate_logs(sizes, traffic)
    lines["Logs"] = tiered(gigabytes, LOG_TIERS) + gigabytes * PRICES["archive"].dollars / 10
    lines["Secrets Manager, a million secrets"] = RATE_ACCOUNTS * PRICES["secret"].dollars
    return lines


def rate_logs(sizes: Sizes, traffic: Traffic) -> float:
    """GB of logs in a month of RATE."""
    return sizes.logged(traffic.token_miss) * RATE * MONTH_SECONDS / GB


def rate_table(memory: int, timed: Timed, sizes: Sizes) -> str:
    """A month of RATE_TRAFFIC: what is assumed, what it costs, and what more other traffic does."""
    apart, keyed = replace(RATE_TRAFFIC, token_miss=1), replace(RATE_TRAFFIC, keyed=True)
    lines = rate_bill(memory, timed, sizes, RATE_TRAFFIC)
    by_token, by_key = (
        {name: each - lines[name] for name, each in rate_bill(memory, timed, sizes, traffic).items()}
        for traffic in (apart, keyed)
    )
    kms = RATE * MONTH_SECONDS / MILLION * PRICES["kms"].dollars
    rows = [[name, f"{each:,.0f}"] for name, each in sorted(lines.items(), key=lambda line: -line[1])]
    rows.append(["**Total**", f"**{sum(lines.values()):,.0f}**"])
    rows.append(["with an `Idempotency-Key` on every call, more", f"{sum(by_key.values()):,.0f}"])
    rows.append(["with a KMS key of your own, more", f"{kms:,.0f}"])
    rows.append(["with a token for each account, more", f"{sum(by_token.values()):,.0f}"])
    assumed = (
        f"Assumed: {RATE_TRAFFIC.cold:.2%} of the calls find no warm sandbox; each call reads its account's secret; "
        f"{SHARING:,} accounts share a token, so that {RATE_ACCOUNTS / SHARING:,.0f} tokens are asked for once in 60 s "
        f"each and the authorizer runs for {RATE_TRAFFIC.token_miss:.2%} of the calls; X-Ray traces "
        f"{RATE_TRAFFIC.traced:.0%}; no call has an `Idempotency-Key`."
    )
    units_each = 1 + units(sizes.item)
    longer = (billed(timed.keyed) - billed(timed.warm)) * 1000
    text = (
        f"An `Idempotency-Key` takes {units_each} write units of DynamoDB for such a create (a stored answer of "
        f"{sizes.item:,} bytes), so {units_each * RATE:,} a second: ${by_key['DynamoDB']:,.0f}; and {longer:,.0f} ms "
        f"of Lambda's time: ${by_key['Lambda, time']:,.0f}. A token for each account has the authorizer run for each "
        f"call: ${by_token['Authorizer']:,.0f} for its time and requests, ${by_token['DynamoDB']:,.0f} for its reads, "
        f"${by_token['Logs']:,.0f} for its logs. Logs are {rate_logs(sizes, RATE_TRAFFIC) / 1000:,.0f} TB in a month, "
        f"and with such tokens {rate_logs(sizes, apart) / 1000:,.0f} TB."
    )
    return f"{assumed}\n\n{table([f'A month at {memory} MB', 'Dollars'], rows)}\n\n{text}"
