"""The commands about tokens. The table keeps a token's SHA-256, as functions/authorizer reads it."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from time import time
from typing import Any

from unified_crm.admin import aws
from unified_crm.admin.console import Failure, Question, ask, confirm, show, show_table, tell, utc

PREFIX_LETTERS = 8
"""The fewest letters of a token's hash that name it."""
_SHOWN_LETTERS = 12


def create_token(options: argparse.Namespace) -> None:
    """Make a random token, store its hash, and print it: the only time that it can be seen."""
    token = secrets.token_urlsafe(32)
    item: dict[str, Any] = {"token_hash": _hash(token), "tenant": options.tenant}
    if options.expires_in is not None:
        item["expires_at"] = int(time()) + options.expires_in
    if options.account:
        item["accounts"] = sorted(set(options.account))
    with _tokens(options) as table:
        table.put_item(Item=item)
    until = utc(item["expires_at"]) if "expires_at" in item else "it is revoked"
    tell(f"A token of tenant {options.tenant}, good until {until}; it is not shown again.")
    show(token)


def list_tokens(options: argparse.Namespace) -> None:
    """Every token, or a tenant's: the beginning of its hash, its tenant, when it ends, which accounts it may use."""
    with _tokens(options) as table:
        items = sorted(_scan(table), key=lambda item: (str(item.get("tenant")), item["token_hash"]))
    rows: list[tuple[str, ...]] = [
        (
            item["token_hash"][:_SHOWN_LETTERS],
            str(item.get("tenant", "-")),
            _ends(item.get("expires_at")),
            "all" if item.get("accounts") is None else ",".join(sorted(map(str, item["accounts"]))) or "none",
        )
        for item in items
        if options.tenant in (None, item.get("tenant"))
    ]
    show_table(("HASH", "TENANT", "EXPIRES", "ACCOUNTS"), rows)


def revoke_token(options: argparse.Namespace) -> None:
    """Delete a token's item, found by the token itself on standard input, or by the beginning of its hash."""
    start = options.which
    if start == "-":
        start = _hash(ask([Question("token", "", secret=True)])["token"])
    with _tokens(options) as table:
        found = [item for item in _scan(table) if item["token_hash"].startswith(start)]
        if not found:
            raise Failure("There is no such token.")
        if len(found) > 1:
            raise Failure(f"{len(found)} tokens begin like that; give more letters.")
        (item,) = found
        shown = f"{item['token_hash'][:_SHOWN_LETTERS]} of tenant {item.get('tenant', '-')}"
        confirm(options, f"Revoke token {shown}?")
        table.delete_item(Key={"token_hash": item["token_hash"]})
    tell(f"Revoked {shown}. API Gateway may let it in for another minute.")


def _hash(token: str) -> str:
    return sha256(token.encode("utf-8", "replace")).hexdigest()


def _ends(expires_at: Any) -> str:
    if expires_at is None:
        return "never"
    try:
        return utc(float(expires_at)) + (" (expired)" if expires_at <= time() else "")
    except (ValueError, TypeError, OverflowError, OSError):
        return "malformed"


def _scan(table: Any) -> Iterator[dict[str, Any]]:
    pages = table.meta.client.get_paginator("scan").paginate(TableName=table.name)
    yield from (item for page in pages for item in page["Items"])


@contextmanager
def _tokens(options: argparse.Namespace) -> Iterator[Any]:
    name = options.table or os.environ.get("TOKENS_TABLE") or aws.output(options.stack, "TokensTableName")
    table = aws.table(name)
    try:
        with closing(table.meta.client) as client:
            yield table
    except client.exceptions.ResourceNotFoundException:
        raise Failure(f"There is no table {name} in this AWS account and region.") from None
