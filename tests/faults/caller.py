"""Processes that call at once: `python caller.py FD…` makes one for each socket, which begins with its id.

Then a line of JSON in is a storm to take part in, and a line out what became of it. In: {"account": id, "calls": n}.
Out: [{"token": …, "pipelines": [names]} | {"error": …}], the tokens as their SHA-256. They fork when everything is
imported and no connection open: what takes long is done once.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from unified_crm import accounts, oauth, providers
from unified_crm.credentials import OAuth2
from unified_crm.deadline import Deadline
from unified_crm.engine import Options
from unified_crm.errors import UnifiedError
from unified_crm.lists import ListOptions
from unified_crm.verbs import Verbs

SECONDS = 25


def call(account_id: str) -> dict[str, Any]:
    """One GET of the API, as the function makes it."""
    deadline = Deadline(SECONDS)
    try:
        account = oauth.fresh(accounts.load(account_id, "demo"), deadline)
        found = Verbs(account, Options(), deadline).list_pipelines(ListOptions())
    except UnifiedError as error:
        return {"error": f"{error.code}: {error.message}"}
    assert isinstance(account.credentials, OAuth2)
    token = hashlib.sha256(account.credentials.access_token.get_secret_value().encode()).hexdigest()
    return {"token": token, "pipelines": [unified["name"] for unified, _ in found.items]}


def storm(account_id: str, calls: int) -> list[dict[str, Any]]:
    """So many calls, each in a thread, that begin together."""
    together = Barrier(calls)

    def one(_: int) -> dict[str, Any]:
        together.wait()
        return call(account_id)

    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(one, range(calls)))


def serve(fd: int) -> None:
    """Until the other side has gone."""
    with socket.socket(fileno=fd) as connection, connection.makefile("rw") as lines:
        print(os.getpid(), file=lines, flush=True)
        for line in lines:
            task = json.loads(line)
            print(json.dumps(storm(task["account"], task["calls"])), file=lines, flush=True)


def main(fds: list[int]) -> None:
    """A process for each socket, and none left behind."""
    for name in providers.names():
        providers.load(name)
    accounts._secrets()
    oauth._tables()
    for fd in fds:
        if os.fork() == 0:
            for other in fds:
                if other != fd:
                    os.close(other)
            serve(fd)
            os._exit(0)
    for fd in fds:
        os.close(fd)
    for _ in fds:
        os.wait()


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]])
