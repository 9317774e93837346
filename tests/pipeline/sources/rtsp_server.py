"""An RTSP server of one stream, for tests: the test pattern as MPEG-TS in RTP over TCP, behind a password.

As little of RFC 2326 as FFmpeg's client asks for. ``drop`` cuts all connections as a lost network does; the next
client is served again. It holds no test.
"""

import base64
import contextlib
import itertools
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

USER, PASSWORD = "doctor", "hunter2"
_TS_PACKETS = 7 * 188
_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
_PATIENCE_S = 30.0


class RtspServer:
    """Serves on a free port of the loopback; ``address`` names it with its credentials.

    ``sent`` is the MPEG-TS that was sent so far.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"rtsp://{USER}:{PASSWORD}@127.0.0.1:{self.port}/tower"
        self.sent = bytearray()
        self._clients: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(_PATIENCE_S)
        self.drop()
        for thread in self._threads:
            thread.join(_PATIENCE_S)
            assert not thread.is_alive()

    def drop(self) -> None:
        """Cut every connection."""
        for client in self._clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        self._clients.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._clients.append(client)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        with client, contextlib.suppress(OSError), client.makefile("rb") as requests:
            while line := requests.readline():
                headers = {}
                while (more := requests.readline()) not in (b"\r\n", b""):
                    name, _, value = more.decode().partition(":")
                    headers[name.lower()] = value.strip()
                method = line.decode().split(" ")[0]
                status, extra, body = "200 OK", "", ""
                if headers.get("authorization") != expected and method != "OPTIONS":
                    status, extra = "401 Unauthorized", 'WWW-Authenticate: Basic realm="tower"\r\n'
                elif method == "OPTIONS":
                    extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
                elif method == "DESCRIBE":
                    body, extra = _SDP, "Content-Type: application/sdp\r\n"
                elif method == "SETUP":
                    extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
                answer = f"RTSP/1.0 {status}\r\nCSeq: {headers.get('cseq', 0)}\r\n{extra}"
                client.sendall(f"{answer}Content-Length: {len(body)}\r\n\r\n{body}".encode())
                if method == "PLAY":
                    self._play(client)
                    return

    def _play(self, client: socket.socket) -> None:
        sender = Path(__file__).with_name("pattern_sender.py")
        command = [sys.executable, str(sender), "pipe:1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                for number in itertools.count():
                    data = process.stdout.read(_TS_PACKETS)
                    rtp = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 90, 1)
                    client.sendall(struct.pack(">BBH", ord("$"), 0, len(rtp) + len(data)) + rtp + data)
                    if not data:
                        return
                    self.sent += data
            finally:
                process.kill()
