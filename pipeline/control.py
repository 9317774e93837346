"""The control channel between the supervisor and a stage: small JSON messages, and file descriptors with them.

A Unix socket pair, not ZeroMQ: it passes descriptors, and its closing tells each side at once that the other is
gone, however it died. Pictures, tensors and masks never travel here. The same channel works between threads.
"""

import array
import errno
import json
import os
import select
import socket
from typing import Any

from endostream.configs.errors import ConfigError

_MESSAGE_BYTES = 1 << 18
_MAX_FDS = 8


class PeerGone(EOFError):
    """The other side has closed the channel or died."""


class ControlChannel:
    """One end. Every message is a JSON object with a key ``t`` that says what it is.

    Attributes:
        refused: what came and was none, passed over.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MESSAGE_BYTES)
        self._socket = end
        self.refused = 0

    @classmethod
    def pair(cls) -> tuple["ControlChannel", "ControlChannel"]:
        """Two ends of a new channel."""
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(left), cls(right)

    @classmethod
    def from_fd(cls, fd: int) -> "ControlChannel":
        """The end that was inherited as ``fd``."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """For polling."""
        return self._socket.fileno()

    def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send ``message``; raises PeerGone if nobody is there any more, ConfigError if it is too long.

        A stopped peer's full buffer is waited for, 2 s at most, then counts as gone.
        """
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > _MESSAGE_BYTES:
            raise _too_long(len(data))
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        for _ in range(20):
            try:
                self._socket.sendmsg([data], ancillary)
                return
            except BlockingIOError:
                select.select([], [self._socket], [], 0.1)
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    raise _too_long(len(data)) from error
                raise PeerGone(str(error)) from error
        raise PeerGone("control channel: the other side takes nothing")

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next message and its descriptors, None if there is none now; raises PeerGone at the end.

        What is no message is counted and passed over, its descriptors closed.
        """
        while (received := self._receive()) is not None:
            data, fds, whole = received
            message = _message_in(data) if whole else None
            if message is not None:
                return message, fds
            self.refused += 1
            for fd in fds:
                os.close(fd)
        return None

    def _receive(self) -> tuple[bytes, list[int], bool] | None:
        """The next bytes, their descriptors, and whether none of either was cut off."""
        try:
            data, fds, flags, _ = socket.recv_fds(self._socket, _MESSAGE_BYTES, _MAX_FDS)
        except BlockingIOError:
            return None
        except OSError as error:
            raise PeerGone(str(error)) from error
        if not data:
            raise PeerGone("control channel: closed")
        return data, fds, not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def _message_in(data: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and isinstance(message.get("t"), str) else None


def _too_long(size_bytes: int) -> ConfigError:
    """Only the list of sources can be as long as that."""
    return ConfigError(
        f"control message: {size_bytes} bytes; expected at most {_MESSAGE_BYTES}. Try: fewer sources in one run"
    )
