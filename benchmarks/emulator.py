"""A cold start under the runtime interface emulator, which times what Lambda would bill."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from benchmarks import artefact

_TIMES = re.compile(r"INIT REPORT\(durationMs: ([\d.]+)\)[\s\S]*?INVOKE RTDONE\(.*?duration: ([\d.]+)ms")


@dataclass(frozen=True)
class Start:
    """The first event of a function. `init` and `call` in milliseconds; `init` holds the start of Python itself."""

    init: float
    call: float
    answer: Any


def start(handler: str, folder: Path, variables: Mapping[str, str], event: Any) -> Start:
    """Start a function in `folder`, hand it `event`, and end it. Raises RuntimeError with the log where it fails."""
    door, runtime = _free_ports()
    command = [
        *(str(artefact.emulator()), "--runtime-interface-emulator-address", f"127.0.0.1:{door}"),
        *("--runtime-api-address", f"127.0.0.1:{runtime}", str(artefact.PYTHON), "-m", "awslambdaric", handler),
    ]
    with TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=folder, env=dict(variables), stdout=log, stderr=log, start_new_session=True
        )
        try:
            answer = _invoke(door, event)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"{handler} gave no answer:\n{_text(log)}") from error
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its session: the emulator and the Python that it started
            process.wait()
        found = _TIMES.search(text := _text(log))
        if found is None:
            raise RuntimeError(f"the emulator did not report the times of {handler}:\n{text}")
    return Start(float(found[1]), float(found[2]), answer)


def _invoke(port: int, event: Any) -> Any:
    _wait_for(port)
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/2015-03-31/functions/function/invocations", json.dumps(event))
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


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


def _text(log: Any) -> str:
    log.seek(0)
    return str(log.read().decode(errors="replace"))
