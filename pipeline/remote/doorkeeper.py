"""Who may come in to an infer host: checks each tower's CURVE key, and tells of everyone who was turned away.

Separate from the host, which only ever meets those let in. It answers ZeroMQ's authentication requests (ZAP, RFC 27)
in the host's own loop, so that the folder of keys can change while the host runs, and reads the socket's monitor for
hand-shakes that fail before a key is known. What is said of a knocker is said once a minute, however often it comes.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from endostream.configs.errors import ConfigError

from ..clock import Clock
from .curve_keys import host_pair, towers_let_in

_ZAP_ADDRESS = "inproc://zeromq.zap.01"
_ZAP_PARTS = 7
_DOMAIN = b"endostream"
_SAY_AGAIN_NS = 60_000_000_000
_MOST_REMEMBERED = 256
_FAILURES = (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)


class Doorkeeper:
    """Guards the ROUTER ``door`` of an infer host; made before that is bound.

    Args:
        context: in which ``door`` lives.
        door: gets the host's keys.
        keys: their folder; None lets everyone in who reaches the loopback.
        say: takes one line.
        clock: for what was said when.
    """

    def __init__(
        self,
        context: "zmq.Context[Any]",
        door: "zmq.Socket[bytes]",
        keys: Path | None,
        say: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.refused = 0
        self._keys = keys
        self._say = say
        self._clock = clock
        self._said: dict[tuple[str, str], int] = {}
        self._peers: dict[int, str] = {}
        self._failing = False
        self._zap: zmq.Socket[bytes] | None = None
        if keys is not None:
            pair = host_pair(keys)
            self._zap = context.socket(zmq.REP)
            self._zap.linger = 0
            self._zap.bind(_ZAP_ADDRESS)
            door.curve_server = 1
            door.curve_publickey, door.curve_secretkey = pair.public, pair.secret
            door.zap_domain = _DOMAIN
        self._door = door
        self._monitor: zmq.Socket[bytes] = door.get_monitor_socket()

    @property
    def sockets(self) -> "list[zmq.Socket[bytes]]":
        """To be polled; ``service`` when one is readable."""
        return [self._monitor] if self._zap is None else [self._monitor, self._zap]

    def service(self) -> None:
        """Answer who knocks, and note who is turned away; never waits."""
        self._answer_knocks()
        self._read_events()

    def turn_away(self, who: str, about: str, why: str) -> None:
        """Count a refusal, and say it once a minute for the same ``who`` and ``about`` (a word)."""
        self.refused += 1
        self.say_seldom(who, about, f"refused: {why}")

    def say_seldom(self, who: str, about: str, what: str) -> None:
        """Say ``what`` of ``who``, unless something about the same was said within the last minute."""
        now_ns, key = self._clock.now_ns(), (who, about)
        if (
            now_ns - self._said.get(key, -_SAY_AGAIN_NS) < _SAY_AGAIN_NS
            or len(self._said) >= _MOST_REMEMBERED
        ):
            self._said = {key: at_ns for key, at_ns in self._said.items() if now_ns - at_ns < _SAY_AGAIN_NS}
            return
        self._said[key] = now_ns
        self._say(f"{who} {what}")

    def _answer_knocks(self) -> None:
        while self._zap is not None:
            try:
                parts = self._zap.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            name = self._name_of(parts)
            code, words = (b"200", b"welcome") if name else (b"400", b"unknown key")
            request = parts[1] if len(parts) > 1 else b""
            self._zap.send_multipart([b"1.0", request, code, words, name.encode(), b""])

    def _name_of(self, parts: list[bytes]) -> str:
        """Name of the tower that knocks, "" if it is not let in."""
        if len(parts) < _ZAP_PARTS or parts[5] != b"CURVE" or self._keys is None:
            return ""
        key, address = z85.encode(parts[6]), parts[3].decode("ascii", "replace")
        try:
            name = towers_let_in(self._keys).get(key, "")
        except ConfigError as error:
            self.turn_away(address, "folder", str(error))
            return ""
        if not name:
            folder = self._keys / "towers"
            self.turn_away(
                address,
                "key",
                f"its key {key.decode()} is not in {folder}. Try: copy its towers/tower.key there",
            )
        return name

    def _read_events(self) -> None:
        while True:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.DONTWAIT))
            except zmq.Again:
                return
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._peers[event["value"]] = _peer_of(event["value"])
            elif event["event"] in _FAILURES:
                self._failing = True
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                self._left(self._peers.pop(event["value"], "someone"))

    def _left(self, who: str) -> None:
        """A connection ended; if its hand-shake had failed, say whose."""
        if self._failing:
            self._failing = False
            wanted = (
                "no endostream tower without keys" if self._keys is None else "not the keys of a tower let in"
            )
            self.turn_away(who, "hand-shake", f"the hand-shake failed: {wanted}, or another program")

    def close(self) -> None:
        """Close the sockets; ``door`` is its owner's."""
        self._door.disable_monitor()
        self._monitor.close()
        if self._zap is not None:
            self._zap.close()


def _peer_of(descriptor: int) -> str:
    """Address of who is connected by ``descriptor``; it may be closed by now."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as peer:
            return str(peer.getpeername()[0])
    except (OSError, IndexError):
        return "someone"
