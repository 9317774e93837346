"""A tower's side of an infer host: connect, agree on terms, send a tensor, wait for its mask, come back after a loss.

Separate from the stage that uses it (``remote_infer.py``), which knows frames. Every connection is a new socket with
a new epoch: nothing of a lost one can be taken for an answer, and nothing waits in a queue for a host that is gone.
One tensor is under way at most. No tensor leaves before the host has said HELLO, and with keys no byte but the
hand-shake's before CURVE has proved that both sides hold the other's key.
"""

from collections.abc import Callable, Iterator
from itertools import count, cycle
from typing import Any, Literal

import zmq
from zmq.utils.monitor import parse_monitor_message

from ..clock import Clock
from ..frame import SizeHW
from ..wire import HEAD_BYTES, Head, Kind, OtherVersion, WireError, pack_head, unpack_head
from .host_address import Unresolved, refuse_off_loopback, resolve
from .infer_connection import ATTEMPT_NS, Connection, HostSettings, open_connection
from .remote_wire import Terms, check_sum, pack_sum, unpack_terms, unpack_words

_SYN_INTERVAL_NS = 250_000_000
_RETRY_MIN_S, _RETRY_MAX_S = 0.1, 2.0
_ROOM_BYTES = 8192
"""More than any body is long."""
_WAIT_MS = 50
_SILENCE_NS = 4_000_000_000
"""Without a tensor under way a host pings every second; one that is silent for so long is not there any more."""
_LATE_ANSWERS = 3
"""After so many limits without an answer the connection is given up for a fresh one."""


class HostDown(ConnectionError):
    """There is no infer host to ask now; ``refused``: it is there, but not for us, for its "terms" or our "keys"."""

    def __init__(self, cause: str, refused: Literal["", "terms", "keys"] = "") -> None:
        super().__init__(f"refused: {cause}" if refused else cause)
        self.cause = str(self)
        self.refused = refused


class HostFailed(RuntimeError):
    """The infer host has answered that it has no mask for this tensor, and why."""


