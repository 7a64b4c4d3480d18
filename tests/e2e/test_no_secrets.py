"""The guard in tests/conftest.py: a test in whose output a credential can be read fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from local import simulators

ROOT = Path(__file__).resolve().parents[2]
LEAKS = {
    "print": "def test_leak():\n    print('key:', {secret!r})\n",
    "log": "import logging\ndef test_leak():\n    logging.getLogger('x').warning('key %s', {secret!r})\n",
    "stderr": "import sys\ndef test_leak():\n    print({secret!r}, file=sys.stderr)\n",
    "exception": "import pytest\ndef test_leak():\n    raise ValueError({secret!r})\n",
    "descriptor": "import os\ndef test_leak():\n    os.write(1, {secret!r}.encode())\n",
}


@pytest.mark.parametrize("way", LEAKS)
def test_a_test_that_shows_a_demo_secret_fails(tmp_path: Path, way: str) -> None:
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests/conftest.py", tmp_path / "tests/conftest.py")
    secret = simulators.demo_secrets()[0]
    (tmp_path / "tests/test_leak.py").write_text(LEAKS[way].format(secret=secret))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "tests"]
    paths = ":".join(str(ROOT / each) for each in (".", "functions", "layers/crm"))
    run = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, env={"PYTHONPATH": paths, "PATH": ""}
    )
    assert "1 failed" in run.stdout
    assert "demo credential(s) in the captured output" in run.stdout


def test_demo_secrets_are_known_in_every_form() -> None:
    secrets = simulators.demo_secrets()
    assert len(secrets) >= 2 * len(simulators.names())
    assert all(len(secret) >= 10 for secret in secrets)
