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

from aws_lambda_powertools import Logger
from botocore.config import Config
from botocore.session import get_session

logger = Logger()

_REFUSED = {"isAuthorized": False}


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """An authorizer request (HTTP API, payload 2.0) to a simple response.

    `context` becomes the API function's `requestContext.authorizer.lambda`: `tenant`, and `accounts`, which is `*` or a
    comma-separated list. Where the table cannot be read this raises, and API Gateway answers 500: nobody gets in.
    """
    logger.structure_logs(function_request_id=context.aws_request_id)
    # X-Ray's library takes a tenth of a start, so that it is imported for the first call that is sampled.
    sampled = "Sampled=1" in os.environ.get("_X_AMZN_TRACE_ID", "")
    handle = tracer().capture_lambda_handler(_handle, capture_response=False) if sampled else _handle
    answer: dict[str, Any] = handle(event, context)
    return answer


def _handle(event: dict[str, Any], _: Any) -> dict[str, Any]:
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
    key = {"token_hash": {"S": sha256(token.encode("utf-8", "replace")).hexdigest()}}
    found = table().get_item(TableName=os.environ["TOKENS_TABLE"], Key=key).get("Item", {})
    item = {name: _value(value) for name, value in found.items()}
    if not item.get("tenant"):
        return None
    if item.get("expires_at") is not None and float(found["expires_at"]["N"]) <= time():
        return None
    return item


def _value(attribute: dict[str, Any]) -> Any:
    """An attribute as DynamoDB writes it: `{"S": "text"}`, `{"N": "5"}`, a set or a list of these. Numbers are text."""
    ((kind, value),) = attribute.items()
    if kind == "NULL":
        return None
    return [_value(each) for each in value] if kind == "L" else value


@cache
def table() -> Any:
    """DynamoDB's client. Made without asking anybody, but not by an import, which must not need AWS."""
    config = Config(connect_timeout=1, read_timeout=1, retries={"mode": "standard", "total_max_attempts": 3})
    return get_session().create_client("dynamodb", config=config)


@cache
def tracer() -> Any:
    """Powertools' tracer, with AWS calls traced."""
    from aws_lambda_powertools import Tracer

    return Tracer(patch_modules=["botocore"])
