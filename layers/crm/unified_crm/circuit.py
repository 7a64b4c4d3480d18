"""A circuit for each address of a provider: after a run of failures it is not called for a while.

This is Powertools' circuit breaker with its state in this process: a call to DynamoDB for each call to a provider would
cost more than it saves, and each function finds out by itself within some calls. It is asked from an address's first
failure on: before that it has nothing to count. Accounts whose providers give them hosts of their own share no circuit,
so that a host that is down takes no others along.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from unified_crm.errors import ProviderError, ProviderTimeout, ProviderUnreachable, RemoteError
from unified_crm.provider import Reply

if TYPE_CHECKING:
    from unified_crm.breaker import Breaker

FAILURES = 8
SECONDS = 10
DOWN = frozenset({502, 503, 504})
"""The statuses by which a provider, or what stands in front of it, says that it is out of order."""


def down(error: BaseException) -> bool:
    """Whether an error means that the provider is out of order, for whatever account and call."""
    if isinstance(error, RemoteError):
        return error.remote_status in DOWN and error.code != "rate_limited"
    # A timeout of which it is certain that nothing happened is ours: there was no time left to call at all.
    return isinstance(error, ProviderUnreachable) or (isinstance(error, ProviderTimeout) and error.may_have_acted)


class Circuits:
    """Circuits that open after `failures` in a row, for `seconds`; then one call tries whether it is over.

    Time is counted in whole seconds. Each circuit has a name of its own, in the whole process.
    """

    def __init__(self, failures: int = FAILURES, seconds: int = SECONDS) -> None:
        self._limits = (failures, seconds)
        self._failing: set[str] = set()

    def call(self, name: str, label: str, send: Callable[[], Reply], *, always: bool = False) -> Reply:
        """What `send` gives, through the circuit `name`, which counts how it ends.

        Raises what `send` raises, and CircuitOpen in its place while the circuit is open; `always` sends even then.
        """
        if name in self._failing:
            return self._breaker.call(name, label, send, always=always)
        try:
            return send()
        except ProviderError as error:
            if down(error):
                self._failing.add(name)
                self._breaker.count(name, error)
            raise

    @cached_property
    def _breaker(self) -> Breaker:
        """Imported for the first failure: it brings boto3 along, which takes a tenth of a cold start."""
        from unified_crm.breaker import Breaker

        return Breaker(*self._limits)


SHARED = Circuits()
