"""From a command line to a command, and from an error to one sentence."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError

from unified_crm import providers
from unified_crm.admin import aws
from unified_crm.admin.accounts import (
    RECOVERY_DAYS,
    add_account,
    canonical,
    check_account,
    list_accounts,
    remove_account,
)
from unified_crm.admin.console import Failure, tell
from unified_crm.admin.tokens import PREFIX_LETTERS, create_token, list_tokens, revoke_token
from unified_crm.credentials import KINDS
from unified_crm.errors import UnifiedError
from unified_crm.provider import Provider

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. The exit code; a command line that cannot be read raises SystemExit(2), as argparse does."""
    options = _options(arguments)
    # Two settings are read elsewhere too: boto3 knows the one by another name, accounts.load reads the other.
    if region := os.environ.get("AWS_REGION"):
        os.environ["AWS_DEFAULT_REGION"] = region
    if getattr(options, "prefix", None) is not None:
        os.environ["ACCOUNTS_SECRET_PREFIX"] = options.prefix
    try:
        options.run(options)
    except Failure as failure:
        tell(failure.message)
        return failure.code
    except UnifiedError as error:
        tell(error.message)
        return 1
    except ClientError as error:
        tell(aws.refusal(error))
        return 1
    except BotoCoreError as error:
        tell(aws.fault(error))
        return 1
    except UnicodeDecodeError:
        tell("Standard input is not UTF-8.")
        return 1
    except KeyboardInterrupt:
        tell("")
        return 130
    return 0


_EXACT: dict[str, Any] = {"allow_abbrev": False}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As ever, but for what was typed in: it may be a secret."""
        super().error(re.sub(r"""(['"]).*\1""", "…", message))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m unified_crm.admin", description="Integrated accounts and tokens.", **_EXACT)
    nouns = parser.add_subparsers(required=True, metavar="accounts | tokens")
    _account_commands(nouns)
    _token_commands(nouns)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        names = [found[0] for each in unknown if (found := re.match("--[a-z-]{1,30}(?==|$)", each))]
        what = f"{', '.join(names) or 'a word'} is not known here"
        parser.error(f"{what}. A secret is never an argument: it is asked for, or read from standard input")
    return options


def _account_commands(nouns: Any) -> None:
    noun = nouns.add_parser("accounts", help="integrated accounts: add, list, check, remove", **_EXACT)
    verbs = noun.add_subparsers(required=True, metavar="add | list | check | remove")

    def command(name: str, run: Any, about: str) -> Any:
        verb = verbs.add_parser(name, help=about, description=about, **_EXACT)
        verb.set_defaults(run=run)
        verb.add_argument("--prefix", help="of the secrets' names; else ACCOUNTS_SECRET_PREFIX, else unified-crm")
        return verb

    add = command("add", add_account, "Stores an account; asks for its secrets, and prints its id.")
    add.add_argument("--provider", required=True, type=_provider, help=", ".join(providers.names()))
    add.add_argument("--tenant", required=True, type=_word)
    add.add_argument("--id", type=_uuid, help="a UUID; else a new one")
    add.add_argument("--setting", action="append", default=[], type=_pair, metavar="NAME=VALUE")
    add.add_argument("--type", type=_kind, help=f"of credentials: {', '.join(KINDS)}")
    add.add_argument("--replace", action="store_true", help="give the account --id new credentials and settings")
    add.add_argument("--kms-key", help="the key that encrypts the secret; else the AWS account's own")

    list_ = command("list", list_accounts, "Lists accounts, without their secrets.")
    list_.add_argument("--tenant", type=_word)

    check = command("check", check_account, "Makes one harmless call, and says what is wrong.")
    check.add_argument("id", metavar="ID", type=_name)

    remove = command("remove", remove_account, "Deletes an account, after a question.")
    remove.add_argument("id", metavar="ID", type=_name)
    remove.add_argument("--yes", action="store_true", help="without the question")
    remove.add_argument(
        "--now", action="store_true", help=f"for good; else it can be restored for {RECOVERY_DAYS} days"
    )


def _token_commands(nouns: Any) -> None:
    noun = nouns.add_parser("tokens", help="tokens of callers: create, list, revoke", **_EXACT)
    verbs = noun.add_subparsers(required=True, metavar="create | list | revoke")

    def command(name: str, run: Any, about: str) -> Any:
        verb = verbs.add_parser(name, help=about, description=about, **_EXACT)
        verb.set_defaults(run=run)
        verb.add_argument("--table", help="of tokens; else TOKENS_TABLE, else the stack's own")
        verb.add_argument("--stack", default="unified-crm", help="the CloudFormation stack (%(default)s)")
        return verb

    create = command("create", create_token, "Makes a token and prints it, once.")
    create.add_argument("--tenant", required=True, type=_word)
    create.add_argument(
        "--account", action="append", default=[], type=_uuid, metavar="ID", help="one that it may use; else all"
    )
    create.add_argument("--expires-in", type=_duration, metavar="90d", help="s, m, h, d or w; else never")

    list_ = command("list", list_tokens, "Lists tokens by the beginning of their hashes.")
    list_.add_argument("--tenant", type=_word)

    revoke = command("revoke", revoke_token, "Deletes a token, after a question.")
    revoke.add_argument(
        "which",
        metavar="HASH",
        type=_hash_prefix,
        help=f"the first {PREFIX_LETTERS} letters of its hash, or more; - reads the token itself from standard input",
    )
    revoke.add_argument("--yes", action="store_true", help="without the question")


def _provider(text: str) -> Provider:
    try:
        return providers.load(text)
    except LookupError:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(providers.names())}") from None


def _word(text: str) -> str:
    if not text or text != text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("must be a printable text")
    return text


def _uuid(text: str) -> str:
    found = canonical(text)
    if found is None:
        raise argparse.ArgumentTypeError("must be a UUID")
    return found


def _name(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9/_+=.@-]{1,200}", text):
        raise argparse.ArgumentTypeError("must be an account's id")
    return text


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def _kind(text: str) -> str:
    if text not in KINDS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(KINDS)}")
    return text


def _duration(text: str) -> int:
    found = re.fullmatch(f"([1-9][0-9]{{0,5}})([{''.join(_SECONDS)}])", text)
    if found is None:
        raise argparse.ArgumentTypeError("must be a number and one of s, m, h, d, w, such as 90d")
    return int(found[1]) * _SECONDS[found[2]]


def _hash_prefix(text: str) -> str:
    if text != "-" and not re.fullmatch(f"[0-9a-f]{{{PREFIX_LETTERS},64}}", text):
        raise argparse.ArgumentTypeError(
            f"must be {PREFIX_LETTERS} or more letters of a hash, 0 to 9 and a to f, or - for a token on standard input"
        )
    return text


if __name__ == "__main__":
    sys.exit(main())
