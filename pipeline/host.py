"""What a stage has around it: board, control channel, rings, ZeroMQ context, clock. The same in a process or a thread.

Separate from the stages so that what computes knows no socket, and from the supervisor so that a stage started
alone in a test has the very same surroundings. It does not decide when a stage is restarted.
"""

import os
import select
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self

import zmq

from endostream.configs.schema import Config, RunMode

from .board import Board, Topology
from .clock import Clock, MonotonicClock
from .control import ControlChannel, PeerGone
from .frame import SizeHW
from .ring import Block, FrameRing, RingShape

CAPTURED, PRESENTED = "captured", "presented"
"""Roles of a ring: what capture writes; what overlay writes for the record process."""
BEAT_MS = 100
"""Longest wait between two heartbeats of a stage that has nothing to do."""
SESSION_STREAMS = ("raw", "overlay", "log")
"""What a recorded session consists of: the video as it came, the video with marks, a line for each frame."""
_INBOX: dict[str, dict[str, type]] = {
    "resend": {},
    "record_restarted": {},
    "record_link": {},
    "recording_state": {},
    "recording": {"on": bool},
    "source_info": {"fps": str},
}
"""What a stage reads by itself, and what must be in it."""
_REFUSAL_INTERVAL_NS = 1_000_000_000
_LONGEST_LINE = 2000
"""Characters of a message for the log: an exception may hold a whole array in words."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """All that a stage is told at its start; travels as JSON.

    Attributes:
        endpoints: prefix of every link's endpoint, ``ipc:///…/`` or ``inproc://…/``.
        mode: ``live`` or ``every-frame``.
        config: the whole configuration as plain data.
        sources: addresses in the order they are played.
        presenting: kind of the sink that presents.
        sinks: ``KIND:PATH`` of the sinks that the record process writes.
        chaos: whether stages can be told to go wrong (``chaos.py``), for ``endostream faults``.
        session: folder of this run's recorded session, "" where none can be recorded.
        record_at_start: whether recording begins with the run; it can be started and stopped at any time.
        recorded_masks: whether the sources are sessions whose recorded masks stand in for the annotation path.
    """

    endpoints: str
    mode: RunMode
    config: dict[str, Any]
    sources: tuple[str, ...]
    presenting: str = "null"
    sinks: tuple[str, ...] = ()
    chaos: bool = False
    session: str = ""
    record_at_start: bool = False
    recorded_masks: bool = False

    @property
    def topology(self) -> Topology:
        """What the board's layout follows from."""
        return Topology(len(self.sources), len(self.sinks) + (len(SESSION_STREAMS) if self.session else 0))

    @property
    def session_sinks(self) -> dict[str, int]:
        """Number on the board of each stream that a session of this run has; they come behind the sinks."""
        record = self.config.get("record", {})
        numbers = enumerate(SESSION_STREAMS, len(self.sinks))
        return {stream: n for n, stream in numbers if self.session and record.get(stream) != "off"}

    @property
    def records_at_start(self) -> bool:
        """Whether the record process is needed from the start."""
        return bool(self.sinks) or self.record_at_start

    @property
    def every_frame(self) -> bool:
        """Whether no frame may be dropped."""
        return self.mode == "every-frame"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Undo ``to_json``."""
        return cls(**{**data, "sources": tuple(data["sources"]), "sinks": tuple(data["sinks"])})


@dataclass(slots=True)
class RingLease:
    """A ring as its writer got it, with how far it may look ahead and how many frames may be in flight."""

    ring: FrameRing
    lookahead_frames: int
    window_frames: int


@dataclass
class StageHost:
    """The surroundings of one stage; used from its main thread, but for what says otherwise.

    ``stopping``: end at once, outputs finished. ``finishing``: take nothing new in, let what is under way end.
    ``on_ring`` is called with role and size of every ring that is attached.
    """

    stage: str
    spec: RunSpec
    board: Board
    control: ControlChannel
    context: "zmq.Context[Any]"
    clock: Clock = field(default_factory=MonotonicClock)
    incarnation: int = 0
    stopping: bool = False
    finishing: bool = False
    go: bool = False
    inbox: list[dict[str, Any]] = field(default_factory=list)
    on_ring: Callable[[str, SizeHW], None] = lambda role, size_hw: None
    on_chaos: Callable[[dict[str, Any]], None] = lambda message: None

    def __post_init__(self) -> None:
        self._rings: dict[int, FrameRing] = {}
        self._answers: dict[str, RingLease] = {}
        self._refused = 0
        self._refusal_ns = -_REFUSAL_INTERVAL_NS
        self._invalid_control = self.board.cell(f"{self.stage}.invalid_control")
        self._answered = threading.Condition()
        self._heartbeat = self.board.cell(f"{self.stage}.heartbeat_ns")
        self._busy = self.board.cell(f"{self.stage}.busy_since_ns")
        self._busy.value = 0
        self._poller = zmq.Poller()
        self._poller.register(self.control.fileno(), zmq.POLLIN)
        self.beat()

    @cached_property
    def config(self) -> Config:
        """The configuration, validated again."""
        return Config.model_validate(self.spec.config)

    def endpoint(self, link: str) -> str:
        """Where the reader of ``link`` binds."""
        return self.spec.endpoints + link

    def watch(self, socket: "zmq.Socket[bytes]") -> None:
        """Let ``poll`` return when ``socket`` has something to read."""
        self._poller.register(socket, zmq.POLLIN)

    def watch_fd(self, fd: int) -> None:
        """Let ``poll`` return when the file descriptor has something to read."""
        self._poller.register(fd, zmq.POLLIN)

    def beat(self) -> None:
        """Show that the stage is alive."""
        self._heartbeat.value = self.clock.now_ns()

    def busy(self) -> None:
        """Show that work has begun; ``idle`` ends it. What takes too long in between counts as hung."""
        self._busy.value = self.clock.now_ns()

    def idle(self) -> None:
        """Show that no work is pending."""
        self._busy.value = 0
        self.beat()

    def poll(self, timeout_ms: float = BEAT_MS) -> None:
        """Wait for a message or for ``timeout_ms``, whichever is first; read the control channel."""
        self.beat()
        self._poller.poll(max(0, int(min(timeout_ms, BEAT_MS))))
        self.beat()
        self.read_control()

    def read_control(self) -> None:
        """Take in all control messages that are there. A closed channel means stop."""
        try:
            while (received := self.control.receive()) is not None:
                self._take_or_refuse(*received)
        except PeerGone:
            self.stopping = True
        if self._refused + self.control.refused != self._invalid_control.value:
            self._invalid_control.value = self._refused + self.control.refused

    def _take_or_refuse(self, message: dict[str, Any], fds: list[int]) -> None:
        """What is not as it should be is counted and said, and changes nothing."""
        try:
            self._take(message, fds)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError, OSError) as error:
            self._refused += 1
            self.log_refusal(f"{self.stage}: control message refused: {type(error).__name__}: {error}")
        for fd in fds:
            os.close(fd)

    def _take(self, message: dict[str, Any], fds: list[int]) -> None:
        """Take in one message; of ``fds``, those that are left are not needed."""
        kind = message["t"]
        if kind == "stop":
            self.stopping = True
        elif kind == "finish":
            self.finishing = True
        elif kind == "go":
            self.go = True
        elif kind == "ring":
            self._attach(message, fds)
        elif kind == "chaos":
            self.on_chaos(message)
        else:
            wanted = _INBOX[kind]
            if not all(isinstance(message[name], of) for name, of in wanted.items()):
                raise ValueError(f"{kind}: expected {wanted}")
            self.inbox.append(message)

    def _attach(self, message: dict[str, Any], fds: list[int]) -> None:
        shape = RingShape(message["id"], tuple(message["size_hw"]), message["slots"])
        if os.fstat(fds[0]).st_size < shape.total_bytes:
            raise ValueError(f"ring: {shape}; expected no more than its memory holds")
        ring = FrameRing(Block(fds.pop(0), shape.total_bytes), shape)
        self._rings[shape.ring_id] = ring
        for ring_id in message["retired"]:
            retired = self._rings.pop(ring_id, None)
            if retired is not None:
                retired.close()
        self.on_ring(message["role"], shape.size_hw)
        with self._answered:
            self._answers[message["role"]] = RingLease(ring, message["lookahead"], message["window"])
            self._answered.notify_all()

    def has_ring_of(self, size_hw: SizeHW) -> bool:
        """Whether a ring of pictures of this size is attached."""
        return any(ring.shape.size_hw == size_hw for ring in self._rings.values())

    def ring(self, ring_id: int) -> FrameRing | None:
        """The ring a descriptor names, None if it is retired or unknown."""
        if ring_id not in self._rings:
            self.read_control()  # its descriptor was sent before any frame in it
        return self._rings.get(ring_id)

    def lease(self, role: str, size_hw: SizeHW) -> RingLease | None:
        """Ask the supervisor for a ring to write; waits for it. None if the stage is to stop meanwhile.

        May be called from another thread as long as the main thread polls.
        """
        with self._answered:
            self._answers.pop(role, None)
        self.say("need_ring", role=role, size_hw=list(size_hw))
        while not self.stopping:
            if threading.current_thread() is threading.main_thread() or self._owns_control():
                self._wait_readable()
                self.read_control()
            with self._answered:
                lease = self._answers.get(role)
                if lease is None:
                    self._answered.wait(0.02)
                    lease = self._answers.get(role)
                if lease is not None and lease.ring.shape.size_hw == size_hw:
                    return lease
        return None

    def own_control(self) -> None:
        """Say that the calling thread is the one that polls (in thread mode that is not the main thread)."""
        self._control_thread = threading.current_thread()

    def _owns_control(self) -> bool:
        return getattr(self, "_control_thread", None) is threading.current_thread()

    def _wait_readable(self) -> None:
        self.beat()
        select.select([self.control.fileno()], [], [], 0.02)

    def say(self, kind: str, /, **more: Any) -> None:
        """Tell the supervisor; if it is gone, stop."""
        try:
            self.control.send({"t": kind, **more})
        except PeerGone:
            self.stopping = True

    def log(self, message: str, level: str = "warning") -> None:
        """Have the supervisor log one line."""
        self.say("log", level=level, message=message[:_LONGEST_LINE])

    def log_refusal(self, message: str) -> None:
        """Have a refused message logged, one a second at most; all are counted where they are refused."""
        now_ns = self.clock.now_ns()
        if now_ns - self._refusal_ns >= _REFUSAL_INTERVAL_NS:
            self._refusal_ns = now_ns
            self.log(message)

    def fail(self, message: str, exit_code: int) -> None:
        """Tell the supervisor that this stage cannot go on for a reason a restart would not mend."""
        self.say("error", message=message[:_LONGEST_LINE], exit_code=exit_code)

    def close(self) -> None:
        """Let go of rings and channel."""
        for ring in self._rings.values():
            ring.close()
        self._rings = {}
        self.control.close()


StageMain = Callable[[StageHost], None]
