"""The authorizer's start: what happens once in each sandbox, before the first call. The API function's says more."""

from __future__ import annotations

import gc
import os
import random
from contextlib import suppress

gc.disable()

from authorizer.tokens import handler, table, tracer  # noqa: E402

__all__ = ["handler"]


def _renew() -> None:
    """After SnapStart: no connection, credential or chance comes out of a snapshot."""
    random.seed()  # the client's pauses before it tries again
    table.cache_clear()
    table()


if (kind := os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE")) == "provisioned-concurrency":
    table()
    tracer()
elif kind == "snap-start":
    table()
    with suppress(ImportError):
        from snapshot_restore_py import register_after_restore, register_before_snapshot

        register_before_snapshot(tracer)
        register_after_restore(_renew)

gc.enable()
gc.freeze()
