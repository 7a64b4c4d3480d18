"""Field tables: one row for each unified field, read in both directions.

    STAGE = Table(
        Field("id", read_only=True),
        Field("name", "label", required=True),
        Field("status", "type", values={"active": "active", "won": "won", "lost": "lost"}),
    )

`to_unified` is lenient: a value that it does not understand is null, and the caller still has `remote_data`. `check`
is strict: what cannot be said is refused before any call is made.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from unified_crm.errors import InvalidRequest, Unsupported

Values = Mapping[str, Any]
Warnings = list[dict[str, str]]
"""`truto_warnings`: [{"field": …, "message": …}]."""
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a converter raises at a value that it does not understand."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Field(NamedTuple):
    """One unified field and where the provider keeps it.

    `remote` is a dotted path in the provider's record, `unified` where None. `required`: the provider refuses to
    create without it. `read_only`: it can be read and not written; `fixed`: it can be written once. `values` is an
    enumeration, {unified: provider's}. `read` and `write` convert one value; `read` wins over `values`; what
    it cannot read is null. `absent` is what it means, in both directions, that nothing is said. `each` is the
    table of a list's items.

    `derive` reads the value from the whole record, where no single field of it is the value: an id that is made of two,
    a status that the provider does not keep. `with_pipeline` are values that a stage can have only when it is made
    along with its pipeline. A time that is not `filterable` is shown, and too unsure to choose by. A list that is
    `apart` is no part of the record's own body: each of its items is written by a call of its own.
    """

    unified: str
    remote: str | None = None
    required: bool = False
    read_only: bool = False
    fixed: bool = False
    values: Mapping[str, Any] | None = None
    read: Callable[[Any], Any] | None = None
    write: Callable[[Any], Any] | None = None
    absent: Any = None
    each: "Table | None" = None
    derive: Callable[[Any], Any] | None = None
    with_pipeline: tuple[Any, ...] = ()
    filterable: bool = True
    apart: bool = False

    @property
    def path(self) -> tuple[str, ...]:
        """Where the provider keeps it, key by key."""
        return tuple((self.remote or self.unified).split("."))

    def remote_value(self, record: Any) -> Any:
        """What a provider's record holds for this field, None where there is nothing."""
        return _get(record, self.path)

    def into(self, record: Values, value: Any) -> dict[str, Any]:
        """A provider's record with `value` in the place of this field. Changes nothing that was given."""
        changed = dict(record)
        inner = changed
        for key in self.path[:-1]:
            inside = inner.get(key)
            inner[key] = dict(inside) if isinstance(inside, Mapping) else {}
            inner = inner[key]
        inner[self.path[-1]] = value
        return changed

    def items(self, record: Any) -> list[dict[str, Any]]:
        """The provider's records in the list that this field is, in their true order."""
        value = self.remote_value(record)
        return self.each.sorted(value) if self.each and isinstance(value, list) else []

    def to_unified(self, record: Values) -> Any:
        """The unified value in a provider's record, None where there is none."""
        if self.derive:
            return _read(self.derive, record)
        value = self.remote_value(record)
        if self.each:
            return self.each.list_to_unified(value if isinstance(value, list) else [])
        if value is None:
            return self.absent
        return value if self._convert is None else _read(self._convert, value)

    @property
    def _convert(self) -> Callable[[Any], Any] | None:
        """From the provider's value to the unified one, None where they are the same."""
        if self.read or self.values is None:
            return self.read
        values = [*self.values.items()]
        try:
            return {remote: unified for unified, remote in reversed(values)}.get  # of two that are the same, the first
        except TypeError:  # values that are objects can be in no dict
            return lambda value: next((unified for unified, remote in values if remote == value), None)

    def to_remote(self, value: Any) -> Any:
        """The provider's value for a unified one, None where nothing is to be written."""
        if self.each:
            return self.each.list_to_remote(value)
        if self.values is not None:
            return self.values[value]
        return self.write(value) if self.write else value


Judge = Callable[[list[dict[str, Any]]], Iterable[tuple[int, str, str]]]
"""Looks at a list that is to be created as a whole: (index, field, problem) for each value that cannot stand there."""


class Table:
    """The fields of one resource at one provider.

    `order` is the key by which a list of its records is sorted, `judge` finds what is wrong with a list and with none
    of its items. `envelope` is the key under which the provider's bodies hold the record; a caller's `remote_data` is
    laid over the whole body, envelope and all.
    """

    def __init__(
        self,
        *fields: Field,
        order: Callable[[Any], Any] | None = None,
        judge: Judge | None = None,
        envelope: str | None = None,
    ) -> None:
        self.fields = fields
        self.order = order
        self.judge = judge
        self.envelope = envelope
        self._by_name = {each.unified: each for each in fields}
        # What `to_unified` needs of each row, looked up once and not for each record. Without a key, the row looks for
        # itself in the whole record.
        self._rows: list[tuple[str, Any, Any, Callable[[Any], Any] | None]] = [
            (each.unified, None, None, each.to_unified)
            if each.derive or each.each or len(each.path) > 1
            else (each.unified, each.path[0], each.absent, each._convert)
            for each in fields
        ]
        self._blank = {each.unified: each.absent for each in fields}
        self._written = [
            (each.unified, each.absent, each.path, each.to_remote if each.each or each.values or each.write else None)
            for each in fields
            if not (each.read_only or each.apart)
        ]
        writable = [each for each in fields if not each.read_only]
        self._telling = None if any(each.derive for each in writable) else [each.path[0] for each in writable]
        self._required = [(each.unified, each.path) for each in fields if each.required]

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __contains__(self, unified: str) -> bool:
        return unified in self._by_name

    def __getitem__(self, unified: str) -> Field:
        return self._by_name[unified]

    def opened(self, body: Any) -> Any:
        """The record in a provider's body, and in the `remote_data` that is laid over one."""
        return _get(body, (self.envelope,)) if self.envelope else body

    def to_unified(self, record: Values) -> dict[str, Any]:
        """A provider's record as a unified one; the fields that this provider does not have are left out."""
        if type(record) is not dict:
            return {each.unified: each.to_unified(record) for each in self.fields}
        found: dict[str, Any] = {}
        get = record.get
        for name, key, absent, convert in self._rows:
            if key is None:
                found[name] = convert(record) if convert else None
                continue
            value = get(key)
            if value is None:
                value = absent
            elif convert is not None:
                try:
                    value = convert(value)
                except _UNREADABLE:
                    value = None
            found[name] = value
        return found

    def is_told(self, record: Values) -> bool:
        """Whether a provider's record says something of every field that can be written."""
        return self._telling is not None and all(key in record for key in self._telling)

    def sorted(self, records: list[Any]) -> list[dict[str, Any]]:
        """A provider's list in its true order. What is no record is left out."""
        found = [each for each in records if isinstance(each, dict)]
        return sorted(found, key=self.order) if self.order else found

    def list_to_unified(self, records: list[Any]) -> list[dict[str, Any]]:
        """A provider's list as unified records in their true order; `position` is the place in it, from 0.

        Row by row and not record by record: what a row takes is found out once. A long list takes a sixteenth less.
        """
        records = self.sorted(records)
        found = [self._blank.copy() for _ in records]
        pairs = list(zip(found, records, strict=True))
        for name, key, _, convert in self._rows:
            if name == "position":
                continue
            if convert is None:
                for each, record in pairs:
                    if (value := record.get(key)) is not None:
                        each[name] = value
            elif key is None:
                for each, record in pairs:
                    each[name] = convert(record)
            else:
                for each, record in pairs:
                    if (value := record.get(key)) is not None:
                        try:
                            each[name] = convert(value)
                        except _UNREADABLE:
                            each[name] = None
        for index, each in enumerate(found):
            each["position"] = index
        return found

    def to_remote(self, values: Values, *, create: bool = True) -> dict[str, Any]:
        """Unified values as a body for the provider. `values` must have passed `check`.

        When something is changed and not created, what was not said stays as it is.
        """
        body: dict[str, Any] = {}
        for name, absent, path, convert in self._written:
            value = values.get(name)
            if value is None and create:
                value = absent
            if value is None:
                continue
            remote = convert(value) if convert else value
            if remote is not None:
                _put(body, path, remote)
        return body

    def item_to_remote(self, values: Values, *, create: bool = True) -> dict[str, Any]:
        """As `to_remote`, with the values' own `remote_data` merged in last."""
        body = self.to_remote(values, create=create)
        extra = self.opened(values.get("remote_data"))
        merged: dict[str, Any] = merge(body, extra) if extra else body
        return merged

    def list_to_remote(self, items: list[Values]) -> list[dict[str, Any]]:
        """Unified list items as the provider's, each with its place in the list as `position`."""
        return [self.item_to_remote({**each, "position": index}) for index, each in enumerate(items)]

    def check(
        self, values: Values, label: str, *, skip: bool = False, create: bool = True, whole: bool = False
    ) -> tuple[dict[str, Any], Warnings]:
        """What of `values` the provider called `label` can be told, and a warning for each field that was left out.

        Raises Unsupported for the first field that the provider cannot express (unless `skip`), and InvalidRequest
        naming every field that the provider requires and neither `values` nor its `remote_data` has. What is
        changed and not created requires nothing; a list's items without an id are created. `whole`: it is created
        along with its list.
        """
        warnings: Warnings = []
        missing: list[str] = []
        kept = self._check(values, "", label, skip, warnings, missing, create, whole)
        if missing:
            verb = "is" if len(missing) == 1 else "are"
            raise InvalidRequest(
                f"{', '.join(missing)} {verb} required by {label}",
                insight={
                    "missing_required_body_fields": {
                        "description": f"{label} cannot create it without these fields.",
                        "value": missing,
                    }
                },
            )
        return kept, warnings

    def _check(
        self,
        values: Values,
        prefix: str,
        label: str,
        skip: bool,
        warnings: Warnings,
        missing: list[str],
        create: bool,
        whole: bool,
    ) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        if prefix and self.envelope and (stray := (values.get("remote_data") or {}).keys() - {self.envelope}):
            raise InvalidRequest(f"{prefix}remote_data: {label} takes nothing but {self.envelope}, not {min(stray)!r}")
        for name, value in values.items():
            if value is None or name == "remote_data" or (name == "id" and not create):
                kept[name] = value
                continue
            row = self._by_name.get(name)
            problem = _problem(row, value, label, alone=create and not whole)
            if problem is None:
                kept[name] = value
                if row and row.each:
                    items = [
                        row.each._check(
                            item,
                            f"{prefix}{name}[{index}].",
                            label,
                            skip,
                            warnings,
                            missing,
                            create or item.get("id") is None,
                            whole,
                        )
                        for index, item in enumerate(value)
                    ]
                    kept[name] = row.each._judged(items, prefix + name, skip, warnings) if whole else items
            elif skip:
                warnings.append({"field": prefix + name, "message": f"{problem}; it was left out"})
            else:
                raise Unsupported(f"{prefix}{name}: {problem}")
        if create:
            extra = self.opened(values.get("remote_data"))
            missing += [
                prefix + name
                for name, path in self._required
                if kept.get(name) in (None, []) and _get(extra, path) is None
            ]
        return kept

    def _judged(self, items: list[dict[str, Any]], name: str, skip: bool, warnings: Warnings) -> list[dict[str, Any]]:
        for index, field, problem in list(self.judge(items)) if self.judge else []:
            where = f"{name}[{index}].{field}"
            if not skip:
                raise Unsupported(f"{where}: {problem}")
            warnings.append({"field": where, "message": f"{problem}; it was left out"})
            items[index] = {key: value for key, value in items[index].items() if key != field}
        return items


def _problem(row: Field | None, value: Any, label: str, *, alone: bool) -> str | None:
    if row is None:
        return f"{label} has no such field"
    if row.read_only:
        return f"{label} does not let it be written"
    if row.values is not None and value not in row.values:
        return f"{label} cannot express {value!r}, only {', '.join(map(repr, row.values))}"
    if alone and value in row.with_pipeline:
        return f"{label} makes a stage {value!r} only along with its pipeline"
    return None


def _read(convert: Callable[[Any], Any], value: Any) -> Any:
    try:
        return convert(value)
    except _UNREADABLE:
        return None


def merge(base: Any, extra: Any) -> Any:
    """`extra` laid over `base`: objects deeply, everything else, lists too, replaced. Changes neither."""
    if not (isinstance(base, Mapping) and isinstance(extra, Mapping)):
        return extra
    return {**base, **{key: merge(base[key], value) if key in base else value for key, value in extra.items()}}


def timestamp(value: Any) -> str | None:
    """A provider's ISO 8601 time as RFC 3339 in UTC with `Z`. One without a zone is UTC already.

    None for what is no time, and for the epoch's zero, with which providers say that they do not know.
    """
    return _timestamp(value) if isinstance(value, str) else None


@lru_cache(4096)  # what came into being together has the same times
def _timestamp(text: str) -> str | None:
    try:
        time = datetime.fromisoformat(text)
        if _as_written(text, time):
            return text
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    if time == _EPOCH:
        return None
    precision = "seconds" if not time.microsecond else "microseconds" if time.microsecond % 1000 else "milliseconds"
    return time.isoformat(timespec=precision).replace("+00:00", "Z")


def _as_written(text: str, time: datetime) -> bool:
    """Whether `text`, which is read as `time`, is what would be written. To write takes ten times as long as this."""
    size, fraction = len(text), time.microsecond
    if size == 20:
        plain = text[4:20:3] == "--T::Z" and time != _EPOCH
    else:
        plain = text[4:20:3] == "--T::." and ((size == 24 and fraction > 0) or (size == 27 and fraction % 1000 > 0))
    return plain and text[-1] == "Z" and (time.hour > 0 or text[11] == "0")  # hour 24 is the next day's


def whole(value: Any) -> int | None:
    """A whole number, also where a provider writes it as a text; None where there is none."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def value_at(record: Any, path: str) -> Any:
    """What stands at a dotted path, None where nothing does."""
    return _get(record, tuple(path.split(".")))


def _get(record: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if type(record) is not dict and not isinstance(record, Mapping):  # the second takes ten times as long
            return None
        record = record.get(key)
    return record


def _put(body: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        body = body.setdefault(key, {})
    body[path[-1]] = value
