"""A keep-alive connection with nothing around it: the least that a round trip can cost, and what makes load."""

from __future__ import annotations

import socket


def request(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """A whole request. In names of headers, underscores stand for hyphens."""
    lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """To a port of this machine."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, sent: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer, which has to tell its length."""
        self._socket.sendall(sent)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head = received[:end].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        parts, left = [received[end + 4 :]], length - (len(received) - end - 4)
        while left > 0:
            parts.append(self._more())
            left -= len(parts[-1])
        return int(head.split(b" ", 2)[1]), b"".join(parts)

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 20)
        if not data:
            raise ConnectionError("closed before the answer was whole")
        return data
