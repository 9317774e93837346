"""What ``fuzz_links`` fires at besides the links' readers: their writers, the infer host, and the control channels.

Separate from it because here something else answers and counts; how a message is judged is the same: what becomes of
it is known before it is sent, and counted by who gets it.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import zmq

from endostream.configs.schema import Config, tcp_address
from endostream.pipeline.control import ControlChannel
from endostream.pipeline.host import RunSpec
from endostream.pipeline.infer import mask_bytes, payload_bytes
from endostream.pipeline.launcher import ThreadLauncher
from endostream.pipeline.link import new_epoch
from endostream.pipeline.remote.remote_wire import Terms, pack_sum
from endostream.pipeline.supervisor import Supervisor
from endostream.pipeline.wire import HEAD_BYTES, Head, Kind, pack_head, unpack_head

from .fuzz_links import HERE, INPUT_HW, MOST_GROWTH_MIB, PATIENCE_S, Target, target

ANSWERED = {
    "answers to preprocess": ("preprocess", "preprocess-infer"),
    "answers to infer": ("infer", "infer-overlay"),
    "answers to capture": ("capture", "capture-overlay"),
}
_AT_ONCE = 200
_QUICK = "nasty_segmenters:Quick"


def result_of(
    link: str,
    fates: Counter[str],
    refused: int,
    rss_mib: tuple[float, float],
    begun_s: float,
    checks: dict[str, bool],
) -> dict[str, Any]:
    """One line of the result."""
    checks["no_growth"] = rss_mib[1] - rss_mib[0] < MOST_GROWTH_MIB
    return {
        "link": link,
        "messages": sum(fates.values()),
        "sent": dict(fates),
        "refused": refused,
        "rss_mib": [round(value, 1) for value in rss_mib],
        "seconds": round(time.monotonic() - begun_s, 1),
        "failed": [name for name, held in checks.items() if not held],
    }


# What a writer is answered


def bad_answer(chance: random.Random, epochs: tuple[int, int]) -> list[bytes]:
    """Parts that are no answer to the writer of ``epochs`` (its own, its reader's)."""
    kind = chance.choice((Kind.HELLO, Kind.ACK))
    whole = pack_head(Head(kind, *epochs, 1 << 60))
    choice = chance.randrange(6)
    if choice == 0:
        return [b"\0" + chance.randbytes(chance.randrange(200)) for _ in range(chance.randrange(1, 5))]
    if choice == 1:
        return [whole[: chance.randrange(HEAD_BYTES)]]
    if choice == 2:
        return [whole + chance.randbytes(chance.randrange(1, 99))]
    if choice == 3:
        return [pack_head(Head(kind, epochs[0] ^ 1 << chance.randrange(63), epochs[1], 1))]
    if choice == 4:
        other = chance.choice([each for each in Kind if each not in (Kind.HELLO, Kind.ACK)])
        return [pack_head(Head(other, *epochs, 1))]
    return [pack_head(Head(Kind.ACK, epochs[0], epochs[1], chance.randrange(1 << 59, 1 << 60)))]


def fuzz_writer(link: str, messages: int, seed: int) -> dict[str, Any]:
    """Answer the writer of a link with what is no answer; each must be counted by it."""
    stage, name = ANSWERED[link]
    begun_s, chance, context = time.monotonic(), random.Random(f"{link} {seed}"), zmq.Context()
    fates: Counter[str] = Counter()
    with target(stage, sources=("phantom:128x96@25",)) as made, context.socket(zmq.ROUTER) as reader:
        reader.linger, reader.sndhwm = 0, 0
        reader.bind(made.spec.endpoints + name)
        made.wait(lambda: reader.poll(20), "SYN")
        identity, first = reader.recv_multipart()[:2]
        epochs = (unpack_head(first).writer_epoch, new_epoch())
        reader.send_multipart([identity, pack_head(Head(Kind.HELLO, *epochs, 0))])
        counted = made.board.cell(f"{name}.invalid_answers")
        if stage == "capture":
            made.control.send({"t": "go"})
            made.wait(lambda: made.board.value("capture.captured") > 10, "frames")
        before_mib = made.rss_mib
        for count in range(messages):
            fates["invalid"] += 1
            reader.send_multipart([identity, *bad_answer(chance, epochs)])
            if count % _AT_ONCE == 0:
                made.wait(lambda: counted.value >= fates["invalid"] or reader.poll(1), "counts")
                while reader.poll(0):
                    reader.recv_multipart()
                before_mib = made.rss_mib if count <= messages // 10 else before_mib
        made.wait(lambda: counted.value >= fates["invalid"], "all counts")
        rss_mib = (before_mib, made.rss_mib)
        checks = {"refused": counted.value == fates["invalid"], "nothing_asked_for": made.problems == []}
    context.term()
    return result_of(link, fates, counted.value, rss_mib, begun_s, checks)


# The infer host


@contextmanager
def infer_host() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A process of ``endostream infer-host`` on a free port of the loopback, and its address."""
    command = [sys.executable, "-c", "from endostream.pipeline.cli import main; main()", "infer-host"]
    command += ["--listen", "tcp://127.0.0.1:0", "--segmenter", _QUICK, "--json", "--log-format", "text"]
    path = os.pathsep.join(filter(None, (str(HERE / "pipeline"), os.environ.get("PYTHONPATH"))))
    with tempfile.NamedTemporaryFile("w+", suffix=".log") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": path},
            text=True,
        )
        try:
            yield process, _address(process, Path(log.name))
        finally:
            process.kill()
            process.communicate(timeout=PATIENCE_S)


def _address(process: "subprocess.Popen[str]", log: Path) -> str:
    """Where the host listens, as soon as it says so."""
    deadline = time.monotonic() + PATIENCE_S
    while "listening at" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "infer-host does not listen"
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    return log.read_text().partition("listening at ")[2].split()[0]


class RogueTower:
    """A tower that keeps to the rules as long as it likes."""

    def __init__(self, context: "zmq.Context[Any]", address: str, chance: random.Random) -> None:
        self.chance = chance
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(address)
        self.terms = Terms(_QUICK, INPUT_HW, "fuzz")
        self.epoch = new_epoch()
        self.socket.send(pack_head(Head(Kind.SYN, self.epoch, 0, 0)) + self.terms.pack())
        self.host_epoch = unpack_head(self._answer()[0]).reader_epoch
        self.picture = bytes(payload_bytes(INPUT_HW) - mask_bytes(INPUT_HW)) + b"\xff" * mask_bytes(INPUT_HW)
        self.asked = 0

    def _answer(self) -> list[bytes]:
        """The next answer; pings aside."""
        while True:
            if not self.socket.poll(PATIENCE_S * 1000):
                raise AssertionError("infer-host: no answer")
            parts: list[bytes] = self.socket.recv_multipart()
            if unpack_head(parts[0]).kind is not Kind.PING:
                return parts

    def ask(self) -> None:
        """Have one picture segmented; AssertionError unless its mask comes back. All sent before has been read then."""
        self.asked += 1
        head = pack_head(Head(Kind.TENSOR, self.epoch, self.host_epoch, self.asked))
        self.socket.send_multipart([head + pack_sum(INPUT_HW, self.picture), self.picture])
        while True:
            parts = self._answer()
            answer = unpack_head(parts[0])
            if answer.kind is Kind.MASK:
                assert (answer.number, len(parts[1])) == (self.asked, mask_bytes(INPUT_HW))
                return

    def bad(self) -> list[bytes]:
        """Parts that are no message from this tower to this host."""
        chance = self.chance
        head = pack_head(Head(Kind.TENSOR, self.epoch, self.host_epoch, 1))
        small = chance.randbytes(chance.randrange(400))
        makers: tuple[Callable[[], list[bytes]], ...] = (
            lambda: [b"\0" + chance.randbytes(chance.randrange(300)) for _ in range(chance.randrange(1, 5))],
            lambda: [head[: chance.randrange(HEAD_BYTES)]],
            lambda: [head + pack_sum(INPUT_HW, small), small],
            lambda: [head + pack_sum(INPUT_HW, self.picture)],
            lambda: [head + pack_sum((chance.getrandbits(32), chance.getrandbits(32)), small), small],
            lambda: [head + pack_sum(INPUT_HW, self.picture), self._flipped()],
            lambda: [pack_head(Head(Kind.TENSOR, self.epoch ^ 2, self.host_epoch, 1)) + small, small],
            lambda: [pack_head(Head(Kind.TENSOR, self.epoch, self.host_epoch ^ 2, 1)) + small, small],
            lambda: [pack_head(Head(self._other_kind(), self.epoch, self.host_epoch, 1)) + small],
            lambda: [pack_head(Head(Kind.SYN, new_epoch(), 0, 0)) + b"\0" + small],
            lambda: [head + pack_sum(INPUT_HW, self.picture), small, small],
        )
        weights = [8, 8, 8, 4, 8, 1, 8, 8, 8, 8, 4]
        (maker,) = chance.choices(makers, weights)
        return maker()

    def _flipped(self) -> bytes:
        spoilt = bytearray(self.picture)
        spoilt[self.chance.randrange(len(spoilt))] ^= 1 << self.chance.randrange(8)
        return bytes(spoilt)

    def _other_kind(self) -> Kind:
        return self.chance.choice([each for each in Kind if each not in (Kind.SYN, Kind.TENSOR)])


_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)


def raw_garbage(chance: random.Random, address: str) -> None:
    """A connection that speaks no ZeroMQ, or claims a message of 2⁶² bytes; the host closes it, or we do."""
    with socket.create_connection(tcp_address(address), PATIENCE_S) as stream, suppress(OSError):
        stream.settimeout(PATIENCE_S)
        if chance.random() < 0.5:
            # Without 0xff in front ZeroMQ takes it for its version 1, and what follows for messages of that.
            stream.sendall(b"\xff" + chance.randbytes(chance.randrange(2000)))
        else:
            stream.sendall(_GREETING + b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\6DEALER")
            stream.sendall(b"\x02" + (1 << 62).to_bytes(8, "big") + chance.randbytes(500))


def fuzz_infer_host(link: str, messages: int, seed: int) -> dict[str, Any]:
    """Rogue towers and strangers at an infer host; between them a tower must be served as ever."""
    begun_s, chance, context = time.monotonic(), random.Random(f"{link} {seed}"), zmq.Context()
    fates: Counter[str] = Counter()
    with infer_host() as (process, address):
        rogue = RogueTower(context, address, chance)
        usage = psutil.Process(process.pid)
        before_mib = 0.0
        for count in range(messages):
            if count % 100 == 99:
                fates["stranger"] += 1
                raw_garbage(chance, address)
            else:
                fates["bad"] += 1
                rogue.socket.send_multipart(rogue.bad())
            if count % _AT_ONCE == 0:
                rogue.ask()
                before_mib = usage.memory_info().rss / (1 << 20) if count <= messages // 10 else before_mib
        rogue.ask()
        rss_mib = (before_mib, usage.memory_info().rss / (1 << 20))
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=PATIENCE_S)
        totals = json.loads(stdout)
        served = totals["towers"]["127.0.0.1"]
        checks = {
            # Of what strangers send ZeroMQ may take some for messages of an old version of its own.
            "refused": 0 <= totals["refused_messages"] - fates["bad"] <= fates["stranger"] // 100 + 1,
            "served": (served["received"], served["answered"]) == (rogue.asked, rogue.asked),
            "ended_in_order": process.returncode == 0,
        }
        rogue.socket.close()
    context.term()
    return result_of(link, fates, totals["refused_messages"], rss_mib, begun_s, checks)


# The control channels

_WRONG_FIELDS: tuple[dict[str, Any], ...] = (
    {"t": "ring"},
    {"t": "ring", "id": "x", "size_hw": [1], "slots": 1, "retired": []},
    {"t": "ring", "id": 1, "size_hw": [1 << 30, 1 << 30], "slots": 4, "retired": [], "role": "captured"},
    {"t": "recording", "on": "yes"},
    {"t": "source_info"},
    {"t": "\0"},
    {"t": "no such kind", "x": [1, {"y": None}]},
)
_WRONG_WORDS: tuple[dict[str, Any], ...] = (
    {"t": "need_ring"},
    {"t": "need_ring", "role": "x", "size_hw": [4, 4]},
    {"t": "need_ring", "role": "captured", "size_hw": "large"},
    {"t": "source_end", "source_id": 99},
    {"t": "source", "source_id": 0},
    {"t": "segmenter"},
    {"t": "sink_failed"},
    {"t": "error", "message": "x", "exit_code": 77},
    {"t": "log"},
    {"t": "no such kind"},
)


def bad_control(chance: random.Random, wrong: tuple[dict[str, Any], ...]) -> bytes:
    """Bytes that are no message: noise, JSON that is none or of another shape, or with fields that will not do."""
    choice = chance.randrange(4)
    if choice == 0:
        return b"\xff" + chance.randbytes(chance.randrange(2000))
    if choice == 1:
        return json.dumps(chance.choice(wrong)).encode()[: -chance.randrange(1, 5)]
    if choice == 2:
        return chance.choice((b"[]", b"0", b"null", b'"t"', b"{}", b'{"t": 1}', b"[" * 5000, b'{"t": null}'))
    return json.dumps(chance.choice(wrong)).encode()


def fire(channel: ControlChannel, data: bytes, fds: list[int], serve: Callable[[], None]) -> None:
    """Send raw bytes and descriptors, serving the other side as long as it takes nothing."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            socket.send_fds(channel._socket, [data], fds)
            return
        except BlockingIOError:
            serve()
    raise AssertionError("the control channel takes nothing")


def open_files(made: Target) -> int:
    """How many files its process has open."""
    return psutil.Process(made.handle.pid).num_fds()


def fuzz_stage_control(link: str, messages: int, seed: int) -> dict[str, Any]:
    """Nonsense from the supervisor to a stage, every tenth with a descriptor that nobody asked for."""
    begun_s, chance = time.monotonic(), random.Random(f"{link} {seed}")
    fates: Counter[str] = Counter()
    with target("preprocess") as made, Path(os.devnull).open("rb") as null:
        counted = made.board.cell("preprocess.invalid_control")
        before_mib, files = made.rss_mib, open_files(made)
        for count in range(messages):
            fates["invalid"] += 1
            fire(
                made.control,
                bad_control(chance, _WRONG_FIELDS),
                [null.fileno()] * (count % 10 == 0),
                made.serve,
            )
            if count % _AT_ONCE == 0:
                made.wait(lambda: counted.value >= fates["invalid"], "counts")
                before_mib = made.rss_mib if count <= messages // 10 else before_mib
        made.wait(lambda: counted.value >= fates["invalid"], "all counts")
        rss_mib = (before_mib, made.rss_mib)
        checks = {
            "refused": counted.value == fates["invalid"],
            "no_descriptor_kept": open_files(made) == files,
            "nothing_asked_for": made.problems == [],
        }
    return result_of(link, fates, counted.value, rss_mib, begun_s, checks)


def fuzz_supervisor_control(link: str, messages: int, seed: int) -> dict[str, Any]:
    """Nonsense from a stage to the supervisor, which here runs in this process."""
    begun_s, chance = time.monotonic(), random.Random(f"{link} {seed}")
    fates: Counter[str] = Counter()
    config = Config()
    spec = RunSpec("inproc://fuzz/", "live", config.model_dump(), ("fuzz:",))
    lines: list[str] = []
    launcher = ThreadLauncher(spec.endpoints)
    supervisor = Supervisor(spec, config, launcher, lambda level, text, event: lines.append(text))
    stage = supervisor._stages["capture"]
    ours, theirs = ControlChannel.pair()
    stage.control = ours
    usage, before_mib = psutil.Process(), 0.0

    def refused() -> int:
        supervisor._drain_control(stage)
        return supervisor.refused_messages + ours.refused

    for count in range(messages):
        fates["invalid"] += 1
        fire(theirs, bad_control(chance, _WRONG_WORDS), [], lambda: refused() and None)
        if count % _AT_ONCE == 0:
            refused()
            before_mib = usage.memory_info().rss / (1 << 20) if count <= messages // 10 else before_mib
    total = refused()
    rss_mib = (before_mib, usage.memory_info().rss / (1 << 20))
    checks = {
        "refused": total == fates["invalid"],
        "said_once": len(lines) == 1,
        "not_ended": not supervisor._over,
    }
    ours.close()
    theirs.close()
    launcher.close()
    supervisor._rings.close()
    supervisor._board_block.close()
    return result_of(link, fates, total, rss_mib, begun_s, checks)


KINDS: dict[str, Callable[[str, int, int], dict[str, Any]]] = {
    **dict.fromkeys(ANSWERED, fuzz_writer),
    "infer-host": fuzz_infer_host,
    "control to stage": fuzz_stage_control,
    "control to supervisor": fuzz_supervisor_control,
}
