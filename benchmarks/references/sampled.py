"""The API function in a call that X-Ray samples. The emulator hands no trace header on, so it is set here, where
Lambda's runtime client would."""

from __future__ import annotations

import os
from typing import Any

from api import app


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """As the API function's."""
    os.environ["_X_AMZN_TRACE_ID"] = os.environ["BENCH_TRACE"]
    answer: dict[str, Any] = app.handler(event, context)
    return answer