class InferClient:
    """Asks the infer host of ``settings``.

    Args:
        context: ZeroMQ context.
        settings: whom to ask, and for what.
        answer_bytes: length of a packed mask.
        clock: measures time-outs.
        tell: takes one line and its level whenever the state of the connection changes.
        agreed: called with the host's terms after each HELLO.
    """

    def __init__(
        self,
        context: "zmq.Context[Any]",
        settings: HostSettings,
        answer_bytes: int,
        clock: Clock,
        tell: Callable[[str, str], None] = lambda line, level: None,
        agreed: Callable[[Terms], None] = lambda terms: None,
    ) -> None:
        self.settings = settings
        self.refused_messages = 0
        self._context = context
        self._answer_bytes = answer_bytes
        self.clock = clock
        self._tell = tell
        self._agreed = agreed
        self._connection: Connection | None = None
        self._endpoints: Iterator[str] | None = None
        self._down = HostDown("not connected yet")
        self._told = ""
        self._numbers = count(1)
        self._host_epoch = 0
        self._last_syn_ns = 0
        self._shaken = False
        self._begun_ns = 0
        self._heard_ns = 0
        self._limit_ns = 0
        self._retry_ns = 0
        self._retry_s = _RETRY_MIN_S
        self._asked: tuple[int, int] | None = None
        self._answer: tuple[int, bytes | HostFailed] | None = None

    @property
    def ready(self) -> bool:
        """Whether a host has agreed to the terms and is there."""
        return self._host_epoch != 0

    @property
    def down(self) -> HostDown:
        """Why it is not ready."""
        return self._down

    def wait_ready(self, limit_s: float, tick: Callable[[], None] = lambda: None) -> bool:
        """Try for ``limit_s`` at most; whether a host is ready."""
        limit_ns = self.clock.now_ns() + int(limit_s * 1e9)
        self.service()
        while not self.ready and self.clock.now_ns() < limit_ns:
            self._wait(tick)
        return self.ready

    def ask(
        self, size_hw: SizeHW, payload: bytes, limit_s: float, tick: Callable[[], None] = lambda: None
    ) -> bytes:
        """Send a tensor and wait for its packed mask; ``tick`` is called while waiting.

        Raises:
            HostDown: no host is ready, it was lost meanwhile, or it did not answer within ``limit_s``.
            HostFailed: it answered that there is no mask.
        """
        begun_ns, self._limit_ns = self.clock.now_ns(), int(limit_s * 1e9)
        self.service()
        while self._asked is not None:  # an older one: a slow network is not fed with more
            self._wait_for_answer(begun_ns, tick)
        if not self.ready:
            raise self._down
        number = next(self._numbers)
        self._asked, self._answer = (number, begun_ns), None
        self._send(Kind.TENSOR, number, pack_sum(size_hw, payload), payload)
        while self._answer is None or self._answer[0] != number:
            if not self.ready:
                raise self._down
            self._wait_for_answer(begun_ns, tick)
        answer = self._answer[1]
        if isinstance(answer, HostFailed):
            raise answer
        return answer

    def _wait_for_answer(self, begun_ns: int, tick: Callable[[], None]) -> None:
        if self.clock.now_ns() - begun_ns > self._limit_ns:
            raise HostDown(f"no answer within {self._limit_ns / 1e9:g} s")
        self._wait(tick)

    def _wait(self, tick: Callable[[], None]) -> None:
        tick()
        if self._connection is None:
            self.clock.sleep_until_ns(min(self._retry_ns, self.clock.now_ns() + _WAIT_MS * 1_000_000))
        else:
            self._connection.poller.poll(_WAIT_MS)
        self.service()

    def service(self) -> None:
        """Read what there is, and connect again when it is time; never waits but for the name service."""
        now_ns = self.clock.now_ns()
        if self._connection is None:
            if now_ns >= self._retry_ns:
                self._connect()
            return
        self._read_messages()
        self._read_events()
        if self._connection is None:
            return
        if self.ready:
            self._mind_the_silence()
            return
        if now_ns - self._begun_ns > ATTEMPT_NS:
            self._lose("no answer to the hand-shake")
        elif self._shaken and now_ns - self._last_syn_ns > _SYN_INTERVAL_NS:
            self._last_syn_ns = now_ns
            self._send(Kind.SYN, 0, self.settings.terms.pack())

    def _mind_the_silence(self) -> None:
        now_ns = self.clock.now_ns()
        if self._asked is None:
            if now_ns - self._heard_ns > _SILENCE_NS:
                self._lose("connection lost: not a word from the host")
        elif now_ns - self._asked[1] > _LATE_ANSWERS * self._limit_ns:
            self._lose(f"no answer for {_LATE_ANSWERS * self._limit_ns / 1e9:g} s: connecting afresh")

    # Connecting

    def _connect(self) -> None:
        endpoint = self._next_endpoint()
        if endpoint is not None:
            self._shaken, self._last_syn_ns = False, 0
            self._begun_ns = self.clock.now_ns()
            longest_bytes = self._answer_bytes + _ROOM_BYTES
            self._connection = open_connection(self._context, endpoint, self.settings.keys, longest_bytes)

    def _next_endpoint(self) -> str | None:
        """The next of the addresses that the host's name, resolved once, stands for; None if it cannot be."""
        if self._endpoints is None:
            try:
                resolved = resolve(self.settings.address)
            except Unresolved as error:
                self._lose(str(error))
                return None
            if self.settings.keys is None:  # also here: the name may stand for something else by now
                refuse_off_loopback("infer.host", self.settings.address, resolved)
            self._endpoints = cycle(resolved.endpoints)
        return next(self._endpoints)

    def _lose(self, cause: str, refused: Literal["", "terms", "keys"] = "") -> None:
        """The connection is of no use any more: say why, and plan the next."""
        if self._connection is not None:
            self._connection.close()
        was_ready = self.ready
        self._connection, self._host_epoch, self._asked = None, 0, None
        self._retry_s = _RETRY_MIN_S if was_ready else min(2 * self._retry_s, _RETRY_MAX_S)
        self._retry_ns = self.clock.now_ns() + int(self._retry_s * 1e9)
        self._down = HostDown(cause, refused)
        if self._down.cause != self._told:
            self._told = self._down.cause
            self._tell(f"infer.host: {self.settings.address}; {self._told}", "warning")

    # Messages

    def _send(self, kind: Kind, number: int, body: bytes, payload: bytes | None = None) -> None:
        if self._connection is None:
            return
        head = pack_head(Head(kind, self._connection.epoch, self._host_epoch, number))
        parts = [head + body] if payload is None else [head + body, payload]
        try:
            self._connection.socket.send_multipart(parts, zmq.DONTWAIT)
        except zmq.Again:
            self._lose("the connection takes nothing more")

    def _read_messages(self) -> None:
        while self._connection is not None:
            try:
                parts = self._connection.socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            self._heard_ns = self.clock.now_ns()
            try:
                self._take(parts)
            except OtherVersion as error:
                self._lose(str(error), "terms")
            except WireError as error:
                self.refused_messages += 1
                if self.refused_messages == 1:
                    self._tell(f"infer.host: {self.settings.address}; {error}", "warning")

    def _take(self, parts: list[bytes]) -> None:
        head, body = unpack_head(parts[0]), parts[0][HEAD_BYTES:]
        if self._connection is None or head.writer_epoch != self._connection.epoch or len(parts) > 2:
            raise WireError("message: of another connection; expected this one's")
        if head.kind is Kind.REFUSED:
            self._lose(unpack_words(body), "terms")
        elif head.kind is Kind.HELLO:
            self._take_hello(head, unpack_terms(body))
        elif head.kind in (Kind.MASK, Kind.FAIL) and head.reader_epoch == self._host_epoch:
            self._take_answer(head, body, parts[1] if len(parts) == 2 else None)
        elif head.kind is not Kind.PING:
            raise WireError(f"kind: {head.kind.name}; expected HELLO, MASK, FAIL, PING or REFUSED")

    def _take_hello(self, head: Head, terms: Terms) -> None:
        if refusal := terms.refusal(self.settings.terms):
            self._lose(refusal, "terms")
            return
        if self._told:
            self._tell(f"infer.host: {self.settings.address}; connected again", "info")
        self._told, self._retry_s = "", _RETRY_MIN_S
        self._host_epoch = head.reader_epoch
        self._agreed(terms)

    def _take_answer(self, head: Head, body: bytes, payload: bytes | None) -> None:
        if self._asked is None or head.number != self._asked[0]:
            raise WireError(f"answer: to {head.number}; expected to the tensor under way")
        if head.kind is Kind.FAIL:
            answer: bytes | HostFailed = HostFailed(unpack_words(body))
        else:
            answer = check_sum(body, payload, self.settings.terms.input_hw, self._answer_bytes)
        self._asked, self._answer = None, (head.number, answer)

    # How the connection fares

    def _read_events(self) -> None:
        while self._connection is not None:
            try:
                event = parse_monitor_message(self._connection.monitor.recv_multipart(zmq.DONTWAIT))
            except zmq.Again:
                return
            self._take_event(event["event"])

    def _take_event(self, event: int) -> None:
        with_keys = self.settings.keys is not None
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._shaken = True
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._lose(
                "the host does not know this tower's key. "
                "Try: copy its towers/tower.key into towers/ of the host's keys",
                "keys",
            )
        elif event in (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
            hint = "another host.key, or no keys there" if with_keys else "it wants keys: --keys DIR"
            self._lose(f"the hand-shake failed; {hint}", "keys")
        elif event in (zmq.EVENT_DISCONNECTED, zmq.EVENT_CLOSED):
            self._lose("connection lost" if self._shaken else "cannot be reached")

    def close(self) -> None:
        """Close what is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
