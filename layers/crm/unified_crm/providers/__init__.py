"""The registry is this folder: each file is a provider, named as the file. Importing it imports none of them."""

from __future__ import annotations

import re
from importlib import import_module
from pkgutil import iter_modules

from unified_crm.provider import Provider


def names() -> list[str]:
    """The name of every provider, sorted."""
    return sorted(module.name for module in iter_modules(__path__))


def load(name: str) -> Provider:
    """The provider `name`; imports its file and no other. Raises LookupError where there is none."""
    module = f"{__name__}.{name}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise LookupError(name)
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise LookupError(name) from None
    provider: Provider = found.PROVIDER
    return provider
