"""A function under the runtime interface emulator, which times what Lambda would bill."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks import artefact

_INIT = re.compile(r"INIT REPORT\(durationMs: ([\d.]+)\)")
_DONE = re.compile(r"INVOKE RTDONE\(.*?duration: ([\d.]+)ms")


@dataclass(frozen=True)
class Start:
    """What one event took, in milliseconds. `init` holds the start of Python itself, and is 0 but for the first."""

    init: float
    call: float
    answer: Any


class Function:
    """Answers events, one at a time; the first one initialises it."""

    def __init__(self, port: int, log: Path) -> None:
        self._port, self._log = port, log
        self._seen = 0

    def __call__(self, event: Any) -> Start:
        """Raises RuntimeError with the log where it gave no answer, or the emulator no times."""
        try:
            answer = self._invoke(event)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"The function gave no answer:\n{self._text()}") from error
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            done = _DONE.findall(text := self._text())
            if len(done) > self._seen:
                init = _INIT.findall(text) if self._seen == 0 else ["0"]
                if not init:
                    break
                self._seen = len(done)
                return Start(float(init[0]), float(done[-1]), answer)
            time.sleep(0.005)
        raise RuntimeError(f"The emulator did not report its times:\n{self._text()}")

    def _invoke(self, event: Any) -> Any:
        _wait_for(self._port)
        connection = HTTPConnection("127.0.0.1", self._port, timeout=300)
        connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def _text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def running(command: Sequence[str], folder: Path, variables: Mapping[str, str]) -> Iterator[Function]:
    """A function in `folder`, of which nothing is started yet. `command` is its runtime client's."""
    door, runtime = _free_ports()
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "emulator"
        whole = [
            *(str(artefact.emulator()), "--runtime-interface-emulator-address", f"127.0.0.1:{door}"),
            *("--runtime-api-address", f"127.0.0.1:{runtime}", *command),
        ]
        with log.open("wb") as written:
            process = subprocess.Popen(
                whole, cwd=folder, env=dict(variables), stdout=written, stderr=written, start_new_session=True
            )
        try:
            yield Function(door, log)
        finally:
            _end_session(process.pid)
            process.wait()


def _end_session(leader: int) -> None:
    """End the emulator and what it started, which has a process group of its own and the same session."""
    while found := [each for each in Path("/proc").glob("[0-9]*") if _session(each) == leader]:
        for each in found:
            with suppress(ProcessLookupError):
                os.kill(int(each.name), signal.SIGKILL)
        time.sleep(0.001)


def _session(process: Path) -> int | None:
    """None where it has ended, waited for or not."""
    try:
        state = (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if state[0] == "Z" else int(state[3])


def start(handler: str, folder: Path, variables: Mapping[str, str], event: Any) -> Start:
    """Start a function, hand it `event`, and end it."""
    with running([str(artefact.PYTHON), "-m", "awslambdaric", handler], folder, variables) as function:
        return function(event)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise OSError("the emulator does not listen")


def _free_ports() -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports: list[int] = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
