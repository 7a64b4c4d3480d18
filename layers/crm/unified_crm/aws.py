"""AWS clients, all of one session: what botocore reads to make one, it reads once.

botocore's clients are boto3's clients. boto3 itself would bring its transfer manager for S3 along, and all of
multiprocessing with that, which takes a tenth of a cold start. Two threads must not make clients of one session at
once, so they take turns.
"""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

from botocore.config import Config
from botocore.loaders import Loader, create_loader
from botocore.session import Session, get_session

_MAKING = Lock()


def client(service: str, *, read_timeout: float) -> Any:
    """A client of `service` that gives up in time: botocore's own waits a minute, longer than a function may live."""
    config = Config(connect_timeout=1, read_timeout=read_timeout, retries={"mode": "standard", "total_max_attempts": 2})
    with _MAKING:
        return _session().create_client(service, config=config)


def forget() -> None:
    """Clients are made of a new session from now on, with credentials of its own."""
    _session.cache_clear()


@cache
def _session() -> Session:
    session = get_session()
    session.register_component("data_loader", _loader())
    return session


@cache
def _loader() -> Loader:
    """Descriptions of services, which no credential is in: they outlive the session."""
    return create_loader()
