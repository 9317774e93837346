"""A TCP proxy that a test puts between a tower and an infer host: it records, delays, swallows, spoils and cuts.

It runs in threads of its own and is ended by its context manager; every wait in it ends. It holds no test.
"""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

_JOIN_S = 10.0


class TcpProxy:
    """Forwards connections on a free port of the loopback to ``target`` (host, port).

    Attributes:
        up, down: every byte that came from the client, and from the target.
        mangle_up, mangle_down: what becomes of a chunk on its way; b"" swallows it.
        delay_s: how long each chunk is held.
        connections: how many were accepted.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.up, self.down = bytearray(), bytearray()
        self.mangle_up: Callable[[bytes], bytes] = bytes
        self.mangle_down: Callable[[bytes], bytes] = bytes
        self.delay_s = 0.0
        self.connections = 0
        self._over = threading.Event()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    @property
    def address(self) -> str:
        """For the client."""
        return f"tcp://127.0.0.1:{self.port}"

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                server = socket.create_connection(self.target, _JOIN_S)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._open += [client, server]
            self._start(self._forward, client, server, True)
            self._start(self._forward, server, client, False)

    def _forward(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        record = self.up if up else self.down
        with contextlib.suppress(OSError):
            while chunk := source.recv(65_536):
                record += chunk
                if self.delay_s:
                    self._over.wait(self.delay_s)
                sink.sendall((self.mangle_up if up else self.mangle_down)(chunk))
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def swallow(self) -> None:
        """From now on nothing gets through, and nobody is told."""
        self.mangle_up = self.mangle_down = lambda chunk: b""

    def pass_on(self) -> None:
        """From now on all gets through as it is."""
        self.mangle_up = self.mangle_down = bytes
        self.delay_s = 0.0

    def cut(self) -> None:
        """End all connections there are; new ones are accepted."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(_JOIN_S)
            assert not thread.is_alive()
        for end in self._open:
            end.close()
