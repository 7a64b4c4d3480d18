"""Powertools' circuit breaker with its state in this process. `circuit` says when it is asked, and why it is here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from math import ceil
from threading import Lock
from time import time

from aws_lambda_powertools.utilities.circuit_breaker import CircuitBreakerConfig, CircuitInfo, CircuitState
from aws_lambda_powertools.utilities.circuit_breaker import circuit_breaker as breaker
from aws_lambda_powertools.utilities.circuit_breaker.persistence import CircuitBreakerPersistenceLayer
from aws_lambda_powertools.utilities.circuit_breaker.persistence.base import CircuitBreakerExistingLockError
from aws_lambda_powertools.utilities.circuit_breaker.persistence.record import CircuitStateRecord

from unified_crm.circuit import down
from unified_crm.errors import CircuitOpen, ProviderError, RemoteError
from unified_crm.provider import Reply


class _Config(CircuitBreakerConfig):
    def counts_as_failure(self, exception: Exception) -> bool:
        return down(exception)


class _Memory(CircuitBreakerPersistenceLayer):
    """The state of circuits, as long as the process lives. There is a record only of those that were open once."""

    def __init__(self) -> None:
        super().__init__()
        self._records: dict[str, CircuitStateRecord] = {}
        self._electing = Lock()

    def _get_record(self, name: str) -> CircuitStateRecord | None:
        return self._records.get(name)

    def _put_record(
        self, record: CircuitStateRecord, condition: str | None = None, expected_opened_at: int | None = None
    ) -> None:
        with self._electing:
            if condition == "half_open" and not self._may_try(self._records[record.name], expected_opened_at):
                raise CircuitBreakerExistingLockError
            self._records[record.name] = record

    def _may_try(self, held: CircuitStateRecord, opened_at: int | None) -> bool:
        if held.state == CircuitState.HALF_OPEN:
            return held.probe_lease_expiry is not None and held.probe_lease_expiry <= time()
        return held.state == CircuitState.OPEN and held.opened_at == opened_at

    def _update_record(self, record: CircuitStateRecord) -> None:
        self._put_record(record)


class Breaker:
    """Circuits that open after `failures` in a row, for `seconds`; then one call tries whether it is over."""

    def __init__(self, failures: int, seconds: int) -> None:
        self._seconds = seconds
        self._config = _Config(
            failure_threshold=failures, recovery_timeout=seconds, success_threshold=1, local_cache_max_age=0
        )
        self._store = _Memory()

    def call(self, name: str, label: str, send: Callable[[], Reply], *, always: bool = False) -> Reply:
        """What `send` gives, through the circuit `name`, which counts how it ends.

        Raises what `send` raises, and CircuitOpen in its place while the circuit is open; `always` sends even then.
        """

        def outcome() -> Reply | ProviderError:
            try:
                return send()
            except RemoteError as error:
                if down(error):
                    raise
                return error  # it refused, so it is there: that ends a run of failures

        def refuse(circuit: CircuitInfo) -> Reply | ProviderError:
            if always:
                return send()
            seconds = max(1, ceil((circuit.opened_at or 0) + self._seconds - time()))
            raise CircuitOpen(f"{label} has failed too often just now and was not called.", seconds)

        guard = breaker(name, self._store, on_circuit_open=refuse, config=self._config)
        found: Reply | ProviderError = guard(outcome)()
        if isinstance(found, ProviderError):
            raise found
        return found

    def count(self, name: str, failure: ProviderError) -> None:
        """Count how a call ended that was sent without asking, even if others have opened the circuit meanwhile."""
        traceback = failure.__traceback__  # where it comes from, which is not here
        guard = breaker(name, self._store, on_circuit_open=_say_nothing, config=self._config)
        with suppress(ProviderError):
            guard(_fail)(failure)
        failure.__traceback__ = traceback


def _fail(failure: ProviderError) -> None:
    raise failure


def _say_nothing(_: ProviderError, *, circuit: CircuitInfo) -> None:
    pass
