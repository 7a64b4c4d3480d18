"""The guard in tests/conftest.py: a test in whose output a credential can be read fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from local import simulators

ROOT = Path(__file__).resolve().parents[2]
LEAKS = {
    "print": "def test_leak():\n    print('key:', {secret!r})\n",
    "log": "import logging\ndef test_leak():\n    logging.getLogger('x').warning('key %s', {secret!r})\n",
    "stderr": "import sys\ndef test_leak():\n    print({secret!r}, file=sys.stderr)\n",
    "exception": "import pytest\ndef test_leak():\n    raise ValueError({secret!r})\n",
    "descriptor": "import os\ndef test_leak():\n    os.write(1, {secret!r}.encode())\n",
}


def test_a_test_that_shows_a_demo_secret_fails(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests/conftest.py", tmp_path / "tests/conftest.py")
    secret = simulators.demo_secrets()[0]
    for way, code in LEAKS.items():
        (tmp_path / f"tests/test_{way}.py").write_text(code.format(secret=secret))
    (tmp_path / "tests/test_harmless.py").write_text("def test_harmless():\n    print('nothing')\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "tests"]
    paths = ":".join(str(ROOT / each) for each in (".", "functions", "layers/crm"))
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": paths, "PATH": ""}
    )
    assert f"{len(LEAKS)} failed, 1 passed" in run.stdout
    assert run.stdout.count("demo credential(s) in the captured output") >= len(LEAKS)


def test_demo_secrets_are_known_in_every_form() -> None:
    secrets = simulators.demo_secrets()
    assert len(secrets) >= 2 * len(simulators.names())
    assert all(len(secret) >= 10 for secret in secrets)
