"""What is measured: the functions and layers that `sam build` made, and what Lambda would give them.

`make bench` says where they are, in SAM_BUILD, SAM and LAMBDA_PYTHON; else they are looked for where it puts them.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / os.environ.get("SAM_BUILD", ".aws-sam/local")
PYTHON = ROOT / os.environ.get("LAMBDA_PYTHON", ".venv-lambda/bin/python")
PLAIN = ROOT / os.environ.get("PLAIN_LAYER", ".aws-sam/plain")
"""The layer's packages as pip installs them: without bytecode, and with all of botocore's data."""
REFERENCES = ROOT / "benchmarks" / "references"
API = BUILD / "ApiFunction"
AUTHORIZER = BUILD / "AuthorizerFunction"
CRM = BUILD / "CrmLayer" / "python"
DEPENDENCIES = BUILD / "DependenciesLayer" / "python"
LAYERS = (CRM, DEPENDENCIES)

NOT_SAMPLED = "Root=1-691493b7-f2a4d27bdcf4bb99f4bea973;Parent=53995c3f42cd8ad8;Sampled=0"
SAMPLED = NOT_SAMPLED.replace("Sampled=0", "Sampled=1")
"""Trace headers as Lambda hands them on. By X-Ray's default rule one call a second is sampled and 5 % of the others."""


def emulator() -> Path:
    """The runtime interface emulator that the SAM CLI brings. Raises FileNotFoundError."""
    machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    sam = ROOT / os.environ.get("SAM", ".venv-sam/bin/sam")
    found = list(sam.parents[1].glob(f"lib/python*/site-packages/samcli/local/rapid/aws-lambda-rie-{machine}"))
    if not found:
        raise FileNotFoundError("The SAM CLI is not installed, or brings no runtime interface emulator")
    return found[0]


def environment(port: int, task: Path = API, layers: tuple[Path, ...] = LAYERS) -> dict[str, str]:
    """The variables of a function whose folder is `task`, with AWS and the providers at `port` of this machine.

    Nothing of this process's own environment is among them but PATH.
    """
    origin = f"http://127.0.0.1:{port}"
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, layers)),
        "PYTHONDONTWRITEBYTECODE": "1",  # as in Lambda, where layers are read-only: what has no bytecode never gets any
        "LAMBDA_TASK_ROOT": str(task),
        "AWS_LAMBDA_FUNCTION_NAME": "unified-crm-api",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "29",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_ENDPOINT_URL": origin,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "ACCOUNTS_SECRET_PREFIX": "unified-crm",
        "IDEMPOTENCY_TABLE": "idempotency",
        "TOKENS_TABLE": "tokens",
        "PROVIDER_BASE_URLS": json.dumps({"hubspot": origin, "close": origin}),
        "POWERTOOLS_SERVICE_NAME": "unified-crm",
        "POWERTOOLS_METRICS_NAMESPACE": "UnifiedCRM",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


def with_benchmarks(variables: Mapping[str, str]) -> dict[str, str]:
    """The same for a process of ours that loads a function: this package is found too, after all else."""
    path = os.pathsep.join((str(API), variables["PYTHONPATH"], str(ROOT)))
    return {**variables, "PYTHONPATH": path, "_X_AMZN_TRACE_ID": variables.get("_X_AMZN_TRACE_ID", NOT_SAMPLED)}
