"""Integrated accounts: from an id and a tenant to a provider, its credentials and settings.

One secret per account in AWS Secrets Manager, named `{prefix}/accounts/{integrated_account_id}`:

    {"provider": "close", "tenant": "acme", "credentials": {"type": "api_key", "api_key": "…"}, "settings": {}}

The prefix is the environment variable ACCOUNTS_SECRET_PREFIX. PROVIDER_BASE_URLS, a JSON object of provider to origin,
sends a provider's calls elsewhere (a simulator, a recording proxy): scheme, host and port change, paths stay.
PROVIDER_HOST_SUFFIXES, a JSON object of provider to a list, allows hosts under further suffixes where a provider's
accounts name their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unified_crm import pace, providers
from unified_crm.credentials import Credentials, secrets_in
from unified_crm.errors import AccountUnusable, CredentialsUnavailable, InternalError, NotFound
from unified_crm.provider import Provider
from unified_crm.transport import Observe, Transport

CACHE_SECONDS = 60
"""How long a secret that was read is used again: short, so that a changed credential is soon the one in use."""
_CACHED_SECRETS = 1000
_ABSENT = frozenset({"ResourceNotFoundException", "InvalidRequestException", "ValidationException"})
"""Secrets Manager's answers for a secret that is not there, is being deleted, or has no name that could be one."""


class _Stored(BaseModel):
    """An account's secret."""

    model_config = ConfigDict(hide_input_in_errors=True)

    provider: str
    tenant: str = Field(min_length=1)
    credentials: Credentials
    settings: dict[str, Any] | None = None


@dataclass(frozen=True)
class Account:
    """An integrated account, ready to be used. `fingerprint` is the SHA-256 of its secret's text."""

    id: str
    tenant: str
    provider: Provider
    credentials: Credentials
    settings: dict[str, Any]
    fingerprint: str = field(default="", repr=False, compare=False)

    def transport(self, observe: Observe = lambda _: None) -> Transport:
        """A transport that speaks to the account's provider with its credentials."""
        origin = base_url(self.provider, self.settings)
        return Transport(
            origin,
            self.provider.auth[self.credentials.type](self.credentials),
            secrets_in(self.credentials),
            self.provider.label,
            observe,
            headers={name: text.format_map(self.settings) for name, text in self.provider.headers.items()},
            pace=pace.of(self.provider, origin, self.id),
        )


def load(account_id: str, tenant: str, allowed: Iterable[str] | None = None, *, past_cache: bool = False) -> Account:
    """The account `account_id` of `tenant`. `allowed` are the only ids that the caller's token may use, if given.

    `past_cache`: as it is stored now; otherwise that may be CACHE_SECONDS ago.

    Raises NotFound where there is none for this caller (the same for an account of another tenant, which must look as
    if it did not exist), AccountUnusable where what is stored cannot be used, CredentialsUnavailable where Secrets
    Manager does not answer.
    """
    if allowed is not None and account_id not in allowed:
        raise _absent(account_id)
    return _account(account_id, tenant, _secret_of(account_id, tenant, past_cache))


def store(account: Account, credentials: Mapping[str, Any], settings: Mapping[str, Any]) -> Account:
    """Change some of the account's credentials and settings where they are stored, and give it as it is stored then.

    What else the secret holds stays. Where another refresh token stands there by now, someone has authorized the
    account again, and nothing is changed. Raises as `load` does, CredentialsUnavailable also where it is not stored.
    """
    text = _secret_of(account.id, account.tenant, past_cache=True)
    current = _account(account.id, account.tenant, text)
    if _refresh_token(current) != _refresh_token(account):
        return current
    secret = json.loads(text)
    secret["credentials"] |= credentials
    secret["settings"] = {**(secret.get("settings") or {}), **settings}
    text = json.dumps(secret)
    changed = _account(account.id, account.tenant, text)
    secrets, name = _secrets(), _secret_name(account.id)
    try:
        # Not Powertools' own `set`, which would make a secret that was deleted meanwhile anew. The version is named by
        # its content: to store it twice, where an answer was lost, is to store it once.
        secrets.client.put_secret_value(SecretId=name, SecretString=text, ClientRequestToken=changed.fingerprint)
    except (ClientError, BotoCoreError) as error:
        raise CredentialsUnavailable(
            "The account's credentials could not be stored just now.", headers={"retry-after": "1"}
        ) from error
    secrets.add_to_cache(secrets._build_cache_key(name), text, CACHE_SECONDS)
    return changed


def _refresh_token(account: Account) -> Any:
    return getattr(account.credentials, "refresh_token", None)


