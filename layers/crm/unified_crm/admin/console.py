"""Asking and telling: a terminal's, or lines of standard input."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


class Failure(Exception):
    """Something that the operator is told in one sentence, and the exit code that goes with it."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.message, self.code = message, code


@dataclass(frozen=True)
class Question:
    """What is asked for, by its dotted name. The answer to a `secret` one is not seen while it is typed."""

    name: str
    about: str
    secret: bool = False
    required: bool = True


def ask(questions: Sequence[Question]) -> dict[str, str]:
    """The answers by name, without those that were left empty."""
    if not sys.stdin.isatty():
        order = ", ".join(each.name + ("" if each.required else " (may be empty)") for each in questions)
        tell(f"Reading from standard input, one line each: {order}")
    answers = {each.name: _answer(each) for each in questions}
    return {name: text for name, text in answers.items() if text}


def _answer(question: Question) -> str:
    """What is typed, or read, without white space around it. A required answer that is empty is asked for again."""
    about = "; ".join(filter(None, [question.about, "" if question.required else "empty for none"]))
    prompt = f"{question.name}{f' ({about})' if about else ''}: "
    while True:
        try:
            text = (_typed(prompt, question.secret) if sys.stdin.isatty() else _line()).strip()
        except EOFError:
            text = ""
            if question.required or sys.stdin.isatty():
                raise Failure(f"Nothing was done: {question.name} was not given.") from None
        if text or not question.required:
            return text
        if not sys.stdin.isatty():
            raise Failure(f"Nothing was done: {question.name} is empty.")


def _typed(prompt: str, secret: bool) -> str:
    if secret:
        return getpass.getpass(prompt)
    tell(prompt, end="")
    return _line()


def _line() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def confirm(options: argparse.Namespace, question: str) -> None:
    """Ask, unless `options.yes`. Raises Failure where the answer is not yes, or nobody is there."""
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise Failure("Nobody can be asked here: add --yes.", 2)
    tell(f"{question} [y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure("Nothing was changed.")


def show_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Rows below their header, in columns."""
    if not rows:
        tell("There are none.")
        return
    lines = [tuple(map(printable, row)) for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        show("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def utc(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def show(line: str) -> None:
    """A line of what was asked for."""
    sys.stdout.write(printable(line) + "\n")


def tell(line: str, end: str = "\n") -> None:
    """What is said beside it."""
    sys.stderr.write(printable(line) + end)
    sys.stderr.flush()


def printable(text: str) -> str:
    """Without what a terminal would obey: some of it was written by a provider."""
    return "".join(each if each.isprintable() else " " for each in text)
