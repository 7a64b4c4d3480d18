"""Cold start of the built functions, under the runtime interface emulator, beside references with the same layers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import artefact, emulator, work, xray
from benchmarks.artefact import ROOT
from benchmarks.emulator import Start
from benchmarks.fake_provider import Fake
from benchmarks.report import RATIO, Row
from benchmarks.turns import Turns

PART = "Cold start"
ROUNDS = 10
TURNS = 12
"""So often more what shows whether providers cost anything starts: what it looks for is small beside the noise."""
MORE_PROVIDERS = 50
NEIGHBOURS = ("one_secret", "secrets_manager", "create")
"""What the goals compare: always started one right after the other, more often than the rest."""
COMPARED = ("loaded", "copy", "more")
"""What shows whether providers cost anything: the function as it is, with a copy of its layer, with more in it."""
HOW = f"""\
**Cold start.** What `sam build` made runs under the runtime interface emulator that the SAM CLI brings, with
Lambda's own runtime client; init and the first event are as the emulator reports them. Folders are as in Lambda:
nothing can write bytecode. All kinds of function start in turn, {ROUNDS} times in a run, and each is told by its
lower quartile: what else the machine does only ever adds. Those that the goals compare start one right after the
other, {3 * ROUNDS} times, and the ratio is the median of these neighbours' own, not the quotient of the milliseconds
below: a machine that is slower at times is so for all of them. What a caller waits for is init and first create
together, so that this is what the goal of 1.5 is held against; the create alone stands below in milliseconds. Every
reference has the very same two layers as the functions, so the same trimmed boto3 with its bytecode; *on a plain layer*
it has them as pip installs them. AWS and HubSpot are one process that has its answers ready: moto takes some 10 ms more
for a first secret, which would show. It speaks no TLS: one row tells what a first create takes that reads both bundles
of CA certificates besides, as it does in the cloud, where the handshakes come on top. The account's secret is a fresh
one for the function, which starts with none. Calls are not sampled by X-Ray, as 19 of 20 are not, but for the row that
says so. A layer with {MORE_PROVIDERS} more providers is compared with a plain copy of the layer, and that, for the
noise, with the layer itself. These start in turn, {TURNS} times as often, and the ratios are medians of those of
neighbours' processor times: in samples of the same thousand starts they varied a third as much as a ratio of the means
of the fastest quarters, two thirds as much as one of medians. Whatever they say, the number of imported modules is
exact.
"""


@dataclass(frozen=True)
class Kind:
    """A function that is started: its handler and folder, what it is given, and the paths of its layers."""

    handler: str
    folder: Path
    event: Any = None
    layers: tuple[Path, ...] = artefact.LAYERS
    variables: Mapping[str, str] = field(default_factory=dict)

    def start(self, port: int) -> Start:
        variables = {**artefact.environment(port, self.folder, self.layers), **self.variables}
        found = emulator.start(self.handler, self.folder, variables, self.event or {})
        _check(self.handler, found.answer)
        return found


def measure(rounds: int = ROUNDS, turns: int = TURNS) -> Turns:
    """One run."""
    with Fake() as fake, xray.daemon() as daemon, _copies() as (copy, more):
        kinds = _kinds(copy, more, daemon.port)
        starts: dict[str, list[Start]] = {name: [] for name in kinds}
        for at in range(rounds):
            turn = [name for name in kinds if name not in (*NEIGHBOURS, *COMPARED)]
            turn = turn[at % len(turn) :] + turn[: at % len(turn)]
            compared = [name for each in range(turns) for name in (COMPARED if each % 2 else COMPARED[::-1])]
            for name in (*NEIGHBOURS, *turn, *NEIGHBOURS[::-1], *compared, *NEIGHBOURS):
                starts[name].append(kinds[name].start(fake.port))
            yield
        if not daemon.received():
            raise RuntimeError("no trace came of the sampled calls")
    return _rows(starts)


def _rows(starts: Mapping[str, list[Start]]) -> list[Row]:
    one_secret, least, create = NEIGHBOURS
    init = {name: _typical(each.init for each in found) for name, found in starts.items()}
    modules = {name: starts[name][0].answer["modules"] for name in COMPARED}

    def ratio(title: str, figure: float, goal: float | None = None) -> Row:
        return Row(PART, title, figure, RATIO, goal)

    def neighbours(one: str, other: str, figure: Callable[[Start], float]) -> float:
        pairs = zip(starts[one], starts[other], strict=True)
        return median(figure(a) / figure(b) for a, b in pairs)

    def spent(start: Start) -> float:
        return float(start.answer["processor"])

    def until_answered(start: Start) -> float:
        return start.init + start.call

    return [
        ratio(
            "init ÷ that of a handler that makes a Secrets Manager client",
            neighbours(create, least, lambda start: start.init),
            1.35,
        ),
        ratio(
            "init and first create ÷ its init and first call, a constant",
            neighbours(create, least, until_answered),
            1.5,
        ),
        Row(PART, "both layers, zipped", sum(map(_zipped, ("CrmLayer", "DependenciesLayer"))) / 1e6, "MB", 12, True),
        ratio(
            f"init with {MORE_PROVIDERS} more providers ÷ init without, processor time",
            neighbours("more", "copy", spent),
            1.03,
        ),
        Row(PART, f"modules imported for {MORE_PROVIDERS} more providers", modules["more"] - modules["copy"], "", 0),
        ratio(
            "the noise: init with a plain copy of the layer ÷ init, processor time", neighbours("copy", "loaded", spent)
        ),
        ratio(
            "init ÷ that of the Secrets Manager handler, processor time",
            median(map(spent, starts["loaded"])) / median(map(spent, starts[least])),
        ),
        ratio("init ÷ that of a bare handler", init["create"] / init["bare"]),
        ratio(
            "init and first create ÷ those of a handler that reads one secret",
            neighbours(create, one_secret, until_answered),
        ),
        ratio("init ÷ that of the Secrets Manager handler on a plain layer", init["create"] / init["plain"]),
        ratio("init of the authorizer ÷ that of the Secrets Manager handler", init["authorizer"] / init[least]),
        *(
            Row(PART, title, figure, "ms")
            for title, figure in (
                ("init", init["create"]),
                ("first create", _call(starts["create"])),
                ("first create, both bundles of CA certificates read", _call(starts["certificates"])),
                ("first create, sampled by X-Ray", _call(starts["traced"])),
                ("first create, with an Idempotency-Key", _call(starts["idempotent"])),
                ("init of the authorizer", init["authorizer"]),
                ("first answer of the authorizer", _call(starts["authorizer"])),
                ("init of a bare handler", init["bare"]),
                ("init of the Secrets Manager handler", init[least]),
                ("init of the Secrets Manager handler on a plain layer", init["plain"]),
                ("first call of a handler that reads one secret", _call(starts["one_secret"])),
            )
        ),
    ]


def _call(starts: list[Start]) -> float:
    return _typical(each.call for each in starts)


def _typical(values: Iterable[float]) -> float:
    """The lower quartile."""
    found = list(values)
    return quantiles(found, n=4, method="inclusive")[0] if len(found) > 1 else found[0]


def _kinds(copy: Path, more: Path, daemon: int) -> dict[str, Kind]:
    create = work.event("create-hubspot")
    api, handler = artefact.API, "api.app.handler"
    with_key = work.event("create-hubspot", **{"idempotency-key": "3f1c0d52"})
    traced = {"AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{daemon}", "BENCH_TRACE": artefact.SAMPLED}
    references = {
        name: Kind(f"{name}.handler", artefact.REFERENCES) for name in ("bare", "secrets_manager", "one_secret")
    }
    return references | {
        "plain": Kind("secrets_manager.handler", artefact.REFERENCES, layers=(artefact.CRM, artefact.PLAIN)),
        "create": Kind(handler, api, create),
        **{
            name: Kind("loaded.handler", artefact.REFERENCES, layers=(api, crm, artefact.DEPENDENCIES))
            for name, crm in zip(COMPARED, (artefact.CRM, copy, more), strict=True)
        },
        "traced": Kind("sampled.handler", artefact.REFERENCES, create, (api, *artefact.LAYERS), traced),
        "idempotent": Kind(handler, api, with_key),
        "certificates": Kind("certificates.handler", artefact.REFERENCES, create, (api, *artefact.LAYERS)),
        "authorizer": Kind("authorizer.app.handler", artefact.AUTHORIZER, _question()),
    }


def _question() -> dict[str, Any]:
    event = work.event("create-hubspot")
    return {**event, "type": "REQUEST", "identitySource": ["Bearer demo-token"], "body": None}


def _check(handler: str, answer: Any) -> None:
    if handler in ("api.app.handler", "certificates.handler", "sampled.handler"):
        stages = len(json.loads(answer["body"]).get("stages", ())) if answer.get("statusCode") == 200 else 0
        good = stages == len(work.STAGES)
    else:
        good = answer.get("statusCode") == 200 or answer.get("isAuthorized") is True
    if not good:
        raise RuntimeError(f"{handler} answered {answer}")


@contextmanager
def _copies() -> Iterator[tuple[Path, Path]]:
    """Two copies of the layer's folder `python`, the second with more providers, compiled as those that are there."""
    with TemporaryDirectory() as folder:
        copy, more = Path(folder) / "copy", Path(folder) / "more"
        for each in (copy, more):
            shutil.copytree(artefact.CRM, each)
        providers = more / "unified_crm" / "providers"
        text = (ROOT / "layers" / "crm" / "unified_crm" / "providers" / "close.py").read_text(encoding="utf-8")
        for number in range(MORE_PROVIDERS):
            name = f"generated{number:02}"
            (providers / f"{name}.py").write_text(text.replace('name="close"', f'name="{name}"'), encoding="utf-8")
        if list(providers.glob("__pycache__/close.*.pyc")):
            _run("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(providers))
        _run("-c", "from unified_crm.providers import load; load('generated49')", str(more))
        yield copy, more


def _run(*arguments: str) -> None:
    """With the layers' Python. A further argument of `-c` is where packages are found before all others."""
    path = [*arguments[2:3], str(artefact.DEPENDENCIES)] if arguments[0] == "-c" else []
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path)}
    subprocess.run([str(artefact.PYTHON), *arguments], env=variables, check=True)


def _zipped(layer: str) -> int:
    """The bytes of a layer as the SAM CLI zips it."""
    folder, packed = artefact.BUILD / layer, BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return packed.tell()
