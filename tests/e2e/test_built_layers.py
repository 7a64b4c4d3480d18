"""What is in the layers that `make sam-local` built: bytecode that Lambda uses, both architectures, and no more."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import botocore.session
import pytest

from tests.e2e.built import ROOT, told

BUILD = told("SAM_BUILD")
PYTHON = told("LAMBDA_PYTHON")
LAYERS = [BUILD / name for name in ("CrmLayer", "DependenciesLayer")]
FUNCTIONS = {BUILD / "ApiFunction": "/var/task", BUILD / "AuthorizerFunction": "/var/task"}
WHERE = {**dict.fromkeys(LAYERS, "/opt"), **FUNCTIONS}
UNCHECKED = 0b01
"""The flags of bytecode that is told apart by a hash and used without a look at the source: PEP 552."""
MAGIC = b"\xf3\r\r\n"
"""Of Python 3.13: https://github.com/python/cpython/blob/3.13/Include/internal/pycore_magic_number.h"""
SERVICES = ("dynamodb", "secretsmanager")


@pytest.mark.parametrize("folder", WHERE, ids=lambda folder: folder.name)
def test_every_module_has_bytecode_that_is_used_as_it_is(folder: Path) -> None:
    sources = list(folder.rglob("*.py"))
    assert sources
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
        head = compiled.read_bytes()[:8]
        assert head[:4] == MAGIC, compiled
        assert int.from_bytes(head[4:], "little") == UNCHECKED, compiled


@pytest.mark.parametrize("folder", WHERE, ids=lambda folder: folder.name)
def test_no_path_of_the_machine_that_built_it_is_inside(folder: Path) -> None:
    for compiled in folder.rglob("*.pyc"):
        content = compiled.read_bytes()
        assert str(ROOT).encode() not in content, compiled
        assert f"{WHERE[folder]}/".encode() in content or compiled.stat().st_size < 300, compiled


def test_compiled_packages_are_there_for_both_architectures() -> None:
    names = [path.name for path in LAYERS[1].rglob("*.so")]
    assert len(names) >= 4
    for machine in ("x86_64", "aarch64"):
        stems = {name.replace(machine, "") for name in names if machine in name}
        assert len(stems) == len(names) / 2


def test_both_layers_together_are_under_12_mb_zipped() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for layer in LAYERS:
            for path in sorted(layer.rglob("*")):
                zipped.write(path, f"{layer.name}/{path.relative_to(layer)}")
    assert len(archive.getvalue()) < 12_000_000


def test_clients_find_the_same_addresses_as_with_all_of_botocores_data() -> None:
    session = botocore.session.get_session()
    regions = [
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("dynamodb", partition)
    ]
    code = (
        "import botocore.session, json, sys; session = botocore.session.get_session();"
        "made = lambda *where: session.create_client(*where, aws_access_key_id='x', aws_secret_access_key='x');"
        f"print(json.dumps([made(service, region).meta.endpoint_url for service in {SERVICES!r}"
        " for region in json.loads(sys.argv[1])]))"
    )
    regions = [*regions, "eu-future-1"]
    assert len(regions) > 30
    path = os.pathsep.join(str(layer / "python") for layer in LAYERS)
    shown = [
        subprocess.run(
            [python, "-c", code, json.dumps(regions)],
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **more},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for python, more in ((str(PYTHON), {"PYTHONPATH": path}), (sys.executable, {}))
    ]
    assert shown[0] == shown[1]
    assert shown[0].count("https://") == len(regions) * len(SERVICES)
