"""A link: a bounded, counted, one-way connection between two stages that survives the death of either.

What ZeroMQ alone does not give (measured with libzmq 4.3.5): a high-water mark is not a queue depth (HWM 1 accepted
2 to 3 frames), CONFLATE breaks messages of two parts, REQ/REP hangs after a peer restarts. So a link counts its own
depth: the reader acknowledges every message when it is done with it, and the writer never has more than ``window``
of them under way. The reader binds a ROUTER, the writer connects a DEALER.

Hand-shake: the writer sends SYN until it hears HELLO, which names the reader's epoch. Data carries that epoch; a
reader that was restarted has another one, discards what was meant for its predecessor and answers HELLO, upon which
the writer counts all that was under way as ``lost_with_stage``. Nothing is ever sent twice by the link itself but
the end, which a reader that was restarted has to hear too.

Accounting, on the board: ``sent`` counts what the writer was offered; each ends as ``acknowledged``, as
``dropped.<cause>`` or as ``lost_with_stage``, or is in flight. Cells written by the writer and by the reader are
disjoint. A link never waits; its callers poll.
"""

import contextlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import zmq

from .board import Board
from .clock import Clock
from .wire import HEAD_BYTES, Head, Kind, WireError, pack_head, unpack_head

_SYN_INTERVAL_NS = 50_000_000
_QUIET_NS = 150_000_000
"""With messages or the end under way and no word from the reader for this long, the writer asks who is there."""
_LINGER_MS = 500


def _socket(context: "zmq.Context[Any]", kind: int) -> "zmq.Socket[bytes]":
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.LINGER, _LINGER_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, 5)
    return socket


def new_epoch() -> int:
    """A number no other start of a stage has."""
    return secrets.randbits(63) | 1


def unaccounted(board: Board, name: str) -> int:
    """Messages of the link ``name`` that were offered and have not ended yet, by the board."""
    cells = board.group(name)
    dropped = sum(count for cell, count in cells.items() if cell.startswith("dropped."))
    return cells["sent"] - cells["acknowledged"] - dropped - cells["lost_with_stage"]


class LinkWriter:
    """The sending end.

    Args:
        context: ZeroMQ context; the link opens one socket in it.
        endpoint: where the reader binds.
        name: link name on the board.
        window: most messages under way.
    """

    def __init__(
        self, context: "zmq.Context[Any]", endpoint: str, name: str, window: int, board: Board, clock: Clock
    ) -> None:
        self.name = name
        self.window = window
        self.epoch = new_epoch()
        self._clock = clock
        self._endpoint = endpoint
        self._reader_epoch = 0
        self._number = 0
        self._ended = False
        self._end_owed = False
        self._last_syn_ns = 0
        self._last_heard_ns = 0
        self._under_way: OrderedDict[int, object] = OrderedDict()
        self._done: list[object] = []
        self._lost: list[object] = []
        self._board = board
        self._sent = board.cell(f"{name}.sent")
        self._lost_cell = board.cell(f"{name}.lost_with_stage")
        self._no_reader = board.cell(f"{name}.dropped.no_reader")
        self._link_full = board.cell(f"{name}.dropped.link_full")
        self._invalid = board.cell(f"{name}.invalid_answers")
        self.socket = _socket(context, zmq.DEALER)
        self.socket.connect(endpoint)
        self.service()

    @property
    def connected(self) -> bool:
        """Whether a reader has said HELLO."""
        return self._reader_epoch != 0

    @property
    def under_way(self) -> int:
        """Messages sent and not yet acknowledged."""
        return len(self._under_way)

    @property
    def can_send(self) -> bool:
        """Whether ``send`` would send rather than drop."""
        return self.connected and len(self._under_way) < self.window

    def send(self, kind: Kind, body: bytes, payload: Any = None, token: object = None) -> bool:
        """Send one message, or drop it and count why; True if it was sent.

        ``token`` comes back from ``service`` when the reader is done with the message, from ``take_lost`` if the
        reader died with it. ``payload`` is any buffer; it is copied.
        """
        self._sent.add()
        if not self.connected:
            self._no_reader.add()
            return False
        if len(self._under_way) >= self.window:
            self._link_full.add()
            return False
        self._number += 1
        self._under_way[self._number] = token
        self._ended = self._end_owed = False
        self._transmit(kind, body, payload)
        return True

    def send_end(self) -> None:
        """Tell the reader that nothing more comes, as soon as there is one, and each that follows it. Not counted.

        What is sent later takes it back.
        """
        self._ended = True
        self._end_owed = not self.connected
        if self.connected:
            self._number += 1
            self._transmit(Kind.EOS, b"", None)

    def _transmit(self, kind: Kind, body: bytes, payload: Any) -> None:
        head = pack_head(Head(kind, self.epoch, self._reader_epoch, self._number)) + body
        self._put([head] if payload is None else [head, payload])

    def _put(self, parts: list[Any]) -> None:
        try:
            self.socket.send_multipart(parts, flags=zmq.DONTWAIT)
        except (
            zmq.Again
        ):  # only over inproc, which does not connect again by itself to a reader that comes back
            self.socket.connect(self._endpoint)
            self.socket.send_multipart(parts, flags=zmq.DONTWAIT)

    def service(self) -> list[object]:
        """Read what the reader says; returns the tokens of messages it is done with since the last call."""
        if (
            self._end_owed and self.connected
        ):  # and the caller has sent nothing again since it was told what is lost
            self.send_end()
        while True:
            try:
                parts = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            self._last_heard_ns = self._clock.now_ns()
            try:
                self._take(_answer_head(parts))
            except WireError:
                self._invalid.add()
        self._ask_who_is_there()
        done, self._done = self._done, []
        return done

    def take_lost(self) -> list[object]:
        """Tokens of messages that died with their reader since the last call."""
        lost, self._lost = self._lost, []
        return lost

    def _take(self, head: Head) -> None:
        if head.writer_epoch != self.epoch:
            raise WireError("answer: to another start of the writer")
        if head.kind is Kind.HELLO and head.reader_epoch != self._reader_epoch:
            if self.connected:
                # By the board, not by what is under way: the dead reader may have used what it could not acknowledge.
                # Not for the first reader we hear of: it may still use what our own predecessor sent it.
                self._lost_cell.add(max(0, unaccounted(self._board, self.name)))
            self._reader_epoch = head.reader_epoch
            self._end_owed = self._ended
            self._lost.extend(self._under_way.values())
            self._under_way.clear()
        elif head.kind is Kind.ACK:
            if head.reader_epoch != self._reader_epoch or head.number not in self._under_way:
                raise WireError(f"answer: to message {head.number}; expected one that is under way")
            self._done.append(self._under_way.pop(head.number))

    def _ask_who_is_there(self) -> None:
        now_ns = self._clock.now_ns()
        waits = self.under_way > 0 or self._ended
        quiet = waits and now_ns - self._last_heard_ns > _QUIET_NS
        if (not self.connected or quiet) and now_ns - self._last_syn_ns > _SYN_INTERVAL_NS:
            self._last_syn_ns = now_ns
            self._put([pack_head(Head(Kind.SYN, self.epoch, 0, 0))])

    def close(self) -> None:
        """Close the socket; what was sent is still delivered if the reader takes it within half a second."""
        self.socket.close()


