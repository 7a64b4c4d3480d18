"""The built function behind the local front door, on one core: a process for `throughput.py`.

    python -m benchmarks.door function|constant CORE

prints its port. The authorizer's verdict is a constant, since API Gateway remembers it. `constant` puts a handler that
does nothing in the function's place.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from benchmarks.references import bare
from local.gateway import Function, Gateway


def main(who: str, core: str) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core)})
    with Gateway(_handler(who), _let_in, port=0) as gateway:
        os.write(1, f"{gateway.port}\n".encode())
        os.dup2(2, 1)  # from here on, standard output is the function's log
        threading.Event().wait()


def _handler(who: str) -> Function:
    if who == "constant":
        return bare.handler
    from api.app import handler

    found: Function = handler
    return found


def _let_in(*_: Any) -> dict[str, Any]:
    return {"isAuthorized": True, "context": {"tenant": "demo", "accounts": "*"}}


if __name__ == "__main__":
    main(*sys.argv[1:])
