"""`Idempotency-Key`: a call that is sent again with the same key takes effect once, and is answered the same.

The table IDEMPOTENCY_TABLE (partition key `id`, TTL attribute `expiration`) holds a record for a day, under a hash of
tenant, account, method, path and key. With it go a hash of what was asked, and in the end the answer. That is the one
which the caller was given, in which credentials are redacted already.

While the call is at work, its record lasts no longer than the Lambda function may: a call that was cut off does not
block its key. When the call ends, the record goes by what is known of the effect:

- Kept, and replayed: a success, and a failure that had an effect or may have had one. These are PartialFailure,
  OutcomeUnknown and whatever is outside the tree of errors: a fault of ours, and nobody knows how far the call came.
- Deleted, so that the key can be used again: every other error of the tree. It was raised before anything was sent, or
  after all was taken back, or it comes from a provider that did not act. The engine sees to that: what it cannot be
  sure of it raises as one of the two above.

An answer over 300 KiB (an item may have 400 KB) is kept without the provider's own data, and if that is not enough as a
short note: status, id, and of an error its message and code. A replay of it says so in `truto_warnings`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig
from aws_lambda_powertools.utilities.idempotency.base import IdempotencyHandler
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    BaseError,
    IdempotencyAlreadyInProgressError,
    IdempotencyValidationError,
)

from api import request
from api.http import Context, Response
from api.routes import Call
from api.telemetry import logger
from unified_crm import aws
from unified_crm.errors import (
    IdempotencyInProgress,
    IdempotencyMismatch,
    IdempotencyUnavailable,
    OutcomeUnknown,
    PartialFailure,
    UnifiedError,
)

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

KEEP_SECONDS = 24 * 60 * 60
"""How long an answer is kept."""
MAX_BYTES = 300 * 1024
"""How large a stored answer may be, as the JSON that is stored."""

_PREFIX = "call"
_BULKY = ("remote_data", "raw_response")
_NOTE = ("id", "statusCode", "error", "message", "code", "request_id", "leftovers")
_NOTE_BYTES = 8 * 1024
"""Of each member of a note."""


def once(
    key: str, call: Call, resource: str, act: Callable[[], Response], failed: Callable[[Call, Exception], Response]
) -> Response:
    """The answer of `act`, or the one that the first call with this key got, with `Idempotent-Replayed: true`.

    `failed` makes the answer of an error that is kept. Raises IdempotencyMismatch where the key came before with
    another request, IdempotencyInProgress while that is at work, IdempotencyUnavailable where the table cannot be
    reached or there is none: nothing was sent then. Errors of `act` that are not kept go on.

    A dry run has no effect and leaves no record. Nor does a call for an account that the token may not use, which is
    `act`'s to refuse: another token of the tenant may have used the same key.
    """
    event = call.event
    parameters, caller = request.parameters(event, resource), request.caller(event)
    if parameters.dry_run or (caller.accounts is not None and parameters.account_id not in caller.accounts):
        return act()
    record = {
        "key": [caller.tenant, parameters.account_id, event.method, event.path, key],
        "asked": [_asked(parameters), None if event.method == "DELETE" else request.content(event)],
    }
    answer: Response | None = None
    failure: UnifiedError | None = None

    def first() -> dict[str, Any]:
        nonlocal answer, failure
        try:
            answer = act()
        except (PartialFailure, OutcomeUnknown) as error:
            answer = failed(call, error)
        except UnifiedError as error:
            failure = error
            raise
        except Exception as error:  # noqa: BLE001 - it is logged and answered, and what it did is unknown
            answer = failed(call, error)
        return _storable(answer)

    table = os.environ.get("IDEMPOTENCY_TABLE")
    if not table:
        raise IdempotencyUnavailable("This deployment has no table for idempotency keys; nothing was sent.")
    try:
        config, store = _config(call.context), _store(table)
        kept = IdempotencyHandler(
            first, record, config, store, key_prefix=_PREFIX, function_args=(), function_kwargs={}
        ).handle()
    except IdempotencyValidationError:
        raise IdempotencyMismatch(
            "This Idempotency-Key was used before, with another body or query; nothing was sent."
        ) from None
    except IdempotencyAlreadyInProgressError:
        raise IdempotencyInProgress(
            "A call with this Idempotency-Key is at work still; nothing was sent.", headers={"retry-after": "1"}
        ) from None
    except BaseError as error:
        if failure is not None:
            logger.exception("The record of an idempotency key could not be deleted")
            raise failure from None
        if answer is not None:
            logger.exception("The answer could not be stored for its idempotency key")
            return answer
        raise IdempotencyUnavailable(
            "The Idempotency-Key could not be kept just now; nothing was sent to the provider.",
            headers={"retry-after": "1"},
        ) from error
    return answer or _replay(kept)


def _asked(parameters: request.Parameters) -> dict[str, Any]:
    """What the query says, however it is written. Defaults are left out, so that a new parameter changes nothing."""
    said = {name: each for name, each in parameters._asdict().items() if name != "query"}
    return {name: sorted(each) if isinstance(each, frozenset) else each for name, each in said.items() if each}


def _storable(answer: Response) -> dict[str, Any]:
    """An answer as it is stored, cut to what an item holds."""
    kept = {"status": answer.status_code, "headers": dict(answer.headers), "body": answer.body}
    if _size(kept) <= MAX_BYTES:
        return kept
    body = json.loads(answer.body or "null")
    whole = body if isinstance(body, dict) else {}
    less = {name: value for name, value in whole.items() if name not in _BULKY}
    warning = {"field": "", "message": "The first answer was too large to be kept; this is a part of it"}
    kept["body"] = _dump({**less, "truto_warnings": [*(less.get("truto_warnings") or []), warning]})
    if _size(kept) <= MAX_BYTES:
        return kept
    note = {name: whole[name] for name in _NOTE if name in whole and _size(whole[name]) <= _NOTE_BYTES}
    kept["body"] = _dump({**note, "truto_warnings": [warning]})
    return kept


def _replay(kept: dict[str, Any]) -> Response:
    logger.info("Replayed", status=kept["status"])
    headers = {**kept["headers"], "Idempotent-Replayed": "true"}
    return Response(status_code=kept["status"], body=kept["body"], headers=headers)


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _size(value: Any) -> int:
    return len(json.dumps(value))


def _config(context: Context) -> IdempotencyConfig:
    return IdempotencyConfig(
        event_key_jmespath="key",
        payload_validation_jmespath="asked",
        expires_after_seconds=KEEP_SECONDS,
        hash_function="sha256",
        lambda_context=cast("LambdaContext", context),
    )


@cache
def _store(table: str) -> DynamoDBPersistenceLayer:
    """Made at the first use: an import must not need AWS."""
    return DynamoDBPersistenceLayer(table, boto3_client=aws.client("dynamodb", read_timeout=2))
