"""SnapStart: what is made before Lambda takes its snapshot of the function, and what must not come out of one.

A snapshot starts many sandboxes, each some time later and all alike. So connections are dead in them, credentials and
secrets may be old, clocks have moved, and what was random is the same everywhere.

https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
"""

from __future__ import annotations

import gc
import random

# What only some calls need is imported here, where it takes no caller's time.
from api import access, idempotency, telemetry  # noqa: F401
from unified_crm import accounts, aws, breaker, edit, oauth, pace, providers, recent, settle, transport  # noqa: F401
from unified_crm.changes import PipelineUpdate, StageWrite
from unified_crm.credentials import KINDS
from unified_crm.models import PipelineWrite


def register() -> None:
    """Have Lambda call these two, where its runtime knows snapshots."""
    try:
        from snapshot_restore_py import register_after_restore, register_before_snapshot
    except ImportError:
        return
    register_before_snapshot(prepare)
    register_after_restore(after_restore)


def prepare() -> None:
    """Make what only some calls need, or each process's first: it takes no caller's time here."""
    telemetry.tracer()
    for model in (PipelineUpdate, PipelineWrite, StageWrite, accounts.Stored, *KINDS.values()):
        model.model_rebuild()
    for name in providers.names():
        providers.load(name)
    gc.collect()
    gc.freeze()


def after_restore() -> None:
    """Forget what one sandbox alone may know, and make anew what every call needs."""
    random.seed()  # for pauses that spread calls; tokens and ids come from the operating system
    aws.forget()
    for each in (accounts, oauth, pace, recent, transport):
        each.forget()
    accounts.prepare()