def _answer_head(parts: list[bytes]) -> Head:
    """The head of what a reader says, which is nothing but a head; raises WireError."""
    head = unpack_head(parts[0])
    if len(parts) != 1 or len(parts[0]) != HEAD_BYTES or head.kind not in (Kind.HELLO, Kind.ACK):
        raise WireError(f"answer: {head.kind.name} of {len(parts)} parts; expected HELLO or ACK alone")
    return head


@dataclass(slots=True)
class Received:
    """One message as it came. ``body`` and ``payload`` are the reader's own; ``received_ns`` is monotonic."""

    kind: Kind
    body: bytes
    payload: bytes | None
    received_ns: int
    number: int
    writer_epoch: int
    identity: bytes


class LinkReader:
    """The receiving end; binds ``endpoint``. Every message that ``receive`` returns is to be handed to ``done`` or
    to ``drop`` exactly once, EOS aside."""

    def __init__(
        self, context: "zmq.Context[Any]", endpoint: str, name: str, board: Board, clock: Clock
    ) -> None:
        self.name = name
        self.epoch = new_epoch()
        self._clock = clock
        self._board = board
        self._acknowledged = board.cell(f"{name}.acknowledged")
        self._invalid = board.cell(f"{name}.invalid_messages")
        self._other_epoch = board.cell(f"{name}.other_epoch")
        self._endpoint = endpoint
        self.socket = _socket(context, zmq.ROUTER)
        self.socket.bind(endpoint)

    def receive(self) -> list[Received]:
        """All messages that are there now, oldest first."""
        received: list[Received] = []
        while True:
            try:
                parts = self.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return received
            message = self._take(parts)
            if message is not None:
                received.append(message)

    def _take(self, parts: list[bytes]) -> Received | None:
        identity, *rest = parts
        try:
            if not 1 <= len(rest) <= 2:
                raise WireError(f"message: {len(rest)} parts; expected 1 or 2")
            head = unpack_head(rest[0])
            if head.kind in (Kind.HELLO, Kind.ACK):
                raise WireError(f"kind: {head.kind.name}; expected what a writer says")
            if head.kind in (Kind.SYN, Kind.EOS) and (len(rest) != 1 or len(rest[0]) != HEAD_BYTES):
                raise WireError(f"{head.kind.name}: expected a head alone")
        except WireError:
            self._invalid.add()
            return None
        if head.kind is Kind.SYN or head.reader_epoch != self.epoch:
            if head.kind is not Kind.SYN:
                self._other_epoch.add()
            self._answer(identity, Head(Kind.HELLO, head.writer_epoch, self.epoch, 0))
            return None
        payload = rest[1] if len(rest) == 2 else None
        now_ns = self._clock.now_ns()
        return Received(
            head.kind, rest[0][HEAD_BYTES:], payload, now_ns, head.number, head.writer_epoch, identity
        )

    def done(self, message: Received) -> None:
        """Count ``message`` as used and give its credit back."""
        self._acknowledged.add()
        self._give_back(message)

    def drop(self, message: Received, cause: str) -> None:
        """Count ``message`` as dropped for ``cause`` (one of READER_CAUSES) and give its credit back."""
        self._board.cell(f"{self.name}.dropped.{cause}").add()
        self._give_back(message)

    def _give_back(self, message: Received) -> None:
        self._answer(message.identity, Head(Kind.ACK, message.writer_epoch, self.epoch, message.number))

    def _answer(self, identity: bytes, head: Head) -> None:
        # A ROUTER drops what is addressed to a writer that is gone, which is right: it has nothing under way.
        self.socket.send_multipart([identity, pack_head(head)], zmq.DONTWAIT)

    def close(self) -> None:
        """Close the socket."""
        if self._endpoint.startswith("inproc:"):  # whose name is free again only some time after the closing
            with contextlib.suppress(zmq.ZMQError):
                self.socket.unbind(self._endpoint)
        self.socket.close()
