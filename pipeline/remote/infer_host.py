"""The infer host: opens a segmenter and answers the tensors of one or several towers over TCP.

One thread, one socket: read all that is there, keep of each tower the newest tensor, compute for the one whose turn
it is, answer, again. So memory is bounded by the number of towers, whatever they send. It knows no frame and no
picture of full size, decides nothing about keys (``doorkeeper.py``), and writes nothing to disk.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from endostream.configs.errors import ConfigError, EndostreamError
from endostream.models.segmenter import Segmenter, SegmenterLost

from ..clock import Clock
from ..infer import packed_mask, payload_bytes
from ..link import new_epoch
from ..wire import HEAD_BYTES, Head, Kind, OtherVersion, WireError, pack_head, pack_text, unpack_head
from .doorkeeper import Doorkeeper
from .host_address import Unresolved, resolve
from .infer_connection import NETWORK_OPTIONS
from .remote_wire import Terms, check_sum, pack_sum, unpack_terms
from .towers import MOST_TOWERS, Tower, Towers

_POLL_MS = 200
_AT_ONCE = 64
"""Messages read before the next tensor is computed, so that a flood keeps no tower waiting."""
_PING_INTERVAL_NS = 1_000_000_000
_ROOM_BYTES = 8192
_ERRORS_IN_A_ROW = 3
"""After so many failures in a row the segmenter is opened afresh."""


@dataclass(frozen=True, slots=True)
class HostPlace:
    """Where a host listens (``tcp://HOST:PORT``, port 0 for any that is free), with which keys (None: loopback)."""

    listen: str
    keys: Path | None


class InferHost:
    """Serves until told to stop; to be closed.

    Args:
        context: ZeroMQ context of its own.
        place: where to listen.
        open_segmenter: called at once, and again when the segmenter has failed several times in a row.
        terms: what is offered; completed by what the segmenter says of itself.
        say: takes one line for whoever watches.
        clock: for what happens every so often.
    """

    def __init__(
        self,
        context: "zmq.Context[Any]",
        place: HostPlace,
        open_segmenter: Callable[[], Segmenter],
        terms: Terms,
        say: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.epoch = new_epoch()
        self.towers = Towers()
        self.refused_messages = 0
        self._say = say
        self._clock = clock
        self._open_segmenter = open_segmenter
        self._segmenter = open_segmenter()
        info = self._segmenter.info
        self.terms = Terms(
            terms.segmenter, terms.input_hw, terms.software, info.runtime, info.weights_sha256 or ""
        )
        self._payload_bytes = payload_bytes(terms.input_hw)
        self._errors_in_a_row = 0
        self._pinged_ns = 0
        self._socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self._set_options()
        self._door = Doorkeeper(context, self._socket, place.keys, say, clock)
        self.endpoints = self._bind(place.listen)

    def _set_options(self) -> None:
        for option, value in (
            (zmq.LINGER, 200),
            (zmq.ROUTER_MANDATORY, 1),
            *NETWORK_OPTIONS,
            (zmq.MAXMSGSIZE, self._payload_bytes + _ROOM_BYTES),
            (zmq.RCVHWM, 8),
            (zmq.SNDHWM, 16),
        ):
            self._socket.setsockopt(option, value)

    def _bind(self, listen: str) -> list[str]:
        bound = []
        try:
            for endpoint in resolve(listen).endpoints:
                self._socket.ipv6 = "[" in endpoint
                self._socket.bind(endpoint)
                bound.append(bytes(self._socket.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode())
        except (Unresolved, zmq.ZMQError) as error:
            self.close()
            raise ConfigError(f"listen: {listen}; cannot be listened on ({error})") from error
        return bound

    @property
    def refused_connections(self) -> int:
        """Who was turned away, so far, be it the same again."""
        return self._door.refused

    def run(self, stopping: Callable[[], bool]) -> None:
        """Serve until ``stopping`` says so; asked five times a second at least, but for one computation."""
        poller = zmq.Poller()
        for socket in (self._socket, *self._door.sockets):
            poller.register(socket, zmq.POLLIN)
        while not stopping():
            if not self.step():
                poller.poll(_POLL_MS)

    def step(self) -> bool:
        """Read what there is and compute one tensor; False if none waited."""
        self._door.service()
        for _ in range(_AT_ONCE):
            if not self._receive():
                break
        self._look_who_is_there()
        turn = self.towers.next()
        if turn is not None:
            self._compute(*turn)
        return turn is not None

    # Messages

    def _receive(self) -> bool:
        try:
            frames = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
        except zmq.Again:
            return False
        identity, parts = frames[0].bytes, [frame.bytes for frame in frames[1:]]
        tower = self.towers.get(identity)
        try:
            self._take(identity, tower, parts, frames[-1])
        except OtherVersion as error:
            self._refuse(identity, 0, _who(frames[-1]), "version", str(error))
        except WireError as error:
            self.refused_messages += 1
            if tower is not None:
                tower.counts.refused_messages += 1
            self._door.say_seldom(_who(frames[-1]), "message", f"sent what cannot be used: {error}")
        return True

    def _take(self, identity: bytes, tower: Tower | None, parts: list[bytes], frame: zmq.Frame) -> None:
        if not 1 <= len(parts) <= 2:
            raise WireError(f"message: {len(parts)} parts; expected 1 or 2")
        head, body = unpack_head(parts[0]), parts[0][HEAD_BYTES:]
        if head.kind is Kind.SYN and len(parts) == 1:
            self._take_syn(identity, head, unpack_terms(body), _who(frame))
        elif head.kind is not Kind.TENSOR:
            raise WireError(f"kind: {head.kind.name}; expected SYN or TENSOR")
        elif tower is None or (head.writer_epoch, head.reader_epoch) != (tower.epoch, self.epoch):
            raise WireError("tensor: of another connection; expected SYN first")
        else:
            payload = check_sum(
                body, parts[1] if len(parts) == 2 else None, self.terms.input_hw, self._payload_bytes
            )
            older = self.towers.ask(tower, head.number, payload)
            if older is not None:
                self._answer(tower, Kind.FAIL, older, pack_text("superseded"))

    def _take_syn(self, identity: bytes, head: Head, asked: Terms, who: str) -> None:
        if refusal := self.terms.refusal(asked):
            self._refuse(identity, head.writer_epoch, who, "terms", refusal)
            return
        known = self.towers.get(identity)
        tower = self.towers.add(identity, who, head.writer_epoch)
        if tower is None:
            self._refuse(
                identity, head.writer_epoch, who, "room", f"{MOST_TOWERS} towers are connected already"
            )
            return
        if known is None:
            self._say(f"{who} connected: endostream {asked.software}; {len(self.towers)} in all")
        self._answer(tower, Kind.HELLO, 0, self.terms.pack())

    def _refuse(self, identity: bytes, epoch: int, who: str, about: str, why: str) -> None:
        self._door.turn_away(who, about, why)
        head = pack_head(Head(Kind.REFUSED, epoch, self.epoch, 0))
        self._send(identity, [head + pack_text(why)])

    def _answer(
        self, tower: Tower, kind: Kind, number: int, body: bytes, payload: bytes | None = None
    ) -> None:
        head = pack_head(Head(kind, tower.epoch, self.epoch, number))
        if not self._send(tower.identity, [head + body] if payload is None else [head + body, payload]):
            self._forget(tower)

    def _send(self, identity: bytes, parts: list[bytes]) -> bool:
        """Whether the tower is still there; what it does not take is dropped."""
        try:
            self._socket.send_multipart([identity, *parts], zmq.DONTWAIT)
        except zmq.Again:
            return True
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            return False
        return True

    def _look_who_is_there(self) -> None:
        now_ns = self._clock.now_ns()
        if now_ns - self._pinged_ns < _PING_INTERVAL_NS:
            return
        self._pinged_ns = now_ns
        for tower in self.towers.all():
            self._answer(tower, Kind.PING, 0, b"")

    def _forget(self, tower: Tower) -> None:
        if self.towers.get(tower.identity) is tower:
            self.towers.remove(tower)
            self._say(f"{tower.name} gone; {len(self.towers)} left")

    # Computing

    def _compute(self, tower: Tower, number: int, payload: bytes) -> None:
        try:
            packed = packed_mask(self._segmenter, payload, self.terms.input_hw)
        except SegmenterLost as error:
            raise EndostreamError(
                f"segmenter: {error}; it cannot go on in this process. Try: start again"
            ) from error
        except Exception as error:  # whatever a segmenter raises, the other towers are served
            tower.counts.failed += 1
            words = f"{type(error).__name__}: {error}"
            self._door.say_seldom("segmenter", "failure", f"failed: {words}")
            self._answer(tower, Kind.FAIL, number, pack_text(words))
            self._mind_errors()
            return
        self._errors_in_a_row = 0
        tower.counts.answered += 1
        self._answer(tower, Kind.MASK, number, pack_sum(self.terms.input_hw, packed), packed)

    def _mind_errors(self) -> None:
        self._errors_in_a_row += 1
        if self._errors_in_a_row < _ERRORS_IN_A_ROW:
            return
        self._errors_in_a_row = 0
        self._say(f"segmenter failed {_ERRORS_IN_A_ROW} times in a row; it is opened afresh")
        self._segmenter.close()
        self._segmenter = self._open_segmenter()

    def totals(self) -> dict[str, Any]:
        """What was served: counts by tower, refused connections and messages."""
        return {
            "segmenter": self.terms.segmenter,
            "runtime": self.terms.runtime,
            "weights_sha256": self.terms.weights_sha256 or None,
            "towers": self.towers.totals(),
            "refused_connections": self.refused_connections,
            "refused_messages": self.refused_messages,
        }

    def close(self) -> None:
        """Let the socket go, then the segmenter."""
        self._door.close()
        self._socket.close()
        self._segmenter.close()


def _who(frame: zmq.Frame) -> str:
    """Name of the tower by its key, and its address: what ZeroMQ knows of where a message came from."""
    found = []
    for what in ("User-Id", "Peer-Address"):
        try:
            found.append(str(frame.get(what)))
        except zmq.ZMQError:
            continue
    name, address = (found[0], found[-1]) if len(found) == 2 else ("", "".join(found))
    return f"{name} ({address})" if name else address or "someone"
