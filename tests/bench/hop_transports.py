"""The ways a picture can get from one process to another that ``bench_hop.py`` compares, each as sender and reader.

Separate from the benchmark, which times them all alike: a sender makes the picture where it sends it from
(``picture``), then sends it; a reader returns it once its pixels can be read, then copies it. Every library is used as
its own documentation does. Nothing here takes a time.
"""

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import zmq

from endostream.pipeline.board import Board, Topology
from endostream.pipeline.clock import MonotonicClock
from endostream.pipeline.frame import FrameKey, ImageBgr
from endostream.pipeline.link import LinkReader, LinkWriter, Received
from endostream.pipeline.ring import Block, FrameRing, RingShape, SlotPool
from endostream.pipeline.wire import FrameHeader, Kind, unpack_frame

SIZE_HW = (1080, 1920)
TIME_BASE = Fraction(1, 60)
SLOTS = 16
"""Pictures in rotation at the sender, ours and theirs: as many as a ring has by default."""
LINK = "capture-overlay"
WINDOW = 8


class Sender(ABC):
    """Sends pictures from the process that made them."""

    fds: tuple[int, ...] = ()
    """File descriptors the reader's process inherits."""

    @abstractmethod
    def picture(self, number: int) -> ImageBgr:
        """Memory to make picture ``number`` in."""

    @abstractmethod
    def send(self, number: int) -> None:
        """Send the picture just made."""

    def tidy(self) -> None:  # noqa: B027 - most have nothing to tidy
        """What a sender does between two frames."""

    @abstractmethod
    def close(self) -> None:
        """Close everything."""


class Reader(ABC):
    """Receives pictures in another process."""

    @abstractmethod
    def receive(self) -> ImageBgr:
        """Wait for the next picture; returns when its pixels can be read, in memory that is not the reader's own."""

    def copy(self, image_bgr: ImageBgr, out_bgr: ImageBgr) -> None:
        """Copy the picture just received to where the reader may draw on it."""
        np.copyto(out_bgr, image_bgr)

    def finish(self) -> None:  # noqa: B027 - most have no word for it
        """Say that the picture is done with, where the protocol has a word for that."""


class _ArraySender(Sender):
    """Has the pictures in arrays of its own."""

    def __init__(self) -> None:
        self._pictures = [np.zeros((*SIZE_HW, 3), np.uint8) for _ in range(SLOTS)]

    def picture(self, number: int) -> ImageBgr:
        return self._pictures[number % SLOTS]


class DescriptorSender(Sender):
    """Ours: the picture is made in a ring, its descriptor travels by a link, as capture does it."""

    def __init__(self, address: str) -> None:
        self._shape = RingShape(0, SIZE_HW, SLOTS)
        self._ring = FrameRing.create(self._shape)
        self._board, self._block = Board.create(Topology())
        self._context: zmq.Context[Any] = zmq.Context()
        self._writer = LinkWriter(self._context, address, LINK, WINDOW, self._board, MonotonicClock())
        self._pool = SlotPool(SLOTS)
        self._slot = 0
        self.fds = (self._ring.block.fd, self._block.fd)

    def picture(self, number: int) -> ImageBgr:
        self._slot = self._pool.take()
        return self._ring.begin(self._slot)

    def send(self, number: int) -> None:
        generation = self._ring.commit(self._slot)
        header = FrameHeader(FrameKey(0, 0, number), number, TIME_BASE, 0, SIZE_HW, 0, self._slot, generation)
        self._writer.send(Kind.FRAME, header.pack(), token=header.key)
        self._pool.give(self._slot)

    def tidy(self) -> None:
        self._writer.service()

    def close(self) -> None:
        self._writer.close()
        self._context.term()
        self._ring.close()


class CopyingDescriptorSender(DescriptorSender):
    """Ours, for a picture that was made elsewhere and has to be copied into the ring first."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._private = np.zeros((*SIZE_HW, 3), np.uint8)

    def picture(self, number: int) -> ImageBgr:
        return self._private

    def send(self, number: int) -> None:
        np.copyto(super().picture(number), self._private)
        super().send(number)


class DescriptorReader(Reader):
    """Ours: the picture is read in the ring, as preprocess does, or copied out, as overlay does, and checked."""

    def __init__(self, address: str, fds: tuple[int, ...]) -> None:
        shape = RingShape(0, SIZE_HW, SLOTS)
        self._ring = FrameRing(Block(fds[0], shape.total_bytes), shape)
        board = Board(Block(fds[1], Board.size_bytes(Topology()), populate=False), Topology())
        self._reader = LinkReader(zmq.Context(), address, LINK, board, MonotonicClock())
        self._poller = zmq.Poller()
        self._poller.register(self._reader.socket, zmq.POLLIN)
        self._received: deque[Received] = deque()
        self._header: FrameHeader | None = None

    def receive(self) -> ImageBgr:
        while not self._received:
            self._poller.poll()
            self._received.extend(self._reader.receive())
        self._header = header = unpack_frame(self._received[0].body)
        if not self._ring.is_current(header.slot, header.generation):
            raise ValueError("picture: overwritten; expected a sender that does not overtake its reader")
        return self._ring.view(header.slot)

    def copy(self, image_bgr: ImageBgr, out_bgr: ImageBgr) -> None:
        header = self._header
        if header is None or not self._ring.copy(header.slot, header.generation, out_bgr):
            raise ValueError("picture: overwritten; expected a sender that does not overtake its reader")

    def finish(self) -> None:
        self._reader.done(self._received.popleft())


class ImageZmqSender(_ArraySender):
    """imagezmq's ImageSender; REQ/REP is its default."""

    def __init__(self, address: str, req_rep: bool = True) -> None:
        super().__init__()
        import imagezmq

        self._sender = imagezmq.ImageSender(connect_to=address, REQ_REP=req_rep)

    def send(self, number: int) -> None:
        self._sender.send_image("bench", self.picture(number))

    def close(self) -> None:
        self._sender.zmq_socket.setsockopt(zmq.LINGER, 0)
        self._sender.close()