def _account(account_id: str, tenant: str, text: str | bytes) -> Account:
    try:
        stored = _Stored.model_validate_json(text)
    except ValidationError as error:
        where = "; ".join(".".join(map(str, each["loc"])) or "the whole" for each in error.errors(include_input=False))
        raise AccountUnusable(f"What is stored for integrated account {account_id} is malformed: {where}") from None
    try:
        provider = providers.load(stored.provider)
    except LookupError:
        raise AccountUnusable(f"Integrated account {account_id} names an unknown provider") from None
    if stored.credentials.type not in provider.auth:
        raise AccountUnusable(
            f"{provider.label} takes credentials of type {' or '.join(provider.auth)}, "
            f"and integrated account {account_id} has {stored.credentials.type}"
        )
    settings = settings_for(provider, stored.settings or {}, account_id)
    fingerprint = hashlib.sha256(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")).hexdigest()
    return Account(account_id, tenant, provider, stored.credentials, settings, fingerprint)


def settings_for(provider: Provider, stored: Mapping[str, Any], account_id: str) -> dict[str, Any]:
    """An account's settings: what is stored, with the defaults of what is not.

    Raises AccountUnusable naming each that is missing or not allowed.
    """
    defaults = {each.name: each.default for each in provider.settings if each.default is not None}
    found = {**defaults, **{name: value for name, value in stored.items() if value is not None}}
    more = host_suffixes(provider)
    wrong = [
        f"settings.{each.name} {'is not allowed' if each.name in found else 'is missing'} ({each.about})"
        for each in provider.settings
        if (not each.allows(found[each.name], more) if each.name in found else each.required)
    ]
    if wrong:
        raise AccountUnusable(f"Integrated account {account_id} of {provider.label}: {'; '.join(wrong)}")
    return found


def host_suffixes(provider: Provider) -> tuple[str, ...]:
    """The suffixes under which the operator allows hosts of the provider's accounts, beside the declared ones."""
    return _suffixes(os.environ.get("PROVIDER_HOST_SUFFIXES") or "{}").get(provider.name, ())


def _tenant_of(text: str | bytes) -> Any:
    """Whose account it is, None where nothing tells. Who else asks must learn nothing of the rest."""
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return (stored.get("tenant") or None) if isinstance(stored, dict) else None


def base_url(provider: Provider, settings: Mapping[str, Any]) -> str:
    """An account's base URL, at the origin that PROVIDER_BASE_URLS gives for its provider, if any."""
    return at_origin(provider, provider.base_url.format_map(settings))


def at_origin(provider: Provider, url: str) -> str:
    """An address of the provider's, at the origin that PROVIDER_BASE_URLS gives for it, if any."""
    origin = _origins(os.environ.get("PROVIDER_BASE_URLS") or "{}").get(provider.name)
    if origin is None:
        return url
    target, own = urlsplit(origin), urlsplit(url)
    return urlunsplit((target.scheme, target.netloc, own.path, "", ""))


@cache
def _origins(text: str) -> dict[str, str]:
    try:
        origins = json.loads(text)
        usable = all(_is_origin(each) for each in origins.values())
    except (ValueError, AttributeError, TypeError):
        usable = False
    if not usable:
        raise InternalError("PROVIDER_BASE_URLS must be a JSON object of provider name to origin")
    return dict(origins)


@cache
def _suffixes(text: str) -> dict[str, tuple[str, ...]]:
    try:
        found = {name: tuple(each) for name, each in json.loads(text).items()}
        usable = all(re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", each) for all_ in found.values() for each in all_)
    except (ValueError, AttributeError, TypeError):
        usable = False
    if not usable:
        raise InternalError("PROVIDER_HOST_SUFFIXES must be a JSON object of provider name to a list of host suffixes")
    return found


def _is_origin(text: str) -> bool:
    parts = urlsplit(text)
    host = parts.hostname or ""
    return (
        parts.scheme in ("http", "https")
        and re.fullmatch(r"[A-Za-z0-9._:-]+", host) is not None
        and parts.port != 0  # a port that is no number is a ValueError
        and text == text.strip()
        and parts.username is None
    )


def _secret_name(account_id: str) -> str:
    return f"{os.environ.get('ACCOUNTS_SECRET_PREFIX', 'unified-crm')}/accounts/{account_id}"


def _absent(account_id: str) -> NotFound:
    return NotFound(f"No integrated account {account_id}")


def _secret_of(account_id: str, tenant: str, past_cache: bool) -> str | bytes:
    """The text of an account's secret, if it is the tenant's."""
    text = _read_secret(account_id, past_cache)
    if _tenant_of(text) not in (None, tenant):
        raise _absent(account_id)
    return text


def _read_secret(account_id: str, past_cache: bool) -> str | bytes:
    secrets = _secrets()
    if len(secrets.store) > _CACHED_SECRETS:
        secrets.store.clear()
    try:
        value = secrets.get(_secret_name(account_id), max_age=CACHE_SECONDS, force_fetch=past_cache)
    except GetParameterError as error:
        cause = error.__context__
        if isinstance(cause, ClientError) and cause.response["Error"]["Code"] in _ABSENT:
            raise _absent(account_id) from None
        raise CredentialsUnavailable(
            "The account's credentials could not be read just now; nothing was sent to the provider.",
            headers={"retry-after": "1"},
        ) from error
    return value if isinstance(value, str | bytes) else ""


def _new_secrets() -> SecretsProvider:
    # Its defaults wait a minute for a connection, longer than the function may live.
    config = Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
    return SecretsProvider(boto_config=config)


_secrets: Callable[[], SecretsProvider] = cache(_new_secrets)
"""Made at the first use: an import must not need AWS."""
