"""Drives a provider's flow: sends what it yields, takes back what a failed one created, and says what is true.

Everything here is the same for every provider. What differs between them stands in their files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic, sleep
from typing import Any

from unified_crm import remote_errors
from unified_crm.accounts import Account
from unified_crm.deadline import Deadline
from unified_crm.errors import (
    InvalidRequest,
    PartialFailure,
    ProviderBadReply,
    ProviderError,
    RemoteError,
    Unsupported,
)
from unified_crm.lost_answer import Search
from unified_crm.mapping import Warnings, merge
from unified_crm.models import Pipeline
from unified_crm.provider import Call, Flow, Provider, Record, Reply, Request, Undo
from unified_crm.transport import Observe

RESERVE_SECONDS = 8.0
"""Kept back for taking back what a failed call created, or for looking whether one whose answer was lost did."""
_ATTEMPTS = 3


@dataclass(frozen=True)
class Options:
    """What a caller may choose. `remote_query` are (key, value) pairs as they go out, keys with their brackets."""

    remote_query: tuple[tuple[str, str], ...] = ()
    remote_data: Mapping[str, Any] = field(default_factory=dict)
    skip_unsupported: bool = False


@dataclass(frozen=True)
class Result:
    """What stands at the provider now.

    `unified` holds the unified fields that this provider has, `record` the provider's own form of the same, `raw` its
    last reply. `outcome` is `created`, or `adopted` where the answer to the create was lost and the pipeline found.
    """

    unified: dict[str, Any]
    record: Record
    raw: Any
    warnings: Warnings
    outcome: str


def create_pipeline(
    account: Account,
    values: Mapping[str, Any],
    options: Options,
    deadline: Deadline,
    observe: Observe = lambda _: None,
) -> Result:
    """Create a pipeline with its stages: all of it, or nothing.

    `values` are the unified fields, `entity` among them. Raises InvalidRequest and Unsupported before any call is
    made, a ProviderError where nothing is left at the provider, PartialFailure where something is, and OutcomeUnknown
    where that cannot be told.
    """
    provider, resource = account.provider, account.provider.pipelines
    if resource.create is None:
        raise Unsupported(f"{provider.label} does not let pipelines be created")
    _refuse_credentials(provider.query_credentials, options.remote_query, provider.label)
    values, entity, warnings = _entity(account, values, options.skip_unsupported)
    table = resource.table(entity)
    kept, more = table.check(
        {**values, "remote_data": options.remote_data}, provider.label, skip=options.skip_unsupported
    )
    call = Call(entity, kept, settings=account.settings)
    look = resource.list and Search(resource.list, call, table)
    run = _Run(account, options, deadline, observe, look)
    record = run.drive(resource.create(call))
    unified = pipeline_to_unified(provider, entity, record)
    return Result(unified, record, run.raw, [*warnings, *more], "adopted" if run.adopted else "created")


def _entity(account: Account, values: Mapping[str, Any], skip: bool) -> tuple[dict[str, Any], str, Warnings]:
    """`values` without their entity, the provider's name for it, and a warning where it had to be left out."""
    rest = dict(values)
    wanted = rest.pop("entity", None) or "opportunity"
    entities, label = account.provider.entities, account.provider.label
    if (remote := entities.to_remote(wanted)) is not None:
        return rest, remote, []
    default = next(iter(entities.names))
    problem = f"{label} has no pipelines for {wanted!r}, only for {', '.join(map(repr, entities.names))}"
    if not skip:
        raise Unsupported(f"entity: {problem}")
    return rest, entities.names[default], [{"field": "entity", "message": f"{problem}; it was left out"}]


def _refuse_credentials(names: frozenset[str], query: tuple[tuple[str, str], ...], label: str) -> None:
    for key, _ in query:
        if key.split("[")[0].lower() in names:
            raise InvalidRequest(f"remote_query[{key}]: {label} would take it for a credential")


def pipeline_to_unified(provider: Provider, entity: str, record: Record) -> dict[str, Any]:
    """A provider's pipeline as the unified one, the fields that the provider has, in the contract's order."""
    found = provider.pipelines.table(entity).to_unified(record)
    unified = {**found, "entity": provider.entities.to_unified(entity)}
    unified["stages"] = [{**stage, "pipeline": {"id": unified["id"]}} for stage in unified.get("stages") or []]
    return {name: unified[name] for name in Pipeline.model_fields if name in unified}


