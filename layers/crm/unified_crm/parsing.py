"""JSON as providers write it: read strictly, and with the text of each record where a list of them comes first.

A list shows its records to callers as they came. To write again what was just read takes a tenth of a long list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

MAX_LETTERS = 4 * 1024 * 1024
"""Longer ones are not shown whole, and their texts would only take room."""
_LIST = re.compile(r'\{(?:"\w+":(?:true|false|null|\d+|"\w*"),)*"(\w+)":\[(?=\{)')
"""The beginning of an object whose first list holds objects, written without white space."""


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    """JSON has no infinity, so an answer that holds one could not be passed on."""
    value = float(text)
    return value if isfinite(value) else _refuse(text)


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
Texts = Mapping[int, tuple[Any, str]]
"""By a record's `id()`, the record, so that no other gets this id, and its JSON: compact, ASCII, without escapes."""


def parse(text: str) -> tuple[Any, Texts]:
    """The value, and the texts of its records, where they are known.

    Raises ValueError or RecursionError where it is no JSON.
    """
    if len(text) <= MAX_LETTERS and (begin := _LIST.match(text)):
        try:
            return _parse_list(text, begin[1], begin.end())
        except ValueError:
            pass  # not as it began: read as a whole, which tells what is wrong, if anything is
    return _DECODER.decode(text), {}


def _parse_list(text: str, key: str, at: int) -> tuple[Any, Texts]:
    records: list[Any] = []
    texts: dict[int, tuple[Any, str]] = {}
    begin = at
    while True:
        record, end = _DECODER.raw_decode(text, at)
        records.append(record)
        written = text[at:end]
        # Behind an escape could be what was redacted, in a key that is said twice and so read once.
        if written.isascii() and "\\" not in written:
            texts[id(record)] = record, written
        if len(records) == 1 and '": ' in written:
            raise ValueError("not compact")
        if text[end : end + 2] != ",{":
            break
        at = end + 1
    # What stands around the records is read as objects of its own.
    value, rest = _DECODER.decode(text[:begin] + "]}"), text[end:]
    if rest != "]}" and not rest.startswith('],"'):
        raise ValueError("another form")
    after = {} if rest == "]}" else _DECODER.decode("{" + rest[2:])
    if key in after:
        raise ValueError("the key once more")
    value[key] = records
    return value | after, texts
