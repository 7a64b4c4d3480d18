"""The commands about integrated accounts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from datetime import datetime
from time import time
from typing import Annotated, Any, get_args
from uuid import UUID, uuid4

from pydantic import Field, SecretStr, ValidationError

from unified_crm import accounts
from unified_crm.accounts import Account
from unified_crm.admin import aws
from unified_crm.admin.console import Failure, Question, ask, confirm, show, show_table, tell, utc
from unified_crm.credentials import KINDS, Credentials, OAuth2
from unified_crm.deadline import Deadline
from unified_crm.engine import Options, Run
from unified_crm.errors import (
    AccountUnusable,
    NotFound,
    ProviderBadReply,
    ProviderError,
    ProviderUnreachable,
    RemoteError,
)
from unified_crm.provider import Call, Flow, Provider

CHECK_SECONDS = 20.0
RECOVERY_DAYS = 30


class Stored(accounts.Stored):
    """An account's secret, read at once: `load` reads the credentials by themselves, which starts faster."""

    credentials: Annotated[Credentials, Field(discriminator="type")]  # type: ignore[assignment]


def add_account(options: argparse.Namespace) -> None:
    """Ask for what was not given, check all of it, and store the account's secret. Prints the account's id."""
    provider: Provider = options.provider
    kind = options.type or next(iter(provider.auth))
    if kind not in provider.auth:
        raise Failure(f"{provider.label} takes credentials of type {' or '.join(provider.auth)}, not {kind}.", 2)
    if not options.type and len(provider.auth) > 1:
        others = ", ".join(f"--type {each}" for each in provider.auth if each != kind)
        tell(f"Credentials of type {kind}. {provider.label} also takes others: {others}.")
    given = _settings(provider, options.setting)
    if options.replace and not options.id:
        raise Failure("--replace wants the --id of the account.", 2)
    account_id = options.id or str(uuid4())
    _all_settings(_without_requirements(provider), given)  # before anyone types in a secret
    answers = ask([*_setting_questions(provider, kind, given), *_credential_questions(kind)])
    given |= _below("settings.", answers)
    credentials = {"type": kind, **_below("credentials.", answers)}
    stored = _validated(provider, options.tenant, credentials, given)
    if isinstance(stored.credentials, OAuth2):
        _warn_of_refresh(stored.credentials)
    _store(account_id, stored, given, replace_=options.replace, kms_key=options.kms_key)
    show(account_id)


