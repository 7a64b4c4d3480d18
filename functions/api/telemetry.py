"""What is told of each call: log lines, metrics, and a trace where X-Ray samples it. Never a credential or a body.

Keys and dimensions that a call adds end with it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import count as counter
from time import time
from typing import Any

from aws_lambda_powertools import Logger, single_metric
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from aws_lambda_powertools.metrics import MetricUnit

from api.http import Context, Event
from unified_crm.accounts import Account
from unified_crm.transport import Exchange

COUNTED = {
    "circuit_open": "CircuitOpen",
    "internal_error": "InternalError",
    "needs_reauth": "NeedsReauth",
    "outcome_unknown": "OutcomeUnknown",
    "partial_failure": "PartialFailure",
}
"""The error codes that someone should hear of, and the metrics that template.yaml has alarms on."""

SERVICE = os.environ.get("POWERTOOLS_SERVICE_NAME", "unified-crm")
NAMESPACE = os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "UnifiedCRM")


class Formatter(LambdaPowertoolsFormatter):
    """Powertools' lines, those without a trace by a shorter way: its own takes a tenth of a call."""

    _ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=str)
    _RECORD = frozenset(vars(logging.makeLogRecord({})))

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, as JSON."""
        if record.exc_info or record.args or not isinstance(record.msg, str):
            return super().format(record)
        told = {name: value for name, value in vars(record).items() if value is not None and name not in self._RECORD}
        return self.line(record, f"{record.funcName}:{record.lineno}", told)

    def line(self, record: logging.LogRecord, location: str, told: Mapping[str, Any]) -> str:
        """The line of a record that came from `location`, with what is told beside it."""
        line = {name: value for name, value in self.log_format.items() if value is not None}
        line |= {
            "level": record.levelname,
            "location": location,
            "message": record.msg,
            "timestamp": self.formatTime(record),
            **told,
        }
        if trace := self._get_latest_trace_id():
            line["xray_trace_id"] = trace
        return self._ENCODER.encode(line)


# What the lines do not show is not looked up for each: https://docs.python.org/3/howto/logging.html#optimization
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
_formatter = Formatter(service=SERVICE)
logger = Logger(service=SERVICE, logger_formatter=_formatter)
_answered = logging.LogRecord("", logging.INFO, "", 0, "Answered", None, None)
"""Of each call's own line, whose moment it gets: to make one takes as long as to write it."""
_begun = counter()
_UNITS = {"ProviderLatency": "Milliseconds"}
_VALUES = 100
"""A metric may have so many values in a line; a call that makes more to its provider tells of the first."""


def sampled() -> bool:
    """Whether X-Ray takes this call's trace: what Lambda says of it anew before each call."""
    return "Sampled=1" in os.environ.get("_X_AMZN_TRACE_ID", "")


@cache
def tracer() -> Any:
    """Powertools' tracer, with AWS calls traced.

    Made for the first call that is sampled: X-Ray's library brings asyncio along and takes a tenth of a cold start.
    """
    from aws_lambda_powertools import Tracer

    return Tracer(patch_modules=["botocore"])


def tell(**keys: Any) -> None:
    """What every line of this call tells from here on. Powertools' own way looks through all handlers."""
    _formatter.append_keys(**keys)


_open: list[Any] = []
"""The subsegment of the call that is at work."""


def begin_account(account: Account) -> None:
    """From here on, logs, metrics and the trace name the account and its provider."""
    name = account.provider.name
    tell(provider=name)
    _calls.provider = name
    if sampled():
        tracer().put_annotation("provider", name)
        tracer().put_annotation("account", account.id)
        segment = tracer().provider.in_subsegment(f"## {name}")
        segment.__enter__()
        _open.append(segment)


def end_account(error: Exception | None = None) -> None:
    """The trace goes on without the account. `error` is why, if something went wrong."""
    if _open:
        _open.pop().__exit__(error and type(error), error, error and error.__traceback__)


