"""Drives a provider's flow: sends what it yields, takes back what a failed one did, and says what is true.

Everything here is the same for every provider. What differs between them stands in their files.
"""

import json
from collections.abc import Callable, Mapping
from time import sleep
from typing import Any, NamedTuple
from urllib.parse import unquote

from unified_crm import lost_answer
from unified_crm.accounts import Account
from unified_crm.deadline import Deadline
from unified_crm.errors import (
    OutcomeUnknown,
    PartialFailure,
    ProviderBadReply,
    ProviderError,
    ProviderTimeout,
    RemoteError,
    UnifiedError,
)
from unified_crm.lost_answer import Search
from unified_crm.mapping import merge
from unified_crm.provider import NOTHING, Flow, Record, Reply, Request, Undo
from unified_crm.sender import Sender
from unified_crm.transport import Observe

MINIMUM_SECONDS = 1.0
"""A call that writes is not begun with less. Half of the time is kept back: for taking back what a failed call did,
which costs about as much as doing it, or for looking whether one whose answer was lost did it."""
_ATTEMPTS = 3
_FULL_WINDOWS = 2.0
"""Where calls are paced, what is taken back begins behind what was done, and takes some calls more."""


class Options(NamedTuple):
    """What a caller may choose. `remote_query` are (key, value) pairs as they go out, keys with their brackets.

    `dry_run`: reads are made, writes are only noted. `explain`: tell where each field came from. `force_delete`: delete
    what is in use, too.
    """

    remote_query: tuple[tuple[str, str], ...] = ()
    remote_data: Mapping[str, Any] = NOTHING
    skip_unsupported: bool = False
    dry_run: bool = False
    explain: bool = False
    force_delete: bool = False


