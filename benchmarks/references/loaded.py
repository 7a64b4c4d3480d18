"""The API function as it is loaded, for the processor time of that: it is the same whoever else uses the machine."""

from __future__ import annotations

import sys
import time
from typing import Any

from api import app

PROCESSOR, MODULES = time.process_time(), len(sys.modules)


def handler(_event: Any, _context: Any) -> dict[str, Any]:
    """The seconds that loading took of a processor, the start of Python included, and how many modules there are."""
    return {"statusCode": 200, "processor": PROCESSOR, "modules": MODULES, "loaded": app.__name__}
