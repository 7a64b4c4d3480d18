"""Finds out whether a create whose answer was lost happened all the same."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any, NamedTuple, Protocol

from unified_crm.errors import OutcomeUnknown, ProviderError, RemoteError
from unified_crm.mapping import Table
from unified_crm.provider import Call, Flow, Pipelines, Record, Request

_CLOCK_SLACK = timedelta(seconds=2)
"""`Date` counts whole seconds."""
_CLOCK_DOUBT = timedelta(seconds=10)
"""By so much a provider's own clocks may differ: what was made just before the call is nobody's for certain."""


class Asker(Protocol):
    """What can read at the provider, in the time that is kept back for it."""

    def ask(self, flow: Flow) -> tuple[Any, Mapping[str, str]]:
        """A read flow's result, and the headers of its last reply."""

    def wait(self, seconds: float) -> bool:
        """Sleep, if there is then still time for a call; whether there was."""


class Search(NamedTuple):
    """Looks through what there is, by the provider's list flow, for what the lost create made.

    Ours is a pipeline of the name that was sent, that came into being since, and has no stage that was not asked for
    but those that the provider is known to add. Found once, it is adopted. No pipeline of that name, or only older
    ones: it did not happen. Anything else: nobody can tell.
    """

    pipelines: Pipelines
    call: Call
    table: Table

    def find(self, run: Asker, request: Request, error: ProviderError, started: float) -> Record:
        """The record that the lost create made. Raises `error` where it made none, else OutcomeUnknown."""
        listing = self.pipelines.list
        if listing is None:
            raise unknown(error, "there is no way to look for it") from error
        sent = self.table.to_unified(self.table.opened(request.json))
        stages = {_plain(stage.get("name")) for stage in sent.get("stages") or []}
        known = {*stages, *map(_plain, self.pipelines.ready_made)}
        # Where the provider did answer, it is done with the request; where it did not, it may be at it still.
        late = self.pipelines.lag or (0.0 if isinstance(error, RemoteError) else 1.0)
        for pause in (0.0, late) if late else (0.0,):
            enough = not pause or run.wait(pause) or (not self.pipelines.lag and run.wait(pause / 10))
            if not enough:
                raise unknown(error, "there was no time to look again, and it may be at work still") from error
            try:
                records, headers = run.ask(listing(self.call))
            except ProviderError as other:
                raise unknown(error, f"looking for it failed: {other.message}") from error
            since = _provider_time(headers) - timedelta(seconds=monotonic() - started) - _CLOCK_SLACK
            unified = map(self.table.to_unified, records)
            named = [each for each in unified if _plain(each.get("name")) == _plain(sent.get("name"))]
            ages = [_age(each, since) for each in named]
            ours = [
                each for each, age in zip(named, ages, strict=True) if age == "new" and self._fits(each, known, stages)
            ]
            if len(ours) == 1 and ages.count("old") == len(ages) - 1:
                adopted: Record = next(each for each in records if self.table.to_unified(each)["id"] == ours[0]["id"])
                return adopted
            if ages.count("old") < len(ages) and not (
                self.pipelines.lag and not pause
            ):  # it may show more a little later
                raise unknown(error, "a pipeline of this name is there and cannot be told from one made by others")
        raise error

    def _fits(self, found: Mapping[str, Any], known: set[str], sent: set[str]) -> bool:
        """Whether its stages are those that were sent, or some of them where the rest is made afterwards."""
        shown = {_plain(stage.get("name")) for stage in found.get("stages") or []}
        return shown <= known and (self.pipelines.settles or not self.pipelines.lag or len(shown) >= len(sent))


def _plain(name: Any) -> str:
    """Without regard to case and white space around it, with which a provider may have stored it."""
    return str(name).strip().casefold()


def _age(found: Mapping[str, Any], since: datetime) -> str:
    """`new`: made since the call began; `old`: certainly before; `unclear`: clocks may differ, or there is no time."""
    created = found.get("created_at")
    if created is None:
        return "unclear"
    time = datetime.fromisoformat(created)
    return "new" if time >= since else "old" if time < since - _CLOCK_DOUBT else "unclear"


def unknown(error: ProviderError, why: str) -> OutcomeUnknown:
    """The error for a create of which nobody can tell whether it happened."""
    return OutcomeUnknown(
        f"{error.message} Whether the pipeline was created is not known: {why}. "
        "List the pipelines before sending this again.",
        details=error.details,
        insight=error.insight,
    )


def _provider_time(headers: Mapping[str, str]) -> datetime:
    """The provider's clock by its `Date`, so that no two clocks are compared; ours where it has none."""
    try:
        return parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, ValueError):
        return datetime.now(UTC)
