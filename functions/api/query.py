"""Query strings with brackets: `a[b][c]=1`, `k[]=x&k[]=y`, `k[0]=x&k[1]=y`, raw or percent-encoded.

The raw query string is read, since API Gateway's parsed form joins repeated keys with commas.
"""

import re
from collections.abc import KeysView
from typing import NamedTuple
from urllib.parse import unquote_plus

from unified_crm.errors import InvalidRequest

MAX_BYTES = 8 * 1024
MAX_PAIRS = 100
MAX_DEPTH = 5

_KEY = re.compile(r"([^\[\]]*)((?:\[[^\[\]]*\])*)")


class Pair(NamedTuple):
    """`a[b][]=c` as name `a`, path `("b", "")` and value `c`. `path` is None where the brackets do not match."""

    name: str
    path: tuple[str, ...] | None
    value: str


class Query:
    """The parameters of one request. Each method raises InvalidRequest naming the parameter that is wrong."""

    def __init__(self, raw: str) -> None:
        """`raw` is the query string as it was sent, without `?`."""
        try:
            length = len(raw.encode())
        except UnicodeEncodeError:
            raise InvalidRequest("The query string is not UTF-8") from None
        if length > MAX_BYTES:
            raise InvalidRequest(f"The query string is longer than {MAX_BYTES} bytes")
        pieces = [piece for piece in raw.split("&") if piece]
        if len(pieces) > MAX_PAIRS:
            raise InvalidRequest(f"The query string has more than {MAX_PAIRS} parameters")
        self._pairs: dict[str, list[Pair]] = {}
        for piece in pieces:
            pair = _pair(piece)
            self._pairs.setdefault(pair.name, []).append(pair)

    @property
    def names(self) -> KeysView[str]:
        """The names of all parameters, without their brackets."""
        return self._pairs.keys()

    def text(self, name: str) -> str | None:
        """A parameter that is given once, without brackets."""
        if name not in self._pairs:
            return None
        found = self._named(name)
        if len(found) > 1 or found[0].path != ():
            raise InvalidRequest(f"{name} must be given once, as {name}=…")
        return found[0].value

    def array(self, name: str) -> list[str]:
        """A parameter that is given any number of times: comma-separated, with `[]` or with indexes."""
        plain: list[str] = []
        indexed: list[tuple[int, str]] = []
        for pair in self._named(name):
            match pair.path:
                case ():
                    plain += [each.strip() for each in pair.value.split(",") if each.strip()]
                case ("",):
                    plain.append(pair.value)
                case (index,) if re.fullmatch(r"[0-9]{1,4}", index):
                    indexed.append((int(index), pair.value))
                case _:
                    raise InvalidRequest(f"{name} must be a list: {name}[]=… or {name}[0]=…")
        return plain + [value for _, value in sorted(indexed, key=lambda each: each[0])]

    def nested(self, name: str) -> tuple[tuple[str, str], ...]:
        """An object, as the (key, value) pairs by which it would be sent on: `name[a][b][]=c` is `("a[b][]", "c")`."""
        pairs = []
        for pair in self._named(name):
            if not pair.path or not pair.path[0]:
                raise InvalidRequest(f"{name} must be an object: {name}[key]=…")
            key = pair.path[0] + "".join(f"[{each}]" for each in pair.path[1:])
            if re.search(r"[\x00\r\n]", key + pair.value):
                raise InvalidRequest(f"{name} must not hold line breaks")
            pairs.append((key, pair.value))
        return tuple(pairs)

    def fields(self, name: str, known: tuple[str, ...]) -> dict[str, str]:
        """An object with some of the `known` keys, each at most once: `created_at[gt]=…`."""
        found: dict[str, str] = {}
        for pair in self._named(name):
            key = pair.path[0] if pair.path and len(pair.path) == 1 else ""
            if key not in known or key in found:
                raise InvalidRequest(
                    f"{name} must be given as {', '.join(f'{name}[{each}]' for each in known)}, each once"
                )
            found[key] = pair.value
        return found

    def _named(self, name: str) -> list[Pair]:
        found = self._pairs.get(name, [])
        if found and any(pair.path is None for pair in found):
            raise InvalidRequest(f"{name} has brackets that do not match")
        return found


def _pair(piece: str) -> Pair:
    raw_key, _, raw_value = piece.partition("=")
    try:
        key, value = unquote_plus(raw_key, errors="strict"), unquote_plus(raw_value, errors="strict")
    except UnicodeDecodeError:
        raise InvalidRequest("The query string is not UTF-8") from None
    if key.count("[") > MAX_DEPTH:
        raise InvalidRequest(f"{key.partition('[')[0]} is nested deeper than {MAX_DEPTH}")
    found = _KEY.fullmatch(key)
    if found is None:
        return Pair(key.partition("[")[0], None, value)
    return Pair(found[1], tuple(re.findall(r"\[([^\[\]]*)\]", found[2])), value)