class _Run:
    """One flow, driven to its end."""

    def __init__(
        self, account: Account, options: Options, deadline: Deadline, observe: Observe, look: Search | None
    ) -> None:
        self._provider = account.provider
        self._transport = account.transport(observe)
        self._options = options
        self._whole = deadline
        self._forward = deadline.keep(min(RESERVE_SECONDS, deadline.left() * 0.4))
        self._look = look
        self._undos: list[Undo] = []
        self._steps = 0
        self.raw: Any = None
        self.adopted = False

    def drive(self, flow: Flow) -> Any:
        """The flow's result. Where it fails, what it created is deleted again before the error goes on."""
        try:
            return self._advance(flow, self._step)
        except ProviderError as error:
            failure = error
        self._take_back(failure)
        raise failure

    def _advance(self, flow: Flow, step: Callable[[Request], Reply]) -> Any:
        """Run `flow`, each request through `step`; errors are the flow's to catch first."""
        try:
            request = next(flow)
            while True:
                try:
                    reply = step(request)
                except ProviderError as error:
                    request = flow.throw(error)
                else:
                    request = flow.send(reply)
        except StopIteration as stop:
            return stop.value
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ProviderBadReply(f"{self._provider.label}'s answer was not of the form it documents.") from error

    def _step(self, request: Request) -> Reply:
        self._steps += 1
        request = self._with_escapes(request)
        started = monotonic()
        try:
            reply = self._exchange(request, self._forward)
            self._remember_undo(request, reply)
        except ProviderError as error:
            if request.fallback is not None:
                return _reply(request.fallback)
            if not (error.may_have_acted and request.main and request.undo and self._look):
                raise
            reply = _reply(self._look.find(self, request, error, started))
            self.adopted = True
            self._remember_undo(request, reply)
        else:
            if request.fallback is not None and not _shows(reply, request.fallback):
                return _reply(request.fallback)
        self.raw = reply.content()
        return reply

    def _with_escapes(self, request: Request) -> Request:
        """The caller's `remote_query` and `remote_data`, last, on the call that they belong to."""
        if not request.main:
            return request
        names = {key for key, _ in self._options.remote_query}
        query = (*(pair for pair in request.query if pair[0] not in names), *self._options.remote_query)
        body = request.json
        if self._options.remote_data and body is not None:
            whole = [merge(body[0], self._options.remote_data)] if isinstance(body, list) else None
            body = whole or merge(body, self._options.remote_data)
        return replace(request, query=query, json=body)

    def _remember_undo(self, request: Request, reply: Reply) -> None:
        if request.undo is None:
            return
        try:
            undo = request.undo(reply)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ProviderBadReply(f"{self._provider.label} did not say what it created.") from error
        if not undo.id:
            raise ProviderBadReply(f"{self._provider.label} did not say what it created.")
        self._undos.append(undo)

    def _exchange(self, request: Request, deadline: Deadline) -> Reply:
        reply = self._transport.send(request, deadline)
        if reply.status >= 400:
            raise remote_errors.explain(self._provider, reply)
        return reply

    def ask(self, flow: Flow) -> tuple[Any, Mapping[str, str]]:
        """A read beside the flow, in the time kept back: its result, and the headers of its last reply."""
        headers: dict[str, str] = {}

        def step(request: Request) -> Reply:
            reply = self._exchange(request, self._whole)
            headers.update(reply.headers)
            return reply

        return self._advance(flow, step), headers

    def wait(self, seconds: float) -> bool:
        """Sleep, if there is then still time for a call; whether there was."""
        if self._whole.left() < seconds + 0.5:
            return False
        sleep(seconds)
        return True

    def _take_back(self, failure: ProviderError) -> None:
        """Delete what was created, newest first. Raises PartialFailure where something stays."""
        if not self._undos:
            return
        made = [{"resource": each.resource, "id": each.id, "name": each.name} for each in reversed(self._undos)]
        left = [which for which, undo in zip(made, reversed(self._undos), strict=True) if not self._undone(undo)]
        names = ", ".join(f"{each['resource']} {each['id']}" for each in left or made)
        where = f"Step {self._steps} failed: {failure.message}"
        if left:
            raise PartialFailure(
                f"{where} What was created before could not be deleted again: {names} is left behind.",
                leftovers=left,
                details=failure.details,
            ) from failure
        failure.message = f"{where} Nothing is left behind: {names} was deleted again."
        failure.details["rolled_back"] = made

    def _undone(self, undo: Undo) -> bool:
        """Whether `undo` succeeded, after some attempts: a late effect of the failed step can stand in its way."""

        def step(request: Request) -> Reply:
            try:
                return self._exchange(request, self._whole)
            except RemoteError as error:
                if request.method == "DELETE" and error.code == "not_found":
                    return Reply(204, {}, b"")
                raise

        for attempt in range(_ATTEMPTS):
            try:
                self._advance(undo.flow(), step)
            except ProviderError as error:
                if isinstance(error, RemoteError) and error.code == "not_found":
                    return True
                pause = error.headers.get("retry-after") or 0.3 * 2**attempt
                if not self.wait(float(pause)):
                    return False
            else:
                return True
        return False


def _reply(record: Any) -> Reply:
    return Reply(200, {}, json.dumps(record).encode())


def _shows(reply: Reply, record: Mapping[str, Any]) -> bool:
    """Whether a read answered with the thing that was asked for."""
    try:
        return reply.object().get("id") == record.get("id")
    except ProviderBadReply:
        return False
