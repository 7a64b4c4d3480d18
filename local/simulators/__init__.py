"""Provider simulators: one module for each provider, found by being in this folder.

A module holds exactly one `Simulator` subclass, whose `name` is the module's own. Dropping a file in here is all it
takes; `base` and names with a leading underscore are helpers.
"""

import pkgutil
from base64 import b64encode
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from local.simulators.base import Simulator


def names() -> tuple[str, ...]:
    """The providers that have a simulator, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name != "base" and not name.startswith("_")))


def load(name: str) -> "type[Simulator]":
    """The simulator of one provider. Raises LookupError for a name without one, or a module without exactly one."""
    from local.simulators.base import Simulator

    if name not in names():
        raise LookupError(f"no simulator for {name!r}; there are {', '.join(names())}")
    module = import_module(f"{__name__}.{name}")
    classes = [
        item
        for item in vars(module).values()
        if isinstance(item, type) and issubclass(item, Simulator) and item.__module__ == module.__name__
    ]
    if len(classes) != 1 or classes[0].name != name:
        raise LookupError(f"{module.__name__} must define exactly one Simulator, with name = {name!r}")
    return classes[0]


def demo_secrets() -> tuple[str, ...]:
    """Every string that must never be seen in a log line or an answer, as it is and as HTTP Basic would carry it."""
    secrets = {secret for name in names() for secret in load(name).secrets()}
    return tuple(sorted(secrets | {b64encode(f"{secret}:".encode()).decode() for secret in secrets}))