class Calls:
    """What one call of ours did: its provider, and each call to that with its milliseconds."""

    provider: str | None = None
    latencies: list[float]
    errors: int = 0


_calls = Calls()
"""Of the call that is at work: a sandbox has one at a time."""


def begin(context: Context, event: Event | None) -> None:
    """Another call: nothing that the last one added is told of it.

    Of Lambda's context no more than this: the rest stands in the log group's name and in Lambda's own lines.
    """
    cold = next(_begun) == 0
    keys: dict[str, Any] = {"function_request_id": context.aws_request_id, "cold_start": cold}
    if event is not None:
        keys |= {"correlation_id": event.request_id, "tenant": event.context.get("tenant")}
    _formatter.clear_state()
    tell(**keys)
    _calls.provider, _calls.latencies, _calls.errors = None, [], 0
    if cold:
        _count("ColdStart", function_name=context.function_name)


def observe(exchange: Exchange) -> None:
    """Each call to the provider is counted. A log line is for those that failed, and for all at the level DEBUG: what
    the others took is told with the answer. A path holds ids and no query, so no secret."""
    milliseconds = round(exchange.seconds * 1000, 1)
    _calls.latencies.append(milliseconds)
    failed = exchange.status is None or exchange.status >= 400
    _calls.errors += failed
    if failed or logger.log_level <= logging.DEBUG:
        log = logger.info if failed else logger.debug
        log(
            "Called the provider",
            method=exchange.method,
            path=exchange.path,
            status=exchange.status,
            error=exchange.error,
            milliseconds=milliseconds,
        )


def provider_failed() -> bool:
    """Whether one of this call's calls to its provider failed, even if it was sent again and then answered."""
    return _calls.errors > 0


def end(**fields: Any) -> None:
    """The call's own line: `fields`, and its metrics, which CloudWatch finds in any line that has `_aws`.

    One line costs half of what two do, in time and in money. Where LogLevel leaves it out, its metrics are written.
    """
    took = _calls.latencies
    values: dict[str, list[float]] = {"Calls": [1.0]}
    if took:
        values["ProviderLatency"] = took[:_VALUES]
    if _calls.errors:
        values["ProviderErrors"] = [1.0] * min(_calls.errors, _VALUES)
    dimensions = {"service": SERVICE} | ({"provider": _calls.provider} if _calls.provider else {})
    now = time()
    emf = _emf(values, dimensions, now)
    if logger.log_level <= logging.INFO:
        # Straight to the logger's own stream: each call has this line, and what finds out where a line comes from, and
        # who else wants it, takes as long as all that is told of it.
        told = {**fields, "provider_calls": len(took), "provider_milliseconds": round(sum(took), 1)}
        _answered.created, _answered.msecs = now, now * 1000 % 1000
        stream = logger.registered_handler.stream  # type: ignore[attr-defined]
        stream.write(_formatter.line(_answered, "end", {**told, **values, "_aws": emf}) + "\n")
        stream.flush()
    else:
        print(json.dumps({"_aws": emf, **dimensions, **values}))  # noqa: T201 - standard output is where metrics go


def _emf(values: Iterable[str], dimensions: Iterable[str], now: float) -> dict[str, Any]:
    """CloudWatch's embedded metric format:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    metrics = [{"Name": name, "Unit": _UNITS.get(name, "Count")} for name in values]
    directive = {"Namespace": NAMESPACE, "Dimensions": [list(dimensions)], "Metrics": metrics}
    return {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]}


def count(name: str) -> None:
    """Apart from the other metrics, which get the provider's name as a dimension: an alarm finds a metric only under
    the very dimensions that it was counted under, and there is one for all providers."""
    _count(name)


def _count(name: str, **dimensions: str) -> None:
    with single_metric(name, MetricUnit.Count, 1, namespace=NAMESPACE) as metric:
        for key, value in {**dimensions, "service": SERVICE}.items():
            metric.add_dimension(key, value)