class ImageZmqReader(Reader):
    """imagezmq's ImageHub."""

    def __init__(self, address: str, req_rep: bool = True) -> None:
        import imagezmq

        self._hub = imagezmq.ImageHub(open_port=address, REQ_REP=req_rep)
        self._req_rep = req_rep

    def receive(self) -> ImageBgr:
        image_bgr: ImageBgr = self._hub.recv_image()[1]
        return image_bgr

    def finish(self) -> None:
        if self._req_rep:
            self._hub.send_reply(b"OK")


def _net_gear(address: str, receive: bool) -> Any:
    logging.disable(logging.INFO)  # or it introduces itself
    from vidgear.gears import NetGear

    protocol, _, place = address.partition("://")
    host, _, port = place.rpartition(":") if protocol == "tcp" else (place, "", None)
    return NetGear(
        address=host,
        port=port,
        protocol=protocol,
        pattern=0,
        receive_mode=receive,
        logging=False,
        jpeg_compression=False,
    )


class NetGearSender(_ArraySender):
    """VidGear's NetGear, its default pattern (PAIR), uncompressed."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._gear = _net_gear(address, receive=False)

    def send(self, number: int) -> None:
        self._gear.send(self.picture(number))

    def close(self) -> None:
        self._gear.close(kill=True)


class NetGearReader(Reader):
    """VidGear's NetGear receiving."""

    def __init__(self, address: str) -> None:
        self._gear = _net_gear(address, receive=True)

    def receive(self) -> ImageBgr:
        while (frame := self._gear.recv()) is None:
            pass
        image_bgr: ImageBgr = frame
        return image_bgr


class PushSender(_ArraySender):
    """Plain pyzmq: the whole array by PUSH, not copied by pyzmq."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.PUSH)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)

    def send(self, number: int) -> None:
        self._socket.send(self.picture(number), copy=False)

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class PullReader(Reader):
    """Plain pyzmq: PULL, the array a view of ZeroMQ's own memory."""

    def __init__(self, address: str) -> None:
        self._socket: Any = zmq.Context().socket(zmq.PULL)
        self._socket.bind(address)

    def receive(self) -> ImageBgr:
        return np.frombuffer(self._socket.recv(copy=False), np.uint8).reshape(*SIZE_HW, 3)


OURS, OURS_COPIED = "endostream", "endostream, copied into the ring first"
IMAGEZMQ = "imagezmq, REQ/REP"
_SENDERS: dict[str, Callable[[str], Sender]] = {
    OURS: DescriptorSender,
    OURS_COPIED: CopyingDescriptorSender,
    IMAGEZMQ: ImageZmqSender,
    "imagezmq, PUB/SUB": lambda address: ImageZmqSender(address, req_rep=False),
    "VidGear NetGear, PAIR": NetGearSender,
    "pyzmq, PUSH/PULL": PushSender,
}
TRANSPORTS: dict[str, tuple[str, str]] = {
    f"{OURS}, ipc": (OURS, "ipc"),
    f"{OURS_COPIED}, ipc": (OURS_COPIED, "ipc"),
    f"{IMAGEZMQ}, tcp (its default)": (IMAGEZMQ, "tcp"),
    f"{IMAGEZMQ}, ipc": (IMAGEZMQ, "ipc"),
    "imagezmq, PUB/SUB, tcp": ("imagezmq, PUB/SUB", "tcp"),
    "VidGear NetGear, PAIR, tcp (its default)": ("VidGear NetGear, PAIR", "tcp"),
    "pyzmq, PUSH/PULL, tcp": ("pyzmq, PUSH/PULL", "tcp"),
    "pyzmq, PUSH/PULL, ipc": ("pyzmq, PUSH/PULL", "ipc"),
}
"""What is measured: a name for people, what it is, and over which of ZeroMQ's transports."""


def open_sender(kind: str, address: str) -> Sender:
    """The sending end of ``kind``."""
    return _SENDERS[kind](address)


def open_reader(kind: str, address: str, fds: tuple[int, ...]) -> Reader:
    """The receiving end of ``kind``."""
    if kind in (OURS, OURS_COPIED):
        return DescriptorReader(address, fds)
    if kind.startswith("imagezmq"):
        return ImageZmqReader(address, req_rep=kind == IMAGEZMQ)
    if kind.startswith("VidGear"):
        return NetGearReader(address)
    return PullReader(address)
