"""What the tests of the built artefact share. `make sam-local` builds it and says where it is."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from local.simulators import demo_secrets
from local.world import DEMO_TOKEN, OTHER_TOKEN, World

ROOT = Path(__file__).resolve().parents[2]
EVENTS = ROOT / "events"
MACHINE = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
ACCOUNTS = {"close": "62f44730-dd91-461e-bd6a-aedd9e0ad79d", "hubspot": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}


def event(name: str) -> dict[str, Any]:
    """An event of `events/`."""
    made: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return made


def told(variable: str) -> Path:
    """A path that `make sam-local` gives. Where it does not, another command runs: the module is left out."""
    if variable not in os.environ:
        pytest.skip("`make sam-local` builds what this tests, and runs it", allow_module_level=True)
    return ROOT / os.environ[variable]


def stages(pipeline: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and statuses, of a pipeline as it is asked for, answered or shown by a simulator."""
    return [(stage["name"], stage["status"]) for stage in pipeline["stages"]]


def at_provider(world: World, provider: str, pipeline_id: str) -> dict[str, Any]:
    """The pipeline as the provider's simulator holds it."""
    held: list[dict[str, Any]] = world.simulators[provider].pipelines()  # type: ignore[attr-defined]
    return next(pipeline for pipeline in held if pipeline["id"] == pipeline_id)


def leaked(output: str) -> list[str]:
    """The demo credentials and tokens that stand in something printed: none may."""
    return [secret for secret in (*demo_secrets(), DEMO_TOKEN, OTHER_TOKEN) if secret in output]