class Run:
    """One flow, driven to its end.

    Afterwards `reply` is the provider's last, `raw` its content, `last` the request that it answered, and `shows`
    whether that is one which shows what stands there: the only one, or a read. `adopted` tells that a create's answer
    was lost and its pipeline found, and `plan` holds the requests of a dry run.
    """

    def __init__(
        self,
        account: Account,
        options: Options,
        deadline: Deadline,
        observe: Observe = lambda _: None,
        *,
        writes: bool = False,
        look: Search | None = None,
        erase: Callable[[Record], Undo] | None = None,
    ) -> None:
        """`writes`: the caller's call writes, so that no read of it is the main call.

        For a create, `look` finds what was created where the answer was lost, and `erase` makes the undo of it.
        """
        self._provider = account.provider
        self._sender = Sender(account, observe)
        self._options = options
        self._whole = deadline
        back = deadline.left() / 2 + (_FULL_WINDOWS if self._sender.paced else 0)
        self._forward = deadline.keep(back) if writes else deadline
        self._writes = writes
        self._look = look
        self._erase = erase
        self._undos: list[Undo] = []
        self._steps = 0
        self.raw: Any = None
        self.last: Request | None = None
        self.reply: Reply | None = None
        self.shows = False
        self.adopted = False
        self._adopted: Undo | None = None
        self.plan: list[dict[str, Any]] = []

    def drive(self, flow: Flow) -> Any:
        """The flow's result. Where it fails, what it did is taken back before the error goes on."""
        if self._writes and (self._whole.left() < MINIMUM_SECONDS or self._forward.left() <= 0):
            raise ProviderTimeout(
                f"There was too little time left to call {self._provider.label}.", may_have_acted=False
            )
        try:
            return self._advance(flow, self._step)
        except UnifiedError as error:
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
        except UnifiedError:
            raise
        except Exception as error:  # whatever a reply of another form does to a flow: what was done must be taken back
            raise ProviderBadReply(f"{self._provider.label}'s answer was not of the form it documents.") from error

    def _step(self, request: Request) -> Reply:
        self._steps += 1
        self.shows = False
        request = self._with_escapes(request)
        try:
            reply = self._note(request) if self._options.dry_run else self._sender.send(request, self._forward)
            reply = self._remember_undo(request, reply)
        except ProviderError as error:
            reply = self._after_failure(request, error)
        self._add_revert(request)
        self.raw, self.last, self.reply = reply.content(), request, reply
        self.shows = self._steps == 1 or (request.method == "GET" and request.main)
        return reply

    def _after_failure(self, request: Request, error: ProviderError) -> Reply:
        """What to go on with all the same. Raises `error` where there is nothing."""
        if not error.may_have_acted:
            raise error
        if request.gone is not None:
            return self._settle_deletion(request, request.gone, error)
        if request.creates:
            if not request.main and isinstance(error, RemoteError):
                raise error
            if self._look is None or not request.main:
                raise lost_answer.unknown(error, "there is no way to look for it") from error
            found = self._look.find(self, request, error, self._sender.began)
            self.adopted = True
            self._forward = self._whole  # what is adopted is not taken back, so no time is kept for that
            self._adopted = self._erase(found) if self._erase else None
            return _Record(found)
        self._add_revert(request)
        raise error

    def _settle_deletion(self, request: Request, gone: Callable[[], Flow], error: ProviderError) -> Reply:
        """A deletion whose answer was lost: whether it happened shows in what stands there."""
        try:
            happened = self.ask(gone())[0]
        except ProviderError as other:
            if request.revert is not None:
                self._add_revert(request)
                raise error from other
            raise OutcomeUnknown(
                f"{error.message} Whether it was deleted is not known: looking for it failed: {other.message}",
                details=error.details,
                insight=error.insight,
            ) from error
        if happened:
            return Reply(204, {}, b"")
        raise error

    def _add_revert(self, request: Request) -> None:
        if request.revert is not None and request.revert not in self._undos:
            self._undos.append(request.revert)

    def _note(self, request: Request) -> Reply:
        """A dry run's step: a read is made, a write is noted and answered with what was to be written."""
        unknown = any("{id of step" in unquote(each) for each in (request.path, *dict(request.query).values()))
        sent = request.method == "GET" and not unknown
        self.plan.append({**self._sender.describe(request), "sent": sent})
        if sent:
            return self._sender.send(request, self._forward)
        body = request.json if isinstance(request.json, Mapping) else {}
        return _Record(body, id_=f"{{id of step {self._steps}}}" if request.method != "PUT" else "")

    def _with_escapes(self, request: Request) -> Request:
        """The caller's `remote_query` and `remote_data`, last, on the call that they belong to."""
        options = self._options
        if not request.main or (self._writes and request.method == "GET"):
            return request
        if not (options.remote_query or options.remote_data):
            return request
        names = {key for key, _ in self._options.remote_query}
        query = (*(pair for pair in request.query if pair[0] not in names), *self._options.remote_query)
        body = request.json
        if self._options.remote_data and body is not None and request.takes_data:
            body = merge(body, self._options.remote_data)
        return request._replace(query=query, json=body)

    def _remember_undo(self, request: Request, reply: Reply) -> Reply:
        """The reply, with what it created, which is to be deleted again if a later step fails."""
        if request.creates is None:
            return reply
        try:
            created = request.creates(reply)
            undo = self._erase(created) if self._erase else None
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ProviderBadReply(f"{self._provider.label} did not say what it created.") from error
        if undo is not None:
            if not undo.id:
                raise ProviderBadReply(f"{self._provider.label} did not say what it created.")
            self._undos.append(undo)
        known = Reply(reply.status, reply.headers, reply.body, created)
        vars(known)["json"] = reply.json  # it was read to find what was created
        return known

    def ask(self, flow: Flow) -> tuple[Any, Mapping[str, str]]:
        """A read beside the flow, in the time kept back: its result, and the headers of its last reply."""
        headers: dict[str, str] = {}

        def step(request: Request) -> Reply:
            reply = self._sender.send(request, self._whole, always=True)
            headers.update(reply.headers)
            return reply

        return self._advance(flow, step), headers

    def wait(self, seconds: float) -> bool:
        """Sleep, if there is then still time for a call; whether there was."""
        if self._whole.left() < seconds + 0.3:
            return False
        sleep(seconds)
        return True

    def _take_back(self, failure: UnifiedError) -> None:
        """Delete what was created and restore what was changed, newest first. Raises PartialFailure if not all is."""
        if not (self._undos or self._adopted):
            return
        done: list[dict[str, Any]] = []
        left: list[dict[str, Any]] = []
        if isinstance(failure, RemoteError) and failure.code == "rate_limited":
            self._wait_if_short(float(failure.headers["retry-after"]))
        # After a timeout the provider may be at it still: it is looked after once more a little later.
        late = isinstance(failure, ProviderTimeout) and any(undo.restores for undo in self._undos)
        for undo in reversed(self._undos):
            which = {"resource": undo.resource, "id": undo.id, "name": undo.name}
            undone = self._undone(undo, which)
            if undone and late and self.wait(min(1.0, self._whole.left() / 3)):
                undone = self._undone(undo, which)
            (done if undone else left).append(which)
        if self._adopted is not None:
            # Not deleted again: it was found and not seen being made, so it could be somebody else's after all.
            left.append({"resource": self._adopted.resource, "id": self._adopted.id, "name": self._adopted.name})
        where = f"Step {self._steps} failed: {failure.message}"
        names = ", ".join(f"{each['resource']} {each['id']}" for each in left or done)
        restores = any(undo.restores for undo in self._undos)
        if left:
            left += [each for undo in self._undos for each in self._still_there(undo)]
        if left:
            what = "could not be put back as it was" if restores else "could not be deleted again and is left behind"
            raise PartialFailure(f"{where} {names} {what}.", leftovers=left, cause=failure) from failure
        failure.message = (
            f"{where} {names} was put back; stages that had to be made again have new ids."
            if any("made_again" in each for each in done)
            else f"{where} Nothing has changed: {names} was put back as it was."
            if restores
            else f"{where} What is known to have been created, {names}, was deleted again."
            if isinstance(failure, OutcomeUnknown)
            else f"{where} Nothing is left behind: {names} was deleted again."
        )
        failure.details["rolled_back"] = done

    def _wait_if_short(self, seconds: float) -> None:
        """A provider that wants fewer calls gets none at once, unless that would leave no time to take things back."""
        if seconds <= self._whole.left() / 2:
            self.wait(seconds)

    def _still_there(self, undo: Undo) -> list[dict[str, Any]]:
        """The parts of what could not be deleted, if the provider shows them."""
        try:
            return list(self.ask(undo.parts())[0]) if undo.parts else []
        except UnifiedError:
            return []

    def _undone(self, undo: Undo, which: dict[str, Any]) -> bool:
        """Whether `undo` succeeded, after some attempts: a late effect of the failed step can stand in its way."""

        def step(request: Request, *, repeated: bool = False) -> Reply:
            try:
                return self._sender.send(request, self._whole, always=True)
            except RemoteError as error:
                if request.method == "DELETE" and error.code == "not_found":
                    return Reply(204, {}, b"")
                raise
            except ProviderBadReply:
                if request.method != "DELETE" or repeated:
                    raise
                return step(request, repeated=True)  # where it happened, this says that there is nothing

        for attempt in range(_ATTEMPTS):
            try:
                notes = self._advance(undo.flow(), step)
            except ProviderError as error:
                pause = float(error.headers.get("retry-after") or 0.3 * 2**attempt)
                if attempt + 1 == _ATTEMPTS or not self.wait(max(pause, self._provider.pipelines.lag)):
                    return False
            else:
                if notes:
                    which["made_again"] = [*which.get("made_again", []), *notes]
                return True
        return False


class _Record(Reply):
    """What stands for a reply where none came: the record itself, wherever in a reply a flow looks for it.

    It is of what a dry run would have written, with `id_` for the id that the provider would have given, or of what was
    found after an answer was lost.
    """

    def __init__(self, record: Mapping[str, Any], id_: str | None = None) -> None:
        super().__init__(200, {}, json.dumps(record).encode(), created=dict(record), noted=id_ is not None)
        self._id = {"id": id_} if id_ else {}

    def _at(self, path: tuple[str, ...], kind: type) -> Any:
        found: Any = self.json
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if kind is list:
            return found if isinstance(found, list) else [self._at((), dict)]
        return {**(found if isinstance(found, dict) else self.created), **self._id}
