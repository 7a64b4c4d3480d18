"""A server of a few lines, for answers that no well-behaved one would give."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Talk = Callable[["Exchange"], bool]
"""Answers one request; whether the connection stays open."""


def ok(body: bytes = b"{}", head: str = "") -> bytes:
    """A whole answer."""
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{head}\r\n".encode()
        + body
    )


class Server:
    """What arrived, whatever became of it."""

    def __init__(self, url: str, talk: Talk) -> None:
        self.url, self.talk = url, talk
        self.requests: list[bytes] = []
        self.connections = 0
        self.stopping = threading.Event()


@dataclass
class Exchange:
    """One request on its connection."""

    server: Server
    connection: socket.socket
    request: bytes

    def send(self, data: bytes) -> None:
        with suppress(OSError):
            self.connection.sendall(data)

    def drip(self, data: bytes, every: float) -> None:
        """A byte at a time, until the other side has gone."""
        with suppress(OSError):
            for byte in data:
                self.connection.sendall(bytes((byte,)))
                if self.server.stopping.wait(every):
                    return

    def hang(self) -> None:
        self.server.stopping.wait(20)


def answering(data: bytes, keep: bool = False) -> Talk:
    def talk(exchange: Exchange) -> bool:
        exchange.send(data)
        return keep

    return talk


@contextmanager
def serving(talk: Talk, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    scheme = "https" if tls else "http"
    server = Server(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", talk)
    threads: list[threading.Thread] = []
    live: list[socket.socket] = []

    def serve(plain: socket.socket) -> None:
        connection = plain
        try:
            if tls:
                connection = tls.wrap_socket(plain, server_side=True)
                live.append(connection)
            while (request := _read(connection)) is not None:
                server.requests.append(request)
                if not server.talk(Exchange(server, connection, request)):
                    break
        except OSError:
            pass
        finally:
            connection.close()

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                server.connections += 1
                live.append(connection)
                threads.append(threading.Thread(target=serve, args=(connection,), daemon=True))
                threads[-1].start()

    loop = threading.Thread(target=accept, daemon=True)
    loop.start()
    try:
        yield server
    finally:
        server.stopping.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        loop.join()
        for connection in live:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for connection in live:
            connection.close()


def _read(connection: socket.socket) -> bytes | None:
    """A request: its head, and the body of the length that it names."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := connection.recv(65536)):
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    while lengths and len(body) < int(lengths[0]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """What is inside ends within `seconds`, and a little."""
    started = time.monotonic()
    yield
    took = time.monotonic() - started
    assert took < seconds + 0.7, f"took {took:.2f} s of {seconds}"
