"""No more calls of one account in any second than its provider allows.

This holds in one process. What other functions send at the same time is not known here: that is what the provider's own
429 is for. The environment variable PROVIDER_CALLS_PER_SECOND, a JSON object of provider to number, changes what the
provider's file says, where an account's plan has another measure; 0 is no measure.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from time import monotonic, sleep

from unified_crm.deadline import Deadline
from unified_crm.errors import InternalError, ProviderTimeout
from unified_crm.provider import Provider

_WINDOW_SECONDS = 1.05
"""A little more than the second that is counted, since calls do not travel equally fast."""
_REMEMBERED = 1000


class _Turn:
    """When a call may have arrived at the latest: when it began, as long as it has not been answered."""

    def __init__(self, moment: float) -> None:
        self.moment = moment


class Pace:
    """Lets at most `calls` arrive in any second.

    Each counts from its answer on, since how long it took to arrive is not known: a first call can take a while to
    connect, and then arrive together with those behind it.
    """

    def __init__(self, calls: int) -> None:
        self._turns: deque[_Turn] = deque(maxlen=calls)
        self._lock = Lock()

    @contextmanager
    def turn(self, deadline: Deadline, label: str) -> Iterator[None]:
        """Wait for the turn of one more call, which ends with its answer.

        Raises ProviderTimeout at once where that would be too late.
        """
        turn = self._wait(deadline, label)
        try:
            yield
        finally:
            turn.moment = monotonic()

    def _wait(self, deadline: Deadline, label: str) -> _Turn:
        with self._lock:
            now = monotonic()
            full = len(self._turns) == self._turns.maxlen
            moment = max(now, self._turns[0].moment + _WINDOW_SECONDS) if full else now
            if moment - now >= deadline.left():
                raise ProviderTimeout(
                    f"{label} takes no more calls of this account in the time there was.", may_have_acted=False
                )
            turn = _Turn(moment)
            self._turns.append(turn)
        if moment > now:
            sleep(moment - now)
        return turn


_PACES: OrderedDict[tuple[str, ...], Pace] = OrderedDict()
_LOCK = Lock()


def of(provider: Provider, *account: str) -> Pace | None:
    """The pace of an account at a provider, None where there is no measure."""
    calls = _overridden(os.environ.get("PROVIDER_CALLS_PER_SECOND") or "{}").get(
        provider.name, provider.rate_limit.pace
    )
    if not calls:
        return None
    with _LOCK:
        key = (provider.name, str(calls), *account)
        pace = _PACES.pop(key, None) or Pace(calls)
        _PACES[key] = pace
        if len(_PACES) > _REMEMBERED:
            _PACES.popitem(last=False)
    return pace


def forget() -> None:
    """No call has been sent by this process."""
    with _LOCK:
        _PACES.clear()


@cache
def _overridden(text: str) -> dict[str, int]:
    try:
        paces = json.loads(text)
        usable = all(type(each) is int and each >= 0 for each in paces.values())
    except (ValueError, AttributeError):
        usable = False
    if not usable:
        raise InternalError("PROVIDER_CALLS_PER_SECOND must be a JSON object of provider name to a whole number")
    return dict(paces)
