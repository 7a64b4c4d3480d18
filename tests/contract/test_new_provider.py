"""A provider is added by two files, and the suite runs over it with no other edit."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOY = Path(__file__).parent / "toy"


def _copy(to: Path) -> None:
    unneeded = shutil.ignore_patterns("__pycache__", "test_new_provider.py")
    for folder in ("functions", "layers/crm", "local", "tests/contract"):
        shutil.copytree(ROOT / folder, to / folder, ignore=unneeded)
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, to / file)


def _run_suite(folder: Path, tests: str = "toy and not does_not_come") -> tuple[str, dict[str, int]]:
    """Without the faults that hang: they are waited out for every provider already."""
    command = [sys.executable, "-m", "pytest", "tests/contract", "-k", tests, "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", run.stdout)}
    return run.stdout + run.stderr, counts


def test_a_file_in_providers_and_a_simulator_beside_it_are_all_it_takes(tmp_path: Path) -> None:
    _copy(tmp_path)
    shutil.copy(TOY / "provider.py", tmp_path / "layers/crm/unified_crm/providers/toy.py")
    shutil.copy(TOY / "simulator.py", tmp_path / "local/simulators/toy.py")
    output, counts = _run_suite(tmp_path)
    assert counts.get("passed", 0) >= 40, output
    assert not {"failed", "error"} & counts.keys(), output


def test_a_provider_without_a_simulator_is_an_error_and_not_a_skip(tmp_path: Path) -> None:
    _copy(tmp_path)
    shutil.copy(TOY / "provider.py", tmp_path / "layers/crm/unified_crm/providers/toy.py")
    output, counts = _run_suite(tmp_path)
    assert "passed" not in counts, output
    assert "no simulator for 'toy'" in output


def test_a_provider_that_says_something_wrong_fails_the_suite(tmp_path: Path) -> None:
    _copy(tmp_path)
    source = (TOY / "provider.py").read_text().replace('"closed": "shut"', '"closed": "open"')
    (tmp_path / "layers/crm/unified_crm/providers/toy.py").write_text(source)
    shutil.copy(TOY / "simulator.py", tmp_path / "local/simulators/toy.py")
    output, counts = _run_suite(tmp_path, "toy and what_was_written")
    assert counts.get("failed", 0) >= 1, output
