"""Where the time of a row goes.

python -m benchmarks.profile create-hubspot|create-close|list|lists [CALLS]    # cProfile, by a function's own time
python -m benchmarks.profile init|authorizer                                   # imports, by package
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from statistics import median

from benchmarks import artefact
from benchmarks.arena import Contestant
from benchmarks.fake_provider import Fake

CALLS = {"create-hubspot": 500, "create-close": 500, "list": 20, "lists": 1}
MODULES = {"init": ("api.app", artefact.API), "authorizer": ("authorizer.app", artefact.AUTHORIZER)}
REPEATS = 7
_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)")


def calls(kind: str, count: int) -> str:
    """cProfile's table of so many warm calls."""
    pipelines, stages = (1000, 100) if kind == "lists" else (100, 10)
    with Fake(pipelines, stages) as fake, Contestant("function", kind, fake.port) as contestant:
        text: str = contestant.order(profile=count)["profile"]
        return text


def imports(name: str) -> str:
    """What loading a function imports beyond the runtime client: own milliseconds of each package, most first."""
    module, folder = MODULES[name]
    spent: dict[str, list[int]] = defaultdict(list)
    code = f"import awslambdaric.bootstrap, awslambdaric.__main__, sys; sys.stderr.write('--\\n'); import {module}"
    for _ in range(REPEATS):
        found = subprocess.run(
            [str(artefact.PYTHON), "-X", "importtime", "-c", code],
            env=artefact.environment(1, folder),
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        for match in _LINE.finditer(found.stderr.partition("--\n")[2]):
            spent[match[2]].append(int(match[1]))
    packages: dict[str, list[float]] = defaultdict(list)
    for each, times in spent.items():
        packages[each.partition(".")[0]].append(median(times) / 1000)
    rows = sorted(((sum(times), len(times), each) for each, times in packages.items()), reverse=True)
    lines = [f"{milliseconds:8.1f} ms  {modules:4} modules  {each}" for milliseconds, modules, each in rows]
    total = f"{sum(row[0] for row in rows):8.1f} ms  {sum(row[1] for row in rows):4} modules  in all"
    return "\n".join([total, *lines[:30]])


if __name__ == "__main__":
    asked = sys.argv[1] if len(sys.argv) > 1 else "create-hubspot"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else CALLS.get(asked, 0)
    print(imports(asked) if asked in MODULES else calls(asked, count))
