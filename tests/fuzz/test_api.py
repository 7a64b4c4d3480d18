"""schemathesis: thousands of requests made from the description, valid and not, and every answer held against it.

`make check` makes the same ones each time. `FUZZ_EXAMPLES=500` makes as many of each operation and kind, others each
time; `FUZZ_SEED` makes those of an earlier run again.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from local.world import World
from unified_crm import providers

pytest.importorskip("schemathesis")

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
DESCRIPTION = ROOT / "functions/api/openapi.json"
CONFIG = ROOT / "tests/fuzz/schemathesis.toml"
HELD = 200
"""Pipelines that a simulator keeps; the oldest go."""


@pytest.mark.timeout(600 if EXAMPLES is None else 0)
def test_every_answer_is_as_the_description_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVIDER_CALLS_PER_SECOND", json.dumps(dict.fromkeys(providers.names(), 0)))
    answered: Counter[tuple[str, int]] = Counter()

    def count(line: str) -> None:
        if found := re.match(r"(\w+) \S* (\d{3}) ", line):
            answered[found[1], int(found[2])] += 1
        if not answered.total() % 100:
            for simulator in world.simulators.values():
                _forget_the_oldest(simulator)

    if EXAMPLES is None:
        amount = ["--max-examples", "60", "--generation-deterministic"]
    else:
        seed = os.environ.get("FUZZ_SEED") or str(random.SystemRandom().randrange(10**9))
        amount = ["--max-examples", EXAMPLES, "--seed", seed]
    with World(port=0, log_level="CRITICAL", access_log=count) as world:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", str(DESCRIPTION)]
        options = ["--checks", "all", "--continue-on-failure", "--no-color", "--warnings", "off", *amount]
        run = subprocess.run(
            [*command, "--url", world.url, "--header", "Authorization: Bearer demo-token", *options],
            cwd=tmp_path,  # it keeps notes of failures, which later runs would begin with
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'layers/crm'}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    if run.returncode:
        _, failures, rest = run.stdout.partition("= FAILURES =")
        pytest.fail(
            f"{rest[:20_000] if failures else run.stdout[-20_000:]}\n…\n{run.stdout[-1_000:]}{run.stderr[-2_000:]}"
        )
    print(run.stdout[-1_000:], answered)  # noqa: T201 - for `make fuzz`, which shows it
    assert answered.total() >= 2000
    for method in ("GET", "POST", "PATCH", "DELETE"):  # it came further than to refusals
        assert answered[method, 200] >= 20, answered


def _forget_the_oldest(simulator: Any) -> None:
    held = simulator.state[simulator.held]
    for pipelines in held.values() if isinstance(held, dict) else [held]:
        del pipelines[:-HELD]
    del simulator._received[:-HELD]
