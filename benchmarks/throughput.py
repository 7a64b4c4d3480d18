"""Through HTTP: how many calls one process on one core answers, and what memory it takes."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile

from benchmarks import artefact, work
from benchmarks.fake_provider import Fake
from benchmarks.report import Row
from benchmarks.turns import Turns
from benchmarks.wire import Connection, request

PART = "Through HTTP"
SECONDS = 2.5
CONCURRENCIES = (1, 10)
PIPELINES, STAGES = 100, 10
HOW = f"""\
**Through HTTP.** The built function stands behind `local/gateway.py`, which makes real events of real requests, in
one process that is held to one core; the load and the fake provider have the others. As in one Lambda sandbox, one
event is at work at a time, so ten connections wait for each other. Each row is {SECONDS} s of calls to a fresh
process, after some that are not counted. The authorizer's verdict is a constant, and the front door with a handler
that does nothing is shown beside: its own work is part of each figure. Memory is the process's peak, front door
included. A list is of {PIPELINES} pipelines of {STAGES} stages. No call may fail, or the run does.
"""


def measure(seconds: float = SECONDS) -> Turns:
    """One run."""
    rows: list[Row] = []
    for who, kind, title in (
        ("function", "create-hubspot", "create, HubSpot, five stages"),
        ("function", "list", f"list of {PIPELINES} of {STAGES}"),
        ("constant", "create-hubspot", "the front door and a handler that does nothing"),
    ):
        for concurrency in CONCURRENCIES:
            name = f"{title}, {concurrency} at once"
            with _apart() as core, Fake(PIPELINES, STAGES) as fake:
                rate, took, memory = _load(who, kind, concurrency, fake.port, core, seconds)
            rows += [
                Row(PART, name, rate, "requests/s"),
                Row(PART, f"{name}: p50", took * 1000, "ms"),
                Row(PART, f"{name}: peak memory", memory / 1e6, "MB"),
            ]
            yield
    return rows


def _load(who: str, kind: str, concurrency: int, port: int, core: int, seconds: float) -> tuple[float, float, int]:
    """Requests a second, the median of their seconds, and the peak of the process's memory in bytes."""
    with _door(who, port, core) as (door, pid):
        sent = _request(kind)
        for connection in (connections := [Connection(door) for _ in range(concurrency)]):
            _call(connection, sent)
        times: list[float] = []
        failures: list[Exception] = []
        end = time.monotonic() + seconds

        def call(connection: Connection) -> None:
            try:
                while (began := time.monotonic()) < end:
                    _call(connection, sent)
                    times.append(time.monotonic() - began)
            except Exception as failure:  # noqa: BLE001 - told below
                failures.append(failure)

        began = time.monotonic()
        threads = [threading.Thread(target=call, args=[each]) for each in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - began
        if failures:
            raise failures[0]
        return len(times) / took, median(times), _peak(pid)


def _call(connection: Connection, sent: bytes) -> None:
    status, body = connection.exchange(sent)
    if status != 200:
        raise RuntimeError(f"a call through HTTP was answered {status}: {body[:500].decode(errors='replace')}")


def _request(kind: str) -> bytes:
    event = work.event(kind)
    target = f"{event['rawPath']}?{event['rawQueryString']}"
    return request(
        event["requestContext"]["http"]["method"],
        target,
        str(event.get("body", "")).encode(),
        authorization="Bearer demo-token",
    )


@contextmanager
def _door(who: str, port: int, core: int) -> Iterator[tuple[int, int]]:
    """The process's port and id."""
    with TemporaryFile() as log:
        process = subprocess.Popen(
            [str(artefact.PYTHON), "-u", "-m", "benchmarks.door", who, str(core)],
            cwd=artefact.API,
            env=artefact.with_benchmarks(artefact.environment(port)),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdout
        try:
            line = process.stdout.readline()
            if not line:
                log.seek(0)
                raise RuntimeError(f"the front door did not open:\n{log.read().decode(errors='replace')}")
            yield int(line), process.pid
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@contextmanager
def _apart() -> Iterator[int]:
    """The core that is the function's; this process, and those that it starts, keep off it where there is another."""
    if not hasattr(os, "sched_setaffinity"):
        yield 0
        return
    cores = os.sched_getaffinity(0)
    own = max(cores)
    os.sched_setaffinity(0, cores - {own} or cores)
    try:
        yield own
    finally:
        os.sched_setaffinity(0, cores)


def _peak(pid: int) -> int:
    """The most that was resident; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
