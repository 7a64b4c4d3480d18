"""Integrated accounts: from an id and a tenant to a provider, its credentials and settings.

One secret per account in AWS Secrets Manager, named `{prefix}/accounts/{integrated_account_id}`:

    {"provider": "close", "tenant": "acme", "credentials": {"type": "api_key", "api_key": "…"}, "settings": {}}

The prefix is the environment variable ACCOUNTS_SECRET_PREFIX. PROVIDER_BASE_URLS, a JSON object of provider to origin,
sends a provider's calls elsewhere (a simulator, a recording proxy): scheme, host and port change, paths stay.
PROVIDER_HOST_SUFFIXES, a JSON object of provider to a list, allows hosts under further suffixes where a provider's
accounts name their own.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unified_crm import pace, providers
from unified_crm.credentials import KINDS, Credentials, secrets_in
from unified_crm.errors import AccountUnusable, CredentialsUnavailable, InternalError, NotFound
from unified_crm.provider import Provider
from unified_crm.transport import Observe, Transport
from unified_crm.vault import Vault

CACHE_SECONDS = 60
"""How long a secret that was read is used again: short, so that a changed credential is soon the one in use."""
_CACHED_SECRETS = 1000
_ABSENT = frozenset({"ResourceNotFoundException", "InvalidRequestException", "ValidationException"})
"""Secrets Manager's answers for a secret that is not there, is being deleted, or has no name that could be one."""


class Stored(BaseModel):
    """An account's secret."""

    model_config = ConfigDict(hide_input_in_errors=True, defer_build=True)

    provider: str
    tenant: str = Field(min_length=1)
    credentials: dict[str, Any]
    settings: dict[str, Any] | None = None


class Account(NamedTuple):
    """An integrated account, ready to be used. `fingerprint` is the SHA-256 of its secret's text."""

    id: str
    tenant: str
    provider: Provider
    credentials: Credentials
    settings: dict[str, Any]
    fingerprint: str = ""

    def __repr__(self) -> str:
        """No more than its names."""
        return f"Account({self.id!r}, {self.tenant!r}, {self.provider.name!r})"

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
    text = _read_secret(account_id, past_cache)
    return _opened(account_id, tenant, text, os.environ.get("PROVIDER_HOST_SUFFIXES"))


def store(account: Account, credentials: Mapping[str, Any], settings: Mapping[str, Any]) -> Account:
    """Change some of the account's credentials and settings where they are stored, and give it as it is stored then.

    What else the secret holds stays. Where another refresh token stands there by now, someone has authorized the
    account again, and nothing is changed. Raises as `load` does, CredentialsUnavailable also where it is not stored.
    """
    text = _read_secret(account.id, past_cache=True)
    current = _account(account.id, account.tenant, text)
    if _refresh_token(current) != _refresh_token(account):
        return current
    secret = json.loads(text)
    secret["credentials"] |= credentials
    secret["settings"] = {**(secret.get("settings") or {}), **settings}
    text = json.dumps(secret)
    changed = _account(account.id, account.tenant, text)
    try:
        # The version is named by its content: to store it twice, where an answer was lost, is to store it once.
        _secrets().write(_secret_name(account.id), text, changed.fingerprint)
    except (ClientError, BotoCoreError) as error:
        raise CredentialsUnavailable(
            "The account's credentials could not be stored just now.", headers={"retry-after": "1"}
        ) from error
    return changed


def _refresh_token(account: Account) -> Any:
    return getattr(account.credentials, "refresh_token", None)


@lru_cache(_CACHED_SECRETS)
def _opened(account_id: str, tenant: str, text: str | bytes, _: str | None) -> Account:
    """As `_account`, remembered under all that its answer depends on."""
    return _account(account_id, tenant, text)


def _account(account_id: str, tenant: str, text: str | bytes) -> Account:
    if _tenant_of(text) not in (None, tenant):
        raise _absent(account_id)
    try:
        stored = Stored.model_validate_json(text)
    except ValidationError as error:
        raise _malformed(account_id, error) from None
    credentials = _credentials(account_id, stored.credentials)
    try:
        provider = providers.load(stored.provider)
    except LookupError:
        raise AccountUnusable(f"Integrated account {account_id} names an unknown provider") from None
    if credentials.type not in provider.auth:
        raise AccountUnusable(
            f"{provider.label} takes credentials of type {' or '.join(provider.auth)}, "
            f"and integrated account {account_id} has {credentials.type}"
        )
    settings = settings_for(provider, stored.settings or {}, account_id)
    fingerprint = hashlib.sha256(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")).hexdigest()
    return Account(account_id, tenant, provider, credentials, settings, fingerprint)


def _credentials(account_id: str, stored: Mapping[str, Any]) -> Credentials:
    name = stored.get("type")
    if not isinstance(name, str) or name not in KINDS:
        raise _malformed(account_id, None, "credentials")
    try:
        return KINDS[name].model_validate(stored)
    except ValidationError as error:
        raise _malformed(account_id, error, "credentials", name) from None


def _malformed(account_id: str, error: ValidationError | None, *above: str) -> AccountUnusable:
    """The places that are wrong, and nothing of what stands there."""
    places = [each["loc"] for each in error.errors(include_input=False)] if error else [()]
    where = "; ".join(".".join(map(str, (*above, *place))) or "the whole" for place in places)
    return AccountUnusable(f"What is stored for integrated account {account_id} is malformed: {where}")


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
    return _redirected(provider.name, url, os.environ.get("PROVIDER_BASE_URLS") or "{}")


@lru_cache(_CACHED_SECRETS)
def _redirected(provider: str, url: str, origins: str) -> str:
    origin = _origins(origins).get(provider)
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


def _read_secret(account_id: str, past_cache: bool) -> str | bytes:
    try:
        return _secrets().read(_secret_name(account_id), past_cache=past_cache)
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] in _ABSENT:
            raise _absent(account_id) from None
        raise CredentialsUnavailable(
            "The account's credentials could not be read just now; nothing was sent to the provider.",
            headers={"retry-after": "1"},
        ) from error


@cache
def _secrets() -> Vault:
    """Made at the first use: an import must not need AWS."""
    return Vault(seconds=CACHE_SECONDS, secrets=_CACHED_SECRETS)


def prepare() -> None:
    """Make what every `load` needs. Asks nobody."""
    _secrets()


def forget() -> None:
    """Read every secret anew, by a client of its own."""
    _secrets.cache_clear()
    _opened.cache_clear()
