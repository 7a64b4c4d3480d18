"""The authorizer: API Gateway asks it once for each token and keeps the answer for a while.

A token is never stored. The table TOKENS_TABLE holds its SHA-256 as `token_hash`, with `tenant`, and optionally
`expires_at` (seconds since 1970, also the table's TTL attribute) and `accounts` (the only integrated account ids that
the token may use). Tokens are random and long, so a plain hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import os
from functools import cache
from hashlib import sha256
from time import time
from typing import Any

import boto3
from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

logger = Logger()
tracer = Tracer(patch_modules=["botocore"])

_REFUSED = {"isAuthorized": False}


@logger.inject_lambda_context(clear_state=True)
@tracer.capture_lambda_handler(capture_response=False)
def handler(event: dict[str, Any], _: LambdaContext) -> dict[str, Any]:
    """An authorizer request (HTTP API, payload 2.0) to a simple response.

    `context` becomes the API function's `requestContext.authorizer.lambda`: `tenant`, and `accounts`, which is `*` or a
    comma-separated list. Where the table cannot be read this raises, and API Gateway answers 500: nobody gets in.
    """
    token = _bearer_token(event)
    item = _find(token) if token else None
    if item is None:
        logger.info("Refused")
        return _REFUSED
    accounts = item.get("accounts")
    logger.debug("Let in", tenant=item["tenant"])
    return {
        "isAuthorized": True,
        "context": {
            "tenant": item["tenant"],
            "accounts": "*" if accounts is None else ",".join(sorted(str(each).lower() for each in accounts)),
        },
    }


def _bearer_token(event: Any) -> str | None:
    """`sam local` passes header names as the client wrote them, API Gateway in lower case."""
    found = event.get("headers") if isinstance(event, dict) else None
    headers = {name.lower(): value for name, value in found.items()} if isinstance(found, dict) else {}
    scheme, _, token = str(headers.get("authorization") or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _find(token: str) -> dict[str, Any] | None:
    """The table's item for a token that has not run out. DynamoDB deletes those that have, but days later."""
    found = _table().get_item(Key={"token_hash": sha256(token.encode("utf-8", "replace")).hexdigest()})
    item: dict[str, Any] | None = found.get("Item")
    if item is None or not item.get("tenant"):
        return None
    expires_at = item.get("expires_at")
    return None if expires_at is not None and expires_at <= time() else item


@cache
def _table() -> Any:
    config = Config(connect_timeout=1, read_timeout=1, retries={"mode": "standard", "total_max_attempts": 3})
    return boto3.resource("dynamodb", config=config).Table(os.environ["TOKENS_TABLE"])