def _settings(provider: Provider, pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    known = [each.name for each in provider.settings]
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name not in known:
            raise Failure(f"--setting: {provider.label} has {', '.join(known) or 'no settings'}.", 2)
        if name in given:
            raise Failure(f"--setting: {name} is given twice.", 2)
        given[name] = value
    return given


def _below(start: str, answers: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(start): text for name, text in answers.items() if name.startswith(start)}


def _without_requirements(provider: Provider) -> Provider:
    return provider._replace(settings=tuple(each._replace(required=False) for each in provider.settings))


def _setting_questions(provider: Provider, kind: str, given: Mapping[str, Any]) -> list[Question]:
    """The required settings that were not given, and the one that a refresh of OAuth 2 tokens wants."""
    refresh = provider.oauth is not None and provider.oauth.redirect_uri and kind == "oauth2"
    return [
        Question(f"settings.{each.name}", each.about, required=each.required)
        for each in provider.settings
        if each.name not in given and (each.required or (refresh and each.name == "redirect_uri"))
    ]


def _credential_questions(kind: str) -> list[Question]:
    return [
        Question(
            f"credentials.{name}",
            "RFC 3339, such as 2026-01-31T12:00:00Z" if _holds(field.annotation, datetime) else "",
            _holds(field.annotation, SecretStr),
            field.is_required(),
        )
        for name, field in KINDS[kind].model_fields.items()
        if name != "type"
    ]


def _holds(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_holds(each, kind) for each in get_args(annotation))


def _validated(provider: Provider, tenant: str, credentials: dict[str, str], settings: dict[str, Any]) -> Stored:
    """What is to be stored, as the functions will read it. No text of pydantic's is shown: it may hold an input."""
    whole = {"provider": provider.name, "tenant": tenant, "credentials": credentials, "settings": settings}
    try:
        stored = Stored.model_validate(whole)
    except ValidationError as error:
        # The second part of a credential's place is its type.
        places = [tuple(map(str, each["loc"])) for each in error.errors(include_input=False, include_context=False)]
        names = [".".join((place[0], *place[2:]) if place[0] == "credentials" else place) for place in places]
        wrong = "; ".join(f"{name} is not usable ({_wanted(name)})" for name in names)
        raise Failure(f"Nothing was stored: {wrong}.") from None
    ends = stored.credentials.expires_at if isinstance(stored.credentials, OAuth2) else None
    if ends is not None and ends.tzinfo is None:
        raise Failure(f"Nothing was stored: credentials.expires_at is not usable ({_wanted('expires_at')}).")
    accounts.base_url(provider, _all_settings(provider, settings))
    provider.auth[stored.credentials.type](stored.credentials)
    return stored


def _all_settings(provider: Provider, given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return accounts.settings_for(provider, given, "")
    except AccountUnusable as error:  # which speaks of an account that is there
        raise Failure(f"Nothing was stored: {error.message.partition(': ')[2]}.") from None


def _wanted(name: str) -> str:
    if name.endswith("expires_at"):
        return "RFC 3339 with a time zone, such as 2026-01-31T12:00:00Z"
    return "printable ASCII, and not empty"


def _warn_of_refresh(credentials: OAuth2) -> None:
    wanted = ("refresh_token", "client_id", "client_secret")
    missing = [name for name in wanted if getattr(credentials, name) is None]
    if missing:
        tell(f"Without {', '.join(missing)} the account works only until its access token runs out.")


def _store(
    account_id: str, stored: Stored, settings: Mapping[str, Any], *, replace_: bool, kms_key: str | None
) -> None:
    credentials = {
        name: value.get_secret_value()
        if isinstance(value, SecretStr)
        else value.isoformat()
        if isinstance(value, datetime)
        else value
        for name, value in stored.credentials
        if value is not None
    }
    content = json.dumps(
        {"provider": stored.provider, "tenant": stored.tenant, "credentials": credentials, "settings": dict(settings)}
    )
    name = accounts._secret_name(account_id)
    with closing(aws.client("secretsmanager")) as vault:
        if replace_:
            if accounts._tenant_of(_read(vault, account_id)) not in (None, stored.tenant):
                raise Failure(f"Integrated account {account_id} belongs to another tenant; nothing was changed.")
            vault.put_secret_value(SecretId=name, SecretString=content)
            return
        try:
            vault.create_secret(Name=name, SecretString=content, **({"KmsKeyId": kms_key} if kms_key else {}))
        except vault.exceptions.ResourceExistsException:
            raise Failure(
                f"There is an integrated account {account_id} already; --replace gives it new credentials."
            ) from None
        except vault.exceptions.InvalidRequestException:
            raise Failure(f"{_being_deleted(account_id)} Restore it, or take another --id.") from None


def list_accounts(options: argparse.Namespace) -> None:
    """Every account, or a tenant's: id, tenant, provider, type of credentials, names of settings, whether expired."""
    rows = []
    with closing(aws.client("secretsmanager")) as vault:
        start = accounts._secret_name("")
        pages = vault.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [start]}])
        for name in sorted(each["Name"] for page in pages for each in page["SecretList"]):
            account_id = name.removeprefix(start)
            if account_id == name:
                continue
            try:
                text = _read(vault, account_id)
            except NotFound:
                continue  # deleted since
            row = _row(account_id, text)
            if options.tenant in (None, row[1]):
                rows.append(row)
    show_table(("ID", "TENANT", "PROVIDER", "CREDENTIALS", "SETTINGS", "EXPIRED"), rows)


def _row(account_id: str, text: str | bytes) -> tuple[str, ...]:
    try:
        stored = Stored.model_validate_json(text)
    except ValidationError:
        tenant = accounts._tenant_of(text)
        return (account_id, tenant if isinstance(tenant, str) else "-", "malformed", "-", "-", "-")
    ends = stored.credentials.expires_at if isinstance(stored.credentials, OAuth2) else None
    return (
        account_id,
        stored.tenant,
        stored.provider,
        stored.credentials.type,
        ",".join(sorted(stored.settings or {})) or "-",
        "-" if ends is None else "yes" if ends.timestamp() <= time() else "no",
    )


def check_account(options: argparse.Namespace) -> None:
    """Load an account as a function does, past its cache, and ask its provider for the first page of pipelines.

    A token that ran out is not renewed: that would be more than a harmless call, and is the functions' to do.
    """
    with closing(aws.client("secretsmanager")) as vault:
        text = _read(vault, options.id)  # with AWS's own reason, where it cannot be read
    account = accounts.load(options.id, accounts._tenant_of(text), past_cache=True)
    if options.id != canonical(options.id):
        raise Failure(f"Integrated account {options.id} cannot be called: its id is no UUID in lower case.")
    provider = account.provider
    if provider.pipelines.list is None:
        raise Failure(f"{provider.label} has no harmless call to check with; what is stored is well formed.")
    run = Run(_without_refresh(account), Options(), Deadline(CHECK_SECONDS))
    try:
        run.drive(_first_page(account, provider.pipelines.list))
    except ProviderError as error:
        raise Failure(_trouble(account, error)) from None
    show(f"Fine: {provider.label} answered.")


