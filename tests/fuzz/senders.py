"""Sends a given stream, be it nonsense, as a network or a server would: MPEG-TS over UDP, or in RTP over RTSP.

Separate from the player because a source under test must be served from another thread. It holds no test.
"""

import contextlib
import errno
import socket
import struct
import threading
from types import TracebackType
from typing import Self

_DATAGRAM = 7 * 188
_PATIENCE_S = 10.0
_PACE_S = 0.002
_SDP = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=t\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"


class UdpSender:
    """Sends ``data`` to a free port, ``rounds`` times over, as soon as somebody listens there."""

    def __init__(self, data: bytes, rounds: int = 3) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"udp://127.0.0.1:{self.port}"
        self._data, self._rounds = data, rounds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(_PATIENCE_S)
        assert not self._thread.is_alive()

    def _send(self) -> None:
        while not self._listened() and not self._stopped.wait(0.005):
            pass
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
            for _ in range(self._rounds):
                for begin in range(0, len(self._data), _DATAGRAM):
                    if self._stopped.wait(_PACE_S):
                        return
                    sender.sendto(self._data[begin : begin + _DATAGRAM], ("127.0.0.1", self.port))

    def _listened(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                return error.errno == errno.EADDRINUSE
        return False


class RtspSender:
    """Serves each client ``data`` once, in RTP over the RTSP connection, then hangs up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/t"
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._client is not None:
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)
        self._thread.join(_PATIENCE_S)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                self._client, _ = self._listener.accept()
            except OSError:
                return
            with self._client as client, contextlib.suppress(OSError):
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        with client.makefile("rb") as requests:
            while line := requests.readline():
                headers = {}
                while (more := requests.readline()) not in (b"\r\n", b""):
                    name, _, value = more.partition(b":")
                    headers[name.lower()] = value.strip()
                method, extra, body = line.split(b" ")[0], b"", b""
                if method == b"DESCRIBE":
                    body, extra = _SDP, b"Content-Type: application/sdp\r\n"
                elif method == b"SETUP":
                    extra = b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
                answer = b"RTSP/1.0 200 OK\r\nCSeq: %b\r\n%bContent-Length: %d\r\n\r\n%b"
                client.sendall(answer % (headers.get(b"cseq", b"0"), extra, len(body), body))
                if method == b"PLAY":
                    self._play(client)
                    return

    def _play(self, client: socket.socket) -> None:
        for number, begin in enumerate(range(0, len(self._data), _DATAGRAM)):
            data = self._data[begin : begin + _DATAGRAM]
            rtp = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 90, 1)
            client.sendall(struct.pack(">BBH", ord("$"), 0, len(rtp) + len(data)) + rtp + data)
