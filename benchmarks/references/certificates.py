"""The API function in a call that reads both bundles of CA certificates, as it does where it speaks TLS: the system's
for the provider, botocore's own for AWS."""

from __future__ import annotations

import ssl
from typing import Any

from botocore.httpsession import get_cert_path

from api import app


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """As the API function's."""
    ssl.create_default_context()
    ssl.create_default_context(cafile=get_cert_path(True))
    answer: dict[str, Any] = app.handler(event, context)
    return answer