def _without_refresh(account: Account) -> Account:
    if not isinstance(account.credentials, OAuth2):
        return account
    return account._replace(credentials=account.credentials.model_copy(update={"refresh_token": None}))


def _first_page(account: Account, every: Callable[[Call], Flow]) -> Flow:
    """The first request of the provider's list; what it answers is read, and nothing further is asked."""
    provider = account.provider
    entity = provider.entities.to_remote("opportunity") or next(iter(provider.entities.names.values()))
    with closing(every(Call(entity, settings=account.settings))) as flow:
        reply = yield next(flow)
        with suppress(StopIteration):
            flow.send(reply)


def _trouble(account: Account, error: ProviderError) -> str:
    """What is wrong between here and the provider, and what to do."""
    label, oauth = account.provider.label, account.provider.oauth
    if isinstance(error, ProviderUnreachable):
        return f"{label} could not be reached: {error.message}"
    if isinstance(error, ProviderBadReply):
        return f"What {label} answered cannot be used: {error.message}"
    if not isinstance(error, RemoteError):
        return error.message
    said = f"It said: {error.message}"
    if error.status >= 500:
        return f"{label} is down: it answered {error.remote_status}. {said}"
    if error.code == "needs_reauth":
        return f"{label} refused the credentials. {_expired(account)}{said}"
    if error.code == "missing_scope":
        named = error.insight.get("forbidden_error", {}).get("value", {}).get("missing_scopes") or []
        needed = oauth.scopes if oauth else ()
        which = f": {', '.join(named)}" if named else f"; it needs {', '.join(needed)}" if needed else ""
        return f"The credentials lack a scope at {label}{which}. {said}"
    if error.code == "rate_limited":
        return f"{label} wants fewer calls: try again after {error.headers.get('retry-after', 'some')} seconds. {said}"
    if error.code == "forbidden":
        return f"{label} does not let this account list pipelines. {said}"
    return f"{label} answered {error.remote_status}. {said}"


def _expired(account: Account) -> str:
    credentials = account.credentials
    if not isinstance(credentials, OAuth2) or credentials.expires_at is None:
        return ""
    ends = credentials.expires_at.timestamp()
    if ends > time():
        return ""
    renews = "" if credentials.refresh_token is None else ", and a call through the API would renew it first"
    return f"The access token ran out at {utc(ends)}{renews}. "


def remove_account(options: argparse.Namespace) -> None:
    """Delete an account's secret, after a question; unless told otherwise it can be restored for a month."""
    account_id, name = options.id, accounts._secret_name(options.id)
    with closing(aws.client("secretsmanager")) as vault:
        try:
            known = vault.describe_secret(SecretId=name)
        except vault.exceptions.ResourceNotFoundException:
            raise _absent(account_id) from None
        if known.get("DeletedDate") and not options.now:
            raise Failure(f"{_being_deleted(account_id)} --now ends that at once.")
        back = "It cannot be brought back." if options.now else f"It can be restored for {RECOVERY_DAYS} days."
        confirm(options, f"Remove integrated account {account_id}? {back}")
        how = {"ForceDeleteWithoutRecovery": True} if options.now else {"RecoveryWindowInDays": RECOVERY_DAYS}
        vault.delete_secret(SecretId=name, **how)
    tell(f"Removed. Calls that name it fail within {accounts.CACHE_SECONDS} seconds.")


def _read(vault: Any, account_id: str) -> str | bytes:
    """What is stored for an account. Raises NotFound."""
    try:
        found = vault.get_secret_value(SecretId=accounts._secret_name(account_id))
    except vault.exceptions.ResourceNotFoundException:
        raise _absent(account_id) from None
    except vault.exceptions.InvalidRequestException:
        raise NotFound(_being_deleted(account_id)) from None
    text: str | bytes = found.get("SecretString") or found.get("SecretBinary") or ""
    return text


def _absent(account_id: str) -> NotFound:
    return NotFound(f"There is no integrated account {account_id} under {accounts._secret_name('')}.")


def _being_deleted(account_id: str) -> str:
    return f"Integrated account {account_id} is being deleted; `aws secretsmanager restore-secret` brings it back."


def canonical(text: str) -> str | None:
    """A UUID as the functions look for it, None where it is none."""
    try:
        found = str(UUID(text))
    except ValueError:
        return None
    return found if found == text.lower() else None
