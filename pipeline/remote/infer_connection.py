"""One connection from a tower to an infer host: a socket of its own, its monitor, its epoch.

Separate from the client that uses one after another: here are ZeroMQ's options and the keys, there is what is said.
Nothing connects again by itself.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from ..link import new_epoch
from . import curve_keys
from .remote_wire import Terms

ATTEMPT_NS = 3_000_000_000
"""For the TCP connection, the hand-shake and HELLO together."""
NETWORK_OPTIONS = (
    (zmq.HANDSHAKE_IVL, 2 * ATTEMPT_NS // 1_000_000),  # the tower gives up before, and knows why
    (zmq.TCP_MAXRT, 3000),
    (zmq.TCP_KEEPALIVE, 1),
    (zmq.TCP_KEEPALIVE_IDLE, 2),
    (zmq.TCP_KEEPALIVE_INTVL, 1),
    (zmq.TCP_KEEPALIVE_CNT, 3),
)
"""For both ends: a cut cable is noticed by the kernel in three to five seconds, though nobody closes the connection.

Not ZeroMQ's own heartbeat: with it, libzmq 4.3.5 aborts the process where a peer goes while its input is held back
(``Assertion failed: !_io_error``, stream_engine_base.cpp:310; libzmq issue 4841), which any spoilt stream can bring
about [measured: 9 aborts in 11 runs through a proxy that spoils every seventh chunk, none without].
"""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Which host, with which keys (a folder, or None on the loopback), asked for what."""

    address: str
    keys: Path | None
    terms: Terms


@dataclass(frozen=True, slots=True)
class Connection:
    """An attempt, or what came of it: its socket, the monitor that tells how it fares, both polled; its epoch."""

    socket: "zmq.Socket[bytes]"
    monitor: "zmq.Socket[bytes]"
    poller: zmq.Poller
    epoch: int

    def close(self) -> None:
        """Close both; what was not sent yet never is."""
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close(linger=0)


def open_connection(
    context: "zmq.Context[Any]", endpoint: str, keys: Path | None, longest_bytes: int
) -> Connection:
    """Begin to connect; returns at once. A message above ``longest_bytes`` ends the connection.

    Raises:
        ConfigError: the keys cannot be used.
    """
    pair = None if keys is None else (curve_keys.tower_pair(keys), curve_keys.host_public(keys))
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.IPV6, 1),
        (zmq.RECONNECT_IVL, -1),  # each attempt is a socket of its own
        (zmq.CONNECT_TIMEOUT, ATTEMPT_NS // 1_000_000),
        *NETWORK_OPTIONS,
        (zmq.MAXMSGSIZE, longest_bytes),
        (zmq.RCVHWM, 16),
        (zmq.SNDHWM, 4),
    ):
        socket.setsockopt(option, value)
    if pair is not None:
        own, socket.curve_serverkey = pair
        socket.curve_publickey, socket.curve_secretkey = own.public, own.secret
    monitor: zmq.Socket[bytes] = socket.get_monitor_socket()
    socket.connect(endpoint)
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    poller.register(monitor, zmq.POLLIN)
    return Connection(socket, monitor, poller, new_epoch())
