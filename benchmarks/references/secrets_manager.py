"""A handler that makes a client of Secrets Manager when it is loaded, and nothing else: the usual way of a function
that reads secrets."""

from __future__ import annotations

import time
from typing import Any

import boto3

client = boto3.client("secretsmanager")
PROCESSOR = time.process_time()


def handler(_event: Any, _context: Any) -> dict[str, Any]:
    """The seconds that loading took of a processor. The client is not asked."""
    return {"statusCode": 200, "processor": PROCESSOR}
