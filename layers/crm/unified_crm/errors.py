"""Every way in which a call can fail, as one tree.

    UnifiedError                   the root: a stable `code`, an HTTP `status`, whether a re-send can help
    ├── InvalidRequest             400 invalid_request: a parameter or field is missing, unknown or malformed
    │   ├── InvalidJson            400 invalid_json: the body is not JSON
    │   └── Unsupported            400 unsupported: the provider cannot express what was asked
    ├── Unauthorized               401 unauthorized: the request did not pass the authorizer
    ├── NotFound                   404 not_found: no such address or integrated account (ours, no provider asked)
    ├── MethodNotAllowed           405 method_not_allowed
    ├── PayloadTooLarge            413 payload_too_large: the body is over 1 MiB
    ├── UnsupportedMediaType       415 unsupported_media_type: the body is not JSON by its content type
    ├── AccountUnusable            503 account_unusable: the account's secret is malformed or names an unknown provider
    ├── NeedsReauth                503 needs_reauth: the provider refused to renew the access; no call is made any more
    ├── InUse                      409 in_use: a deletion would have taken deals along; nothing was deleted
    ├── IdempotencyMismatch        422 idempotency_mismatch: the key came before, with another request
    ├── IdempotencyInProgress      409 idempotency_in_progress: a call with this key is at work still
    ├── IdempotencyUnavailable     503 idempotency_unavailable: keys cannot be kept just now; nothing was sent
    ├── CredentialsUnavailable     503 credentials_unavailable: Secrets Manager did not answer; a re-send can help
    ├── ProviderError              what went wrong on the way to the provider, or there
    │   ├── RemoteError            the provider answered with an error: its status, or 502 for its 5xx; `code` is one
    │   │                          of REMOTE_CODES, whatever status the provider chose
    │   ├── ProviderUnreachable    502 provider_unreachable: no connection was made, so nothing happened
    │   ├── ProviderBadReply       502 provider_bad_reply: cut short, not JSON, too large, or a redirect
    │   ├── ProviderTimeout        504 provider_timeout: no answer within the time there was
    │   └── CircuitOpen            503 circuit_open: it failed many times in a row and was not called this time
    ├── PartialFailure             500 partial_failure: a later step failed and the clean-up too; `leftovers` says what
    ├── OutcomeUnknown             500 outcome_unknown: the provider may have acted and cannot be asked
    └── InternalError              500 internal_error: a fault of this service

Official clients send a call again by themselves after 408, 409, 425, 429, 502, 503 and 504, so an error with one of
these statuses means that sending it again is safe; the two errors of which that is not true are 500.

This module knows no HTTP event. `functions/api/response.py` is the one place where an error becomes an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Insight = Mapping[str, Mapping[str, Any]]
"""`truto_error_insight`: {kind: {"description": …, "value": …}}."""


class UnifiedError(Exception):
    """An error that a caller is told about.

    `details` are further top-level members of the error envelope; `insight` is its `truto_error_insight`; `headers`
    are HTTP headers that belong to it. No text in any of them may hold a credential.
    """

    code = "internal_error"
    status = 500
    retryable = False
    """Whether the same call, sent again unchanged, can succeed."""

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        insight: Insight | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, Any] = dict(details or {})
        self.insight: dict[str, Any] = dict(insight or {})
        self.headers: dict[str, str] = dict(headers or {})


class InvalidRequest(UnifiedError):
    """The caller's mistake, found before any call was made."""

    code = "invalid_request"
    status = 400


class InvalidJson(InvalidRequest):
    """The body could not be read as JSON."""

    code = "invalid_json"


class Unsupported(InvalidRequest):
    """The provider has no way to say this."""

    code = "unsupported"


class Unauthorized(UnifiedError):
    """The function was reached around the authorizer. Through API Gateway this cannot happen."""

    code = "unauthorized"
    status = 401


class NotFound(UnifiedError):
    """No such address, or no such integrated account for this token."""

    code = "not_found"
    status = 404


class MethodNotAllowed(UnifiedError):
    """The address exists, with other methods."""

    code = "method_not_allowed"
    status = 405


class PayloadTooLarge(UnifiedError):
    """The body is larger than is taken."""

    code = "payload_too_large"
    status = 413


class UnsupportedMediaType(UnifiedError):
    """The body calls itself something else than JSON."""

    code = "unsupported_media_type"
    status = 415


class AccountUnusable(UnifiedError):
    """The integrated account exists, but what is stored for it cannot be used until the operator mends it."""

    code = "account_unusable"
    status = 503


