"""Random and mutated messages into every link, through real sockets, into the real stage processes behind them.

    python -m tests.fuzz_links --messages 100000 [--link NAME]... [--seed 1]

Each target is a stage process as the supervisor starts it (or ``endostream infer-host``, or a stage's control
channel); this program plays its neighbours. Of each message it knows beforehand, from how it was made, what must
become of it: refused as no message, refused as meant for another start, or handed to the stage, where one that was
spoilt for sure must be refused too. At the end every message must stand in exactly one counter, and the counts of
refused ones must be those that were sent; the process must be the same one, answer, and have grown by less than
``MOST_GROWTH_MIB``. It prints one line of JSON for each link, and ends with 1 if anything was not so.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zmq

from endostream.configs.schema import Config
from endostream.models.transform import Transform
from endostream.pipeline.board import Board
from endostream.pipeline.control import ControlChannel, PeerGone
from endostream.pipeline.frame import Annotation, Box, FrameKey, MaskState, Stamp
from endostream.pipeline.host import CAPTURED, PRESENTED, RunSpec
from endostream.pipeline.launcher import ProcessLauncher
from endostream.pipeline.link import new_epoch
from endostream.pipeline.ring import FrameRing
from endostream.pipeline.rings import KeptRing, RingKeeper
from endostream.pipeline.rundir import RunDirectory
from endostream.pipeline.sessions.packets import SourcePacket
from endostream.pipeline.wire import (
    HEAD_BYTES,
    FrameHeader,
    Head,
    Kind,
    MaskHeader,
    Place,
    PresentedHeader,
    TensorHeader,
    pack_fail,
    pack_head,
    unpack_head,
)

SIZE_HW = (96, 128)
INPUT_HW = (320, 320)
MOST_GROWTH_MIB = 24.0
PATIENCE_S = 90.0
LINKS = {
    "capture-overlay": "overlay",
    "infer-overlay": "overlay",
    "capture-preprocess": "preprocess",
    "preprocess-infer": "infer",
    "overlay-record": "record",
    "capture-record": "record",
}
HERE = Path(__file__).resolve().parent
Parts = list[bytes]


@dataclass(frozen=True)
class Shot:
    """One message, and what must become of it: ``invalid``, ``other_epoch``, ``silent`` (SYN, EOS: no counter),
    ``bad`` (handed to the stage, which must refuse it) or ``either`` (handed to the stage, which may take it)."""

    parts: Parts
    fate: str
    number: int = 0


def frame_header(chance: random.Random, **more: Any) -> FrameHeader:
    """A frame as capture sends it."""
    seq = chance.randrange(1 << 20)
    fields: dict[str, Any] = {
        "key": FrameKey(0, 0, seq),
        "pts": seq,
        "time_base": Fraction(1, 25),
        "capture_ns": time.monotonic_ns(),
        "size_hw": SIZE_HW,
        "ring": 0,
        "slot": chance.randrange(4),
        "generation": 2,
        "stamps": (Stamp("capture", 1, 2),),
    }
    return FrameHeader(**{**fields, **more})


def hostile_fields(chance: random.Random) -> dict[str, Any]:
    """Fields of a frame's header that no capture would send."""
    extremes = (0, 1, -1, (1 << 31) - 1, (1 << 32) - 1, -(1 << 63), (1 << 63) - 1)
    unsigned = [value for value in extremes if 0 <= value < 1 << 32]
    return chance.choice(
        (
            {"size_hw": (chance.choice(unsigned), chance.choice(unsigned))},
            {"size_hw": (SIZE_HW[1], SIZE_HW[0])},
            {"ring": chance.choice(unsigned)},
            {"slot": chance.choice(unsigned)},
            {"generation": chance.choice((0, 1, 3, (1 << 64) - 1))},
            {"key": FrameKey(*(chance.choice(unsigned) for _ in range(3)))},
            {"pts": chance.choice(extremes), "capture_ns": chance.choice(extremes)},
            {"time_base": Fraction(chance.choice((1, (1 << 31) - 1)), chance.choice((1, (1 << 31) - 1)))},
            {"stamps": (Stamp("capture", -(1 << 63), (1 << 63) - 1),) * chance.randrange(1, 200)},
        )
    )


def presented(chance: random.Random, frame: FrameHeader) -> PresentedHeader:
    """A presented frame as overlay hands it to record."""
    note = Annotation(MaskState.FRESH, frame.key.seq, 1, (Box(1, 2, 3, 4),), 12, 7, "")
    return PresentedHeader(frame, note, time.monotonic_ns(), 5, False, raw=Place(0, chance.randrange(4), 2))


