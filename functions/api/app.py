"""The API function's start: what happens once in each sandbox, before the first call."""

from __future__ import annotations

import gc
import os

# Imports make thousands of objects and drop hardly any: looking for garbage meanwhile is a tenth of a start, in vain.
gc.disable()
# pydantic would look through all installed packages for plugins of its own, of which the layers have none.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from api.calls import handler  # noqa: E402
from unified_crm import accounts  # noqa: E402

__all__ = ["handler"]

# Where a start is on nobody's way, a first call finds made what it needs. On demand, a caller waits for both the same.
if (kind := os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE")) in ("provisioned-concurrency", "snap-start"):
    from api import snapshot

    accounts.prepare()
    if kind == "snap-start":
        snapshot.register()
    else:
        snapshot.prepare()

gc.enable()
# What the imports made stays as long as the process lives: no later collection need look at it.
gc.freeze()
# A long list is ten thousand objects and no cycle, which need not be looked through every 2,000.
gc.set_threshold(100_000)