class NeedsReauth(UnifiedError):
    """The provider refused to renew the account's OAuth 2 access: it must be authorized again, and is not called."""

    code = "needs_reauth"
    status = 503


class InUse(UnifiedError):
    """Deals are on what was to be deleted, at a provider that would delete them too, or move them, without a word."""

    code = "in_use"
    status = 409


class IdempotencyMismatch(UnifiedError):
    """The `Idempotency-Key` was used before, for a call with another body or query."""

    code = "idempotency_mismatch"
    status = 422


class IdempotencyInProgress(UnifiedError):
    """A call with this `Idempotency-Key` has not ended yet."""

    code = "idempotency_in_progress"
    status = 409
    retryable = True


class IdempotencyUnavailable(UnifiedError):
    """The `Idempotency-Key` could not be kept, so nothing was sent to the provider."""

    code = "idempotency_unavailable"
    status = 503
    retryable = True


class CredentialsUnavailable(UnifiedError):
    """The account's secret could not be read just now."""

    code = "credentials_unavailable"
    status = 503
    retryable = True


class ProviderError(UnifiedError):
    """What went wrong between here and the provider's answer.

    `may_have_acted` is False only where it is certain that the provider did nothing.
    """

    def __init__(self, message: str, *, may_have_acted: bool = True) -> None:
        super().__init__(message)
        self.may_have_acted = may_have_acted


REMOTE_CODES: Mapping[str, str] = {
    "duplicate": "The provider has one of this name or id already.",
    "in_use": "It cannot be deleted while something uses it.",
    "not_found": "The provider knows no such pipeline or stage.",
    "needs_reauth": "The provider refused the account's credentials: it must be authorized again.",
    "missing_scope": "The account's credentials lack a scope; `truto_error_insight.forbidden_error` names it if known.",
    "forbidden": "The provider does not let this account do that.",
    "rate_limited": "The provider wants fewer calls: send again after `Retry-After` seconds.",
    "invalid": "The provider found the data wrong.",
    "remote_error": "Any other error that the provider answered; its 5xx arrive as 502.",
}
"""The codes of what a provider answers, each with what it means."""


class RemoteError(ProviderError):
    """The provider answered, with an error.

    `remote_status` is the provider's own HTTP status, `body` its JSON, or its text where it is not JSON.
    """

    code = "remote_error"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        remote_status: int,
        body: Any,
        insight: Insight | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.details = {"truto_is_remote_error": True, "raw_response": body}
        self.insight = dict(insight or {})
        self.headers = dict(headers or {})
        self.code = code
        self.remote_status = remote_status
        self.body = body
        self.status = remote_status if 400 <= remote_status < 500 else 502
        self.may_have_acted = self.status == 502
        self.retryable = code == "rate_limited" or self.status == 502


class ProviderUnreachable(ProviderError):
    """No connection was made: nothing was sent, nothing happened."""

    code = "provider_unreachable"
    status = 502
    retryable = True

    def __init__(self, message: str) -> None:
        super().__init__(message, may_have_acted=False)


class ProviderBadReply(ProviderError):
    """An answer came that is no answer: cut short, not JSON, too large, a redirect."""

    code = "provider_bad_reply"
    status = 502
    retryable = True


class ProviderTimeout(ProviderError):
    """The answer did not come within the time there was."""

    code = "provider_timeout"
    status = 504
    retryable = True


class CircuitOpen(ProviderError):
    """The provider failed many times in a row: it was not called, and will be tried again after `Retry-After` seconds.

    Every provider has a circuit of its own, and every host that a provider gives to one account alone.
    """

    code = "circuit_open"
    status = 503
    retryable = True

    def __init__(self, message: str, seconds: int = 1) -> None:
        super().__init__(message, may_have_acted=False)
        self.headers = {"retry-after": str(seconds)}


class PartialFailure(UnifiedError):
    """A later step failed, and what was created before could not all be deleted again."""

    code = "partial_failure"

    def __init__(self, message: str, *, leftovers: Sequence[Mapping[str, Any]], cause: UnifiedError) -> None:
        details = {**cause.details, "leftovers": [dict(each) for each in leftovers]}
        super().__init__(message, details=details, insight=cause.insight)


class OutcomeUnknown(UnifiedError):
    """The provider may have acted, and asking it did not tell."""

    code = "outcome_unknown"


class InternalError(UnifiedError):
    """A fault of this service. The details are in its log, under the request's id."""

    code = "internal_error"
