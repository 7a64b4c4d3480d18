"""What was last written to a pipeline, for providers whose reads lag behind their writes.

Where all stages are written at once, a write that is built on a read from before the last one deletes what that made.
So the answer to a write is remembered for a while, and used where a read is older. This holds in one process; two
functions that change one pipeline within these seconds can still be too fast for such a provider.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from time import monotonic
from typing import Any

from unified_crm.mapping import Table
from unified_crm.provider import Record

SECONDS = 15.0
_REMEMBERED = 1000

_WRITTEN: OrderedDict[tuple[str, ...], tuple[float, Record]] = OrderedDict()
_LOCK = Lock()


def remember(key: tuple[str, ...], record: Record) -> None:
    """`record` is what a write was answered with."""
    with _LOCK:
        _WRITTEN.pop(key, None)
        _WRITTEN[key] = (monotonic(), record)
        if len(_WRITTEN) > _REMEMBERED:
            _WRITTEN.popitem(last=False)


def newer(key: tuple[str, ...], shown: Record, table: Table) -> Record:
    """What a read showed, or what was written since: the one that says that it was updated later."""
    with _LOCK:
        moment, written = _WRITTEN.get(key, (0.0, {}))
    if not written or monotonic() - moment > SECONDS:
        return shown
    return shown if _updated(shown, table) > _updated(written, table) else written


def forget() -> None:
    """Nothing has been written by this process."""
    with _LOCK:
        _WRITTEN.clear()


def _updated(record: Record, table: Table) -> str:
    """RFC 3339 in UTC, so that texts compare as times do; a fraction of a second comes after none."""
    value: Any = table["updated_at"].to_unified(record) if "updated_at" in table else None
    return str(value or "").replace("Z", "")
