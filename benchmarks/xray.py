"""What takes the place of X-Ray's daemon."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


class Daemon:
    """A socket in the place of X-Ray's daemon."""

    def __init__(self, listener: socket.socket) -> None:
        self._socket = listener
        self.port: int = listener.getsockname()[1]

    def received(self) -> bool:
        """Whether anything came."""
        try:
            return bool(self._socket.recv(1 << 16))
        except BlockingIOError:
            return False


@contextmanager
def daemon() -> Iterator[Daemon]:
    """A socket that takes what is sent to it. Nobody at the port would be told to the sender as an error."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        yield Daemon(listener)
