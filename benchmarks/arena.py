"""Starts contestants and gives them their turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

from benchmarks import artefact
from benchmarks.artefact import ROOT


class Contestant:
    """A process that does a kind of work when it is told to. Use it as a context manager.

    The function, and whoever needs no more than the layers, runs as in Lambda: with its Python, the layers' packages,
    and each line of the log written at once, here to a file. `variables` go on top of its environment.
    """

    def __init__(self, who: str, work: str, port: int, variables: Mapping[str, str] | None = None) -> None:
        self.name = f"{who} at {work}"
        results, told = os.pipe()
        official = who == "official"
        command = [
            *(sys.executable if official else str(artefact.PYTHON), "-u", "-m", "benchmarks.contestants"),
            *(who, work, str(port), str(told)),
        ]
        found = {"PATH": os.environ["PATH"]} if official else artefact.with_benchmarks(artefact.environment(port))
        self._log = TemporaryFile()  # noqa: SIM115 - closed at the end of the process
        self._process = subprocess.Popen(
            command,
            cwd=ROOT if official else artefact.API,
            env={**found, **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[told],
            text=True,
        )
        os.close(told)
        self._results = os.fdopen(results)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._results.close()
        self._log.close()

    def order(self, **order: int) -> dict[str, Any]:
        """What `contestants.py` answers to it. Raises RuntimeError with the log where the process ended."""
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._results.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"{self.name} failed:\n{self._log.read().decode(errors='replace')[-4000:]}")
        found: dict[str, Any] = json.loads(line)
        return found

    def times(self, calls: int, stages: int) -> list[float]:
        """The microseconds of each of so many calls, whose first answer has to hold so many stages."""
        found = self.order(calls=calls)
        if found["stages"] != stages:
            raise RuntimeError(f"{self.name}: {found['stages']} stages instead of {stages}")
        return [each / 1000 for each in found["nanoseconds"]]