def real_message(link: str, chance: random.Random, frame: FrameHeader) -> tuple[Kind, bytes, bytes | None]:
    """Kind, body and payload of a message as the writer of ``link`` sends it."""
    transform = Transform.of_picture(SIZE_HW, INPUT_HW).to_ints()
    pixels = INPUT_HW[0] * INPUT_HW[1]
    if link == "preprocess-infer":
        if chance.random() < 0.1:
            return Kind.FAIL, pack_fail(frame, "overwritten"), None
        payload = chance.randbytes(1024) * (pixels * 3 // 1024) + b"\xff" * (pixels // 8)
        return Kind.TENSOR, TensorHeader(frame, transform, INPUT_HW).pack(), payload
    if link == "infer-overlay":
        import zlib

        packed = chance.randbytes(8) * (pixels // 64)
        return Kind.MASK, MaskHeader(frame, transform, INPUT_HW, zlib.crc32(packed)).pack(), packed
    if link == "overlay-record":
        return Kind.PRESENTED, presented(chance, frame).pack(), b""
    if link == "capture-record":
        name = (0, 0, frame.capture_ns, frame.key.seq)
        return (
            Kind.PACKET,
            SourcePacket(*name, frame.pts, frame.pts, 1, Fraction(1, 25), False, b"", b"x").pack(),
            chance.randbytes(200),
        )
    return Kind.FRAME, frame.pack(), None


class Gunner:
    """Makes messages for one link from a seed.

    Args:
        link: its name.
        chance: where all choices come from.
        epochs: the writer's and the reader's.
    """

    def __init__(self, link: str, chance: random.Random, epochs: tuple[int, int]) -> None:
        self.link = link
        self.chance = chance
        self.epochs = epochs
        self.number = 0
        self.makers = (
            (30, self.noise),
            (15, self.spoilt_head),
            (10, self.other_epoch),
            (5, self.silent),
            (10, self.wrong_kind),
            (15, self.spoilt_body),
            (8, self.flipped),
            (5, self.hostile),
            (2, self.good),
        )

    def shot(self) -> Shot:
        """The next message."""
        makers = [maker for _, maker in self.makers]
        (maker,) = self.chance.choices(makers, [weight for weight, _ in self.makers])
        return maker()

    def _head(self, kind: Kind, number: int | None = None) -> bytes:
        return pack_head(Head(kind, *self.epochs, self.number if number is None else number))

    def _data(self, body: bytes, payload: bytes | None, kind: Kind, fate: str) -> Shot:
        self.number += 1
        head = self._head(kind)
        return Shot([head + body] if payload is None else [head + body, payload], fate, self.number)

    def _real(self, **more: Any) -> tuple[Kind, bytes, bytes | None]:
        return real_message(self.link, self.chance, frame_header(self.chance, **more))

    def noise(self) -> Shot:
        """Random bytes in one to five parts; the first is never a head."""
        lengths = (0, 1, 31, 32, 33, 200, 5000)
        parts = [
            self.chance.randbytes(self.chance.choice(lengths)) for _ in range(self.chance.randrange(1, 6))
        ]
        parts[0] = b"\0" + parts[0]
        return Shot(parts, "invalid")

    def spoilt_head(self) -> Shot:
        """A head cut off, of another magic, version or kind, of an answer, or with parts too many."""
        kind, body, payload = self._real()
        head = bytearray(self._head(kind))
        choice = self.chance.randrange(6)
        if choice == 0:
            return Shot([bytes(head[: self.chance.randrange(HEAD_BYTES)])], "invalid")
        if choice == 1:
            head[self.chance.randrange(4)] ^= 1 << self.chance.randrange(8)
        elif choice == 2:
            head[4] ^= self.chance.randrange(1, 256)
        elif choice == 3:
            head[5] = self.chance.choice((0, 14, 99, 255, int(Kind.HELLO), int(Kind.ACK)))
        elif choice == 4:
            return Shot([bytes(head) + body, payload or b"", b"", b"more"], "invalid")
        else:
            head[5] = self.chance.choice((int(Kind.SYN), int(Kind.EOS)))
            return Shot([bytes(head) + b"body"], "invalid")
        return Shot([bytes(head) + body], "invalid")

    def other_epoch(self) -> Shot:
        """A whole message for another start of the reader."""
        kind, body, payload = self._real()
        head = pack_head(Head(kind, self.epochs[0], self.chance.getrandbits(63) | 1 << 63, 1))
        return Shot([head + body] if payload is None else [head + body, payload], "other_epoch")

    def silent(self) -> Shot:
        """SYN, which is answered and never counted."""
        return Shot([pack_head(Head(Kind.SYN, self.epochs[0], self.chance.getrandbits(64), 0))], "silent")

    def wrong_kind(self) -> Shot:
        """A message of another link: known to the format, not to this reader."""
        kind, body, payload = self._real()
        taken = {kind, Kind.FAIL, Kind.RECORDED, Kind.SYN, Kind.HELLO, Kind.ACK, Kind.EOS}
        other = self.chance.choice([each for each in Kind if each not in taken])
        return self._data(body, payload, other, "bad")

    def spoilt_body(self) -> Shot:
        """A body cut off, lengthened, or replaced by noise; or a payload of another length."""
        kind, body, payload = self._real()
        choice = self.chance.randrange(4)
        if choice == 0:
            return self._data(body[: self.chance.randrange(len(body))], payload, kind, "bad")
        if choice == 1 and self.link != "capture-record":
            return self._data(
                body + self.chance.randbytes(self.chance.randrange(1, 64)), payload, kind, "bad"
            )
        if choice == 2 and payload and kind is not Kind.PACKET:
            return self._data(body, payload[: self.chance.randrange(len(payload))], kind, "bad")
        return self._data(self.chance.randbytes(self.chance.randrange(40)), payload, kind, "bad")

    def flipped(self) -> Shot:
        """A real message with one to eight bits flipped behind the head."""
        kind, body, payload = self._real()
        changed = bytearray(body)
        for _ in range(self.chance.randrange(1, 9)):
            changed[self.chance.randrange(len(changed))] ^= 1 << self.chance.randrange(8)
        return self._data(bytes(changed), payload, kind, "either")

    def hostile(self) -> Shot:
        """Whole and well formed, with fields that no writer would send."""
        kind, body, payload = self._real(**hostile_fields(self.chance))
        return self._data(body, payload, kind, "either")

    def good(self) -> Shot:
        """As the writer sends it."""
        kind, body, payload = self._real()
        return self._data(body, payload, kind, "either")


@dataclass
class Target:
    """A stage process, and what plays its supervisor."""

    stage: str
    spec: RunSpec
    board: Board
    handle: Any
    control: ControlChannel
    rings: RingKeeper
    sent_rings: list[FrameRing] = field(default_factory=list)
    ready: bool = False
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def serve(self) -> None:
        """Answer what the stage asks of its supervisor."""
        try:
            while (received := self.control.receive()) is not None:
                self._take(received[0])
        except PeerGone:
            pass

    def _take(self, message: dict[str, Any]) -> None:
        if message["t"] == "ready":
            self.ready = True
        elif message["t"] == "need_ring":
            size_hw = tuple(message["size_hw"])
            if size_hw != SIZE_HW:
                self.problems.append(f"asked for a ring of {size_hw}")
                return
            self.give(
                self.rings.newest(message["role"], SIZE_HW) or self.rings.open(message["role"], SIZE_HW)[0]
            )
        elif message["t"] == "error":
            self.problems.append(message["message"])
        elif message["t"] == "log":
            self.lines.append(message["message"])

    def give(self, ring: KeptRing) -> None:
        """Send a ring as the supervisor does."""
        shape = ring.shape
        message = {"t": "ring", "role": ring.role, "id": shape.ring_id, "size_hw": list(shape.size_hw)}
        message |= {"slots": shape.slots, "lookahead": 1, "window": 2, "retired": []}
        self.control.send(message, (ring.block.fd,))

    def wait(self, condition: Any, what: str) -> None:
        """Until ``condition``; AssertionError if it never comes, or the process ends."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            self.serve()
            code = self.handle.exit_code()
            assert code is None, f"{self.stage} ended with {code}: {self.lines[-3:]} {self.problems}"
            assert time.monotonic() < deadline, f"{self.stage}: {what} never came; {self.lines[-3:]}"

    @property
    def rss_mib(self) -> float:
        """Of its process, shared memory included."""
        return psutil.Process(self.handle.pid).memory_info().rss / (1 << 20)


@contextmanager
def target(stage: str, sources: tuple[str, ...] = ("fuzz:",)) -> Iterator[Target]:
    """A stage process with rings of grey pictures, ready."""
    with ExitStack() as stack:
        directory = stack.enter_context(RunDirectory())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = Config.model_validate(
            {"infer": {"segmenter": "nasty_segmenters:Quick"}, "supervisor": {"realtime": False}}
        )
        spec = RunSpec(
            f"ipc://{directory.path}/",
            "live",
            config.model_dump(),
            sources,
            sinks=(f"jsonl:{folder / 'o.jsonl'}",) if stage == "record" else (),
            session=str(folder / "session") if stage == "record" else "",
            record_at_start=stage == "record",
        )
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(HERE / "pipeline"), os.environ.get("PYTHONPATH")))
        )
        board, block = Board.create(spec.topology)
        rings = RingKeeper(config)
        handle, control = ProcessLauncher(spec.endpoints).start(stage, spec, block, 0, 5)
        made = Target(stage, spec, board, handle, control, rings)
        try:
            for role in (CAPTURED, PRESENTED):
                kept, _ = rings.open(role, SIZE_HW)
                fill(kept)
                made.give(kept)
            made.wait(lambda: made.ready, "ready")
            yield made
        finally:
            control.close()
            if not handle.join(5.0):
                handle.kill()
                handle.join(5.0)
            rings.close()


def fill(kept: KeptRing) -> None:
    """Grey pictures of generation 2 in every slot."""
    ring = FrameRing.__new__(FrameRing)
    FrameRing.__init__(ring, kept.block, kept.shape)
    for slot in range(kept.shape.slots):
        ring.begin(slot)[:] = np.uint8(60)
        ring.commit(slot)


@dataclass
class Writer:
    """The link's writing end, played by hand."""

    socket: "zmq.Socket[bytes]"
    epoch: int
    reader_epoch: int

    def acknowledged(self, number: int) -> bool:
        """Whether the reader has said that it is done with ``number``; reads all that there is."""
        found = False
        while self.socket.poll(0):
            head = unpack_head(self.socket.recv_multipart()[0])
            found = found or (head.kind is Kind.ACK and head.number == number)
        return found


def connect(context: "zmq.Context[Any]", made: Target, link: str) -> Writer:
    """Shake hands with the reader of ``link``."""
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(made.spec.endpoints + link)
    epoch = new_epoch()
    socket.send(pack_head(Head(Kind.SYN, epoch, 0, 0)))
    made.wait(lambda: socket.poll(10), "HELLO")
    return Writer(socket, epoch, unpack_head(socket.recv()).reader_epoch)


def fuzz_link(link: str, messages: int, seed: int) -> dict[str, Any]:
    """Fire ``messages`` at the reader of ``link``; what came of them."""
    fates: Counter[str] = Counter()
    begun, context = time.monotonic(), zmq.Context()
    with target(LINKS[link]) as made:
        writer = connect(context, made, link)
        gunner = Gunner(link, random.Random(f"{link} {seed}"), (writer.epoch, writer.reader_epoch))
        before_mib = made.rss_mib
        for count in range(messages):
            shot = gunner.shot()
            fates[shot.fate] += 1
            writer.socket.send_multipart(shot.parts)
            if shot.number:
                made.wait(
                    lambda number=shot.number: writer.socket.poll(20) and writer.acknowledged(number),
                    f"an answer to message {count} ({shot.fate})",
                )
            if count == messages // 10:
                before_mib = made.rss_mib
        handed = fates["bad"] + fates["either"]
        made.wait(
            lambda: sum(refusals(made, link)[:2]) >= fates["invalid"] + fates["other_epoch"], "all counts"
        )
        growth_mib = made.rss_mib - before_mib
        invalid, other_epoch, dropped_invalid, taken = refusals(made, link)
        checks = {
            "no_message": invalid == fates["invalid"],
            "other_start": other_epoch == fates["other_epoch"],
            "handed_to_stage": taken == handed,
            "spoilt_refused": fates["bad"] <= dropped_invalid <= handed,
            "no_stage_error": made.board.value(f"{link}.dropped.stage_error") == 0,
            "nothing_asked_for": made.problems == [],
            "no_growth": growth_mib < MOST_GROWTH_MIB,
        }
        writer.socket.close()
    context.term()
    return {
        "link": link,
        "messages": messages,
        "sent": dict(fates),
        "refused": {"no_message": invalid, "other_start": other_epoch, "by_stage": dropped_invalid},
        "rss_mib": [round(before_mib, 1), round(before_mib + growth_mib, 1)],
        "seconds": round(time.monotonic() - begun, 1),
        "failed": [name for name, held in checks.items() if not held] + made.problems[:3],
    }


def refusals(made: Target, link: str) -> tuple[int, int, int, int]:
    """Refused as no message, as meant for another start, by the stage; and all that was handed to the stage."""
    cells = made.board.group(link)
    dropped = sum(count for cell, count in cells.items() if cell.startswith("dropped."))
    return (
        cells["invalid_messages"],
        cells["other_epoch"],
        cells["dropped.invalid"],
        cells["acknowledged"] + dropped,
    )


def main() -> int:
    """Fuzz what was asked for; returns the exit code."""
    from . import fuzz_more

    kinds = {**dict.fromkeys(LINKS, fuzz_link), **fuzz_more.KINDS}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--link", action="append", choices=sorted(kinds))
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    failed = False
    for link in asked.link or kinds:
        result = kinds[link](link, asked.messages, asked.seed)
        print(json.dumps(result), flush=True)
        failed = failed or bool(result["failed"])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
