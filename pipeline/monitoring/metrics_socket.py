"""The record of a run over a Unix socket in its run directory: how ``endostream top`` reads a run it did not start.

Separate from ``metrics.py``, which makes the record, and from Prometheus' HTTP. The protocol: whoever connects gets one
JSON document, and the connection is closed. The folder is the user's alone (mode 0700), so nobody else can ask.
"""

import json
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from endostream.configs.errors import SourceLost

logger = logging.getLogger("endostream")

SOCKET_NAME = "metrics.sock"
_CLIENT_TIMEOUT_S = 1.0
_CHUNK_BYTES = 65_536


class RecordServer:
    """Answers at ``directory/metrics.sock`` from a thread of its own, as a context manager.

    Args:
        directory: of the run.
        record: makes the record of the moment.
    """

    def __init__(self, directory: Path, record: Callable[[], dict[str, Any]]) -> None:
        self._record = record
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(directory / SOCKET_NAME))
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, name="record", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join(2 * _CLIENT_TIMEOUT_S)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        try:
            client.settimeout(_CLIENT_TIMEOUT_S)
            client.sendall(json.dumps(self._record(), allow_nan=False).encode() + b"\n")
        except OSError:
            return  # it went away, or does not read
        except Exception as error:
            logger.warning("metrics: no record could be made (%s: %s)", type(error).__name__, error)


def read_record(directory: Path, timeout_s: float = 2.0) -> dict[str, Any]:
    """The record of the run whose directory this is.

    Raises:
        SourceLost: the run is over, or does not answer.
    """
    received = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
            asker.settimeout(timeout_s)
            asker.connect(str(directory / SOCKET_NAME))
            while chunk := asker.recv(_CHUNK_BYTES):
                received += chunk
        record: dict[str, Any] = json.loads(received)
    except (OSError, ValueError) as error:
        raise SourceLost(f"run: {directory.name}; gives no answer ({error})") from error
    return record
