"""One request of an account, sent as often as that is safe, and what its answer means."""

from __future__ import annotations

from random import uniform
from time import monotonic, sleep
from typing import Any

from urllib3.exceptions import ProtocolError

from unified_crm import circuit, remote_errors
from unified_crm.accounts import Account
from unified_crm.circuit import Circuits
from unified_crm.credentials import OAuth2
from unified_crm.deadline import Deadline
from unified_crm.errors import (
    NeedsReauth,
    ProviderBadReply,
    ProviderError,
    ProviderUnreachable,
    RemoteError,
    UnifiedError,
)
from unified_crm.provider import Reply, Request
from unified_crm.transport import Observe

RESENDS = 2
"""So often a request is sent again at most, whatever for."""
WAIT_SECONDS = 2.0
"""So long a request waits at most, in all, because its provider asked for it."""
LEAST_SECONDS = 1.0
"""Nothing is sent again with less time left than this."""
JITTER = (0.05, 0.4)
"""The seconds between which the first pause is chosen after a failure; the longest doubles each time."""


class Sender:
    """Sends the requests of one call to the account's provider.

    What is sent goes through the account's transport; what comes back is a reply that means success, or an error of the
    tree: whatever status a provider chose for it.

    A request is sent again where that can do no harm: a read after a failure of the provider or of the network, but for
    a timeout; a write only if it is certain that it did not happen, since no connection was made; and either after a
    429 that asks for a short wait. After a 401, an OAuth 2 account gets another token, once.
    """

    def __init__(
        self, account: Account, observe: Observe = lambda _: None, circuits: Circuits = circuit.SHARED
    ) -> None:
        """`began` is when a request was last sent, in seconds of the monotonic clock."""
        self._observe, self._circuits = observe, circuits
        self._renewed = False
        self.began = monotonic()
        self._use(account)

    def _use(self, account: Account) -> None:
        self._account = account
        self._transport = account.transport(self._observe)
        self._circuit = f"{account.provider.name} {self._transport.base_url}"

    @property
    def paced(self) -> bool:
        """Whether calls wait for their turn."""
        return self._transport.pace is not None

    def describe(self, request: Request) -> dict[str, Any]:
        """What would be sent, for people: the credentials are left out."""
        return self._transport.describe(request)

    def send(self, request: Request, deadline: Deadline, *, always: bool = False) -> Reply:
        """The reply to `request`. Raises ProviderError, and UnifiedError where a token could not be renewed just now.

        `always`: even while the provider's circuit is open. What takes back, or looks what has happened, must not be
        held up by it.
        """
        reply = self._authorized(request, deadline, always)
        # A page in the place of an answer is not the provider's: it may not have been asked at all. Whether a deletion
        # that is answered by nothing has happened is looked at.
        if request.method != "GET" and reply.status not in (204, 205):
            reply.object()
        return reply

    def _authorized(self, request: Request, deadline: Deadline, always: bool) -> Reply:
        try:
            return self._repeated(request, deadline, always)
        except RemoteError as error:
            if error.code != "needs_reauth" or not self._renew(deadline, always):
                raise
        return self._repeated(request, deadline, always)

    def _renew(self, deadline: Deadline, always: bool) -> bool:
        """Whether there is another access token to send with: asked for once, after which a refusal is a refusal."""
        credentials = self._account.credentials
        if self._renewed or not isinstance(credentials, OAuth2) or credentials.refresh_token is None:
            return False
        self._renewed = True
        from unified_crm import oauth  # which other accounts need not

        try:
            account = oauth.renewed(self._account, deadline, self._observe)
        except NeedsReauth:
            return False  # the call that met the refusal answers with it
        except ProviderError as error:
            error.may_have_acted = False  # the refused request did nothing, whatever became of asking for a token
            raise
        except UnifiedError:
            if always:
                return False  # what takes back, or looks, expects a provider's error and no other
            raise
        if account is None:
            return False
        self._use(account)
        return True

    def _repeated(self, request: Request, deadline: Deadline, always: bool) -> Reply:
        resends, waited = 0, 0.0
        while True:
            try:
                return self._once(request, deadline, always)
            except ProviderError as error:
                # What a provider asks to be waited for after a 429, or with a 503.
                asked = float(error.headers.get("retry-after", 0))
                pause = asked or uniform(JITTER[0], JITTER[1] * 2**resends)  # noqa: S311 - spreads calls, no secret
                waited += asked
                if (
                    resends == RESENDS
                    or not self._harmless(request, error, resends)
                    or waited > WAIT_SECONDS
                    or deadline.left() - pause < LEAST_SECONDS
                ):
                    raise
            sleep(pause)
            resends += 1

    def _harmless(self, request: Request, error: ProviderError, resends: int) -> bool:
        """Whether `request`, which met `error`, may be sent again."""
        if isinstance(error, RemoteError) and error.code == "rate_limited":
            # A 403 by this code is a block, and no limit that is over soon.
            return error.remote_status == 429 and not self._account.provider.rate_limit.blocks
        if request.method != "GET":
            return isinstance(error, ProviderUnreachable) and resends == 0
        if isinstance(error, RemoteError):
            return error.remote_status in circuit.DOWN
        # Of all answers that are none, only one that broke off can be another the next time.
        broken = isinstance(error, ProviderBadReply) and isinstance(error.__cause__, ProtocolError)
        return broken or isinstance(error, ProviderUnreachable)

    def _once(self, request: Request, deadline: Deadline, always: bool) -> Reply:
        def send() -> Reply:
            self.began = monotonic()
            reply = self._transport.send(request, deadline)
            if remote_errors.failed(self._account.provider, reply):
                raise remote_errors.explain(self._account.provider, reply, request.method)
            return reply

        return self._circuits.call(self._circuit, self._account.provider.label, send, always=always)
