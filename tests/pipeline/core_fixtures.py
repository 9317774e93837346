"""Helpers of the streaming core's tests: frames, boards, hosts and links made by hand, and waits that always end.

What has to be waited for is waited for in ``until``, which polls real sockets and fails after ten seconds; what has
to be cleaned up is cleaned up by a context manager that fails where something was left open. It holds no test.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import zmq

from endostream.configs.schema import Config
from endostream.pipeline.board import LINKS, Board, Topology
from endostream.pipeline.clock import VirtualClock
from endostream.pipeline.control import ControlChannel, PeerGone
from endostream.pipeline.frame import FrameKey, ImageBgr, SizeHW
from endostream.pipeline.host import RunSpec, StageHost
from endostream.pipeline.link import unaccounted
from endostream.pipeline.ring import FrameRing, RingShape
from endostream.pipeline.wire import FrameHeader

PATIENCE_S = 10.0
"""For what has to happen at once; only a machine under heavy load takes more than milliseconds of it."""
PERIOD_NS = 40_000_000


def header(seq: int = 0, **more: Any) -> FrameHeader:
    """A frame of 4 × 6 pixels in slot 0 of ring 0, 25 to the second, ``more`` replacing single fields."""
    fields: dict[str, Any] = {
        "key": FrameKey(0, 0, seq),
        "pts": seq,
        "time_base": Fraction(1, 25),
        "capture_ns": 1_000_000_000 + seq * PERIOD_NS,
        "size_hw": (4, 6),
        "ring": 0,
        "slot": 0,
        "generation": 2,
    }
    return FrameHeader(**{**fields, **more})


def solid(value: int, size_hw: SizeHW = (4, 6)) -> ImageBgr:
    """A picture of one grey."""
    return np.full((*size_hw, 3), value, np.uint8)


def write(ring: FrameRing, slot: int, value: int) -> int:
    """Write a picture of one grey into a slot; returns its generation."""
    ring.begin(slot)[:] = value
    return ring.commit(slot)


@contextmanager
def ring_of(slots: int = 4, size_hw: SizeHW = (4, 6), ring_id: int = 0) -> Iterator[FrameRing]:
    """A ring, closed afterwards."""
    ring = FrameRing.create(RingShape(ring_id, size_hw, slots))
    try:
        yield ring
    finally:
        ring.close()


@contextmanager
def zmq_context() -> Iterator["zmq.Context[Any]"]:
    """A ZeroMQ context that is ended in a thread, so that a socket left open fails the test instead of hanging it."""
    context: zmq.Context[Any] = zmq.Context()
    yield context
    ender = threading.Thread(target=context.term, daemon=True)
    ender.start()
    ender.join(5.0)
    if ender.is_alive():
        pytest.fail("a ZeroMQ socket was left open: the context does not end")


def new_board(sources: int = 1, sinks: int = 0) -> Board:
    """A board, all zero."""
    return Board.create(Topology(sources, sinks))[0]


def until(
    condition: Callable[[], object], sockets: Sequence["zmq.Socket[bytes]"] = (), what: str = ""
) -> None:
    """Call ``condition`` until it is true, waiting on ``sockets`` in between; fails after PATIENCE_S."""
    poller = zmq.Poller()
    for socket in sockets:
        poller.register(socket, zmq.POLLIN)
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"never came true: {what or condition}")
        poller.poll(2)


def closes(board: Board, link: str, under_way: int) -> bool:
    """Whether all that the link was offered has ended but for ``under_way``."""
    return unaccounted(board, link) == under_way


def all_links_close(board: Board) -> bool:
    """Whether nothing is unaccounted for on any link."""
    return all(unaccounted(board, link) == 0 for link in LINKS)


def config_of(**sections: dict[str, Any]) -> Config:
    """The default configuration with single settings replaced, by section."""
    return Config.model_validate(sections)


@dataclass
class HostRig:
    """A stage's surroundings, the supervisor's end of its control channel, and all that the stage said."""

    host: StageHost
    ours: ControlChannel
    heard: list[dict[str, Any]] = field(default_factory=list)

    def listen(self) -> list[dict[str, Any]]:
        """Everything the stage has said so far."""
        try:
            while (received := self.ours.receive()) is not None:
                self.heard.append(received[0])
        except PeerGone:
            pass
        return self.heard

    def said(self, kind: str) -> list[dict[str, Any]]:
        """The messages of one kind."""
        return [message for message in self.listen() if message["t"] == kind]

    def give_ring(self, role: str, ring: FrameRing, lookahead: int = 1, window: int = 2) -> None:
        """Send a ring as the supervisor does."""
        shape = ring.shape
        message = {"t": "ring", "role": role, "id": shape.ring_id, "size_hw": list(shape.size_hw)}
        message |= {"slots": shape.slots, "lookahead": lookahead, "window": window, "retired": []}
        self.ours.send(message, (ring.block.fd,))


@contextmanager
def host_rig(
    stage: str,
    context: "zmq.Context[Any]",
    mode: str = "live",
    config: Config | None = None,
    sinks: tuple[str, ...] = (),
    sources: tuple[str, ...] = ("a.avi",),
    board: Board | None = None,
) -> Iterator[HostRig]:
    """Surroundings for one stage over ``inproc://``, with a clock that stands still."""
    spec = RunSpec(
        "inproc://test/",
        "every-frame" if mode == "every-frame" else "live",
        (config or Config()).model_dump(),
        sources,
        sinks=sinks,
    )
    ours, theirs = ControlChannel.pair()
    board = board or Board.create(spec.topology)[0]
    host = StageHost(stage, spec, board, theirs, context, clock=VirtualClock(1_000_000_000))
    host.own_control()
    try:
        yield HostRig(host, ours)
    finally:
        host.close()
        ours.close()


def clock_of(host: StageHost) -> VirtualClock:
    """The clock of a rig, to be advanced."""
    assert isinstance(host.clock, VirtualClock)
    return host.clock
