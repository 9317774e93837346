"""A tower and an infer host over real TCP: masks come back, losses are survived, and nothing wrong is ever taken."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import zmq

from endostream.pipeline.link import new_epoch
from endostream.pipeline.remote.curve_keys import make_keys
from endostream.pipeline.remote.infer_client import HostDown, HostFailed
from endostream.pipeline.remote.remote_wire import Terms, pack_sum, unpack_words
from endostream.pipeline.remote.towers import MOST_TOWERS
from endostream.pipeline.wire import HEAD_BYTES, VERSION, Head, Kind, pack_head, pack_text, unpack_head

from ..core_fixtures import zmq_context
from .infer_rig import (
    INPUT_HW,
    TERMS,
    Bright,
    RunningHost,
    expected_mask,
    running_host,
    tensor,
    tower,
    wait_until,
)
from .tcp_proxy import TcpProxy


@pytest.fixture
def host() -> Iterator[RunningHost]:
    with running_host() as host:
        yield host


def test_a_tensors_mask_comes_back_and_the_tower_knows_what_computed_it(host: RunningHost) -> None:
    with tower(host.address) as one:
        assert one.comes()
        assert one.ask(10) == expected_mask(10)
        assert one.ask(250) == expected_mask(250)
        assert one.agreed[0] == Terms("bright", INPUT_HW, "0.1.0", "numpy, for tests", "ab" * 32)
    assert host.host.towers.totals()["127.0.0.1"]["answered"] == 2


def test_what_the_segmenter_raises_is_told_to_the_tower_and_the_next_tensor_is_served(
    host: RunningHost,
) -> None:
    with tower(host.address) as one:
        assert one.comes()
        thirteen = b"\x0d" * (INPUT_HW[0] * INPUT_HW[1] * 3) + tensor(0)[-512:]
        for _ in range(4):  # more than it takes to open the segmenter afresh
            with pytest.raises(HostFailed, match="RuntimeError: thirteen"):
                one.client.ask(INPUT_HW, thirteen, 20.0)
        assert one.ask(1) == expected_mask(1)
    assert host.host.towers.totals()["127.0.0.1"]["failed"] == 4
    assert "segmenter failed 3 times in a row; it is opened afresh" in host.lines


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (Terms("fcm", INPUT_HW, "0.1.0"), "segmenter: fcm asked for, bright there; expected the same"),
        (
            Terms("bright", (32, 32), "0.1.0"),
            "input size: 32 × 32 asked for, 64 × 64 there; expected the same",
        ),
    ],
)
def test_other_terms_are_refused_with_the_same_line_on_both_sides(
    host: RunningHost, asked: Terms, why: str
) -> None:
    with tower(host.address, terms=asked) as one:
        wait_until(lambda: one.lines, one.client)
        assert not one.client.ready
        assert why in one.lines[0]
        with pytest.raises(HostDown, match="refused: "):
            one.ask(1)
    assert [line for line in host.lines if why in line] == host.lines
    assert len(host.lines) == 1
    assert host.segmenter.order == []


def test_a_host_refuses_a_tower_of_another_version_in_words_that_one_can_read(host: RunningHost) -> None:
    with zmq_context() as context, context.socket(zmq.DEALER) as other:
        other.linger = 0
        other.connect(host.address)
        head = bytearray(pack_head(Head(Kind.SYN, 5, 0, 0)))
        head[4] = VERSION + 1
        other.send(bytes(head) + b"terms of the future")
        assert other.poll(20_000)
        answer = other.recv()
    assert unpack_head(answer).kind is Kind.REFUSED
    assert unpack_words(answer[HEAD_BYTES:]).startswith(
        f"wire version: {VERSION + 1}; expected {VERSION}. Try: the same endostream"
    )
    assert host.lines == [
        f"127.0.0.1 refused: wire version: {VERSION + 1}; expected {VERSION}. Try: the same endostream on both sides"
    ]


def test_a_tower_says_that_its_host_is_of_another_version() -> None:
    with zmq_context() as context, context.socket(zmq.ROUTER) as future:
        future.linger = 0
        port = future.bind_to_random_port("tcp://127.0.0.1")
        with tower(f"tcp://127.0.0.1:{port}") as one:
            wait_until(lambda: future.poll(0), one.client)
            identity, _ = future.recv_multipart()
            head = bytearray(pack_head(Head(Kind.REFUSED, 0, 9, 0)))
            head[4] = VERSION + 1
            future.send_multipart([identity, bytes(head) + pack_text("no")])
            wait_until(lambda: one.lines, one.client)
            assert f"refused: wire version: {VERSION + 1}; expected {VERSION}" in one.lines[0]


def test_nobody_there_is_said_once_and_a_host_that_comes_is_found() -> None:
    with running_host() as first:
        address = first.address
    with tower(address) as one:
        assert not one.client.wait_ready(0.5)
        assert one.lines == [f"infer.host: {address}; cannot be reached"]
        with pytest.raises(HostDown, match="cannot be reached"):
            one.ask(1)
        with running_host(listen=address):
            assert one.comes()
            assert one.ask(1) == expected_mask(1)
        assert one.lines[1] == f"infer.host: {address}; connected again"


def test_a_host_that_dies_with_a_tensor_is_noticed_at_once_and_its_successor_found() -> None:
    gate = threading.Event()
    with running_host(segmenter=Bright(gate)) as first, TcpProxy(first.target) as proxy:
        with tower(proxy.address) as one:
            assert one.comes()
            cutter = threading.Thread(
                target=lambda: first.segmenter.entered.acquire(timeout=20) and proxy.cut()
            )
            cutter.start()
            with pytest.raises(HostDown, match="connection lost"):
                one.ask(1)
            cutter.join(20)
            gate.set()
            first.over.set()
            with running_host() as second:
                proxy.target = second.target
                proxy.cut()
                wait_until(lambda: one.client.ready and second.lines, one.client)
                assert one.ask(2) == expected_mask(2)
        assert proxy.connections >= 2


def test_a_cable_that_is_cut_without_a_word_is_noticed_and_the_tower_comes_back(host: RunningHost) -> None:
    with TcpProxy(host.target) as proxy, tower(proxy.address) as one:
        assert one.comes()
        proxy.swallow()
        with pytest.raises(HostDown, match=r"no answer within 0\.2 s"):
            one.ask(1, 0.2)
        wait_until(lambda: not one.client.ready, one.client)
        proxy.pass_on()
        assert one.comes()
        assert one.ask(2) == expected_mask(2)
    assert [line.rpartition("; ")[2] for line in one.lines][-1] == "connected again"


def test_a_slow_network_gets_no_second_tensor_before_the_first_was_answered(host: RunningHost) -> None:
    with TcpProxy(host.target) as proxy, tower(proxy.address) as one:
        assert one.comes()
        proxy.delay_s = 0.4
        before = len(proxy.up)
        for value in (1, 2):
            with pytest.raises(HostDown, match="no answer within"):
                one.ask(value, 0.15)
        assert len(proxy.up) - before < 2 * len(tensor(0))
        proxy.delay_s = 0.0
        assert one.comes()
        assert one.ask(3) == expected_mask(3)
    assert 2 not in host.segmenter.order


def test_a_host_that_never_answers_is_left_for_a_fresh_connection() -> None:
    gate = threading.Event()
    with running_host(segmenter=Bright(gate)) as stuck, tower(stuck.address) as one:
        assert one.comes()
        causes = []
        for value in range(4):
            with pytest.raises(HostDown) as lost:
                one.ask(value, 0.1)
            causes.append(lost.value.cause)
        assert "no answer for 0.3 s: connecting afresh" in causes
        gate.set()
        assert one.comes()
        assert one.ask(200) == expected_mask(200)


@pytest.mark.parametrize("with_keys", [False, True])
def test_a_spoilt_stream_never_yields_a_wrong_mask(with_keys: bool, tmp_path: Path) -> None:
    keys = tmp_path / "keys" if with_keys else None
    if keys is not None:
        make_keys(keys)
    chunks = 0

    def spoil(chunk: bytes) -> bytes:
        nonlocal chunks
        chunks += 1
        at = (chunks * 7919) % len(chunk)
        return chunk if chunks % 5 else chunk[:at] + bytes([chunk[at] ^ 0x41]) + chunk[at + 1 :]

    masks, losses = 0, 0
    with running_host(keys) as host, TcpProxy(host.target) as proxy, tower(proxy.address, keys) as one:
        assert one.comes()
        proxy.mangle_up = proxy.mangle_down = spoil
        for value in range(6):
            try:
                one.client.wait_ready(2.0)
                assert one.ask(value, 0.1) == expected_mask(value)
                masks += 1
            except HostDown:
                losses += 1
        proxy.pass_on()
        assert one.comes()
        wait_until(lambda: one.client.ready and _answers(one), one.client)
    assert losses > 0
    assert masks + losses == 6


def _answers(one: object) -> bool:
    """Whether an ask succeeds; the connection may have to be given up first."""
    try:
        return one.ask(77, 1.0) == expected_mask(77)  # type: ignore[attr-defined]
    except HostDown:
        return False


def test_two_towers_at_once_are_both_served_and_every_tensor_is_accounted_for() -> None:
    gate = threading.Event()
    segmenter = Bright(gate)
    with (
        running_host(segmenter=segmenter) as host,
        zmq_context() as context,
        closing(RawTower(context, host)) as greedy,
        closing(RawTower(context, host)) as modest,
    ):
        greedy.send(1, 1)
        assert segmenter.entered.acquire(timeout=20)
        for number in range(2, 9):
            greedy.send(number, number)
        modest.send(1, 100)
        gate.set()
        answers = greedy.answers(8)
        assert [number for _, number in answers] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert (answers[0][0], answers[-1][0]) == (Kind.MASK, Kind.MASK)
        assert modest.answers(1) == [(Kind.MASK, 1)]
        counts = host.host.towers.totals()["127.0.0.1"]
        masks = sum(1 for kind, _ in answers if kind is Kind.MASK)
        assert counts["received"] == 9
        assert (counts["answered"], counts["superseded"]) == (masks + 1, 8 - masks)
        assert len(segmenter.order) == masks + 1
    assert [counts[cause] for cause in ("failed", "lost", "refused_messages")] == [0, 0, 0]


def test_a_tower_that_goes_with_a_tensor_waiting_is_forgotten_and_counted() -> None:
    gate = threading.Event()
    segmenter = Bright(gate)
    with (
        running_host(segmenter=segmenter) as host,
        zmq_context() as context,
        closing(RawTower(context, host)) as one,
    ):
        one.send(1, 1)
        assert segmenter.entered.acquire(timeout=20)
        one.send(2, 2)
        one.close()
        gate.set()
        wait_until(lambda: any("gone" in line for line in host.lines))
        counts = host.host.towers.totals()["127.0.0.1"]
        assert counts["received"] == counts["answered"] + counts["lost"]


def test_more_towers_than_there_is_room_for_are_refused(host: RunningHost) -> None:
    with zmq_context() as context, ExitStack() as stack:
        for _ in range(MOST_TOWERS):
            stack.enter_context(closing(RawTower(context, host)))
        with tower(host.address) as late:
            wait_until(lambda: late.lines, late.client)
            assert f"refused: {MOST_TOWERS} towers are connected already" in late.lines[0]


def test_what_is_no_message_of_ours_is_counted_and_changes_nothing(host: RunningHost) -> None:
    with (
        zmq_context() as context,
        tower(host.address) as one,
        closing(RawTower(context, host)) as stranger,
    ):
        assert one.comes()
        epochs = (stranger.epoch, host.host.epoch)
        good = pack_head(Head(Kind.TENSOR, *epochs, 1)) + pack_sum(INPUT_HW, tensor(1))
        bad: list[list[bytes]] = [
            [b""],
            [b"x" * 100],
            [good],
            [good, b"short"],
            [good, tensor(2)],
            [good, tensor(1), b"more"],
            [good + b"more", tensor(1)],
            [pack_head(Head(Kind.TENSOR, epochs[0] + 1, epochs[1], 1)) + good[HEAD_BYTES:], tensor(1)],
            [pack_head(Head(Kind.TENSOR, epochs[0], epochs[1] + 1, 1)) + good[HEAD_BYTES:], tensor(1)],
            [pack_head(Head(Kind.MASK, *epochs, 1))],
            [pack_head(Head(Kind.SYN, 1, 0, 0)) + b"not terms"],
        ]
        for parts in bad:
            stranger.socket.send_multipart(parts)
        stranger.send(7, 7)
        assert stranger.answers(1) == [(Kind.MASK, 7)]
        assert host.host.refused_messages == len(bad)
        assert one.ask(1) == expected_mask(1)


class RawTower:
    """A tower that may send what and when it likes; connected when made."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", host: RunningHost) -> None:
        self.epoch = new_epoch()
        self.host = host
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(host.address)
        self.socket.send(pack_head(Head(Kind.SYN, self.epoch, 0, 0)) + TERMS.pack())
        assert self.socket.poll(20_000)
        assert unpack_head(self.socket.recv()).kind is Kind.HELLO

    def send(self, number: int, value: int) -> None:
        head = pack_head(Head(Kind.TENSOR, self.epoch, self.host.host.epoch, number))
        self.socket.send_multipart([head + pack_sum(INPUT_HW, tensor(value)), tensor(value)])

    def answers(self, count: int) -> list[tuple[Kind, int]]:
        """The next ``count`` answers; pings aside."""
        found: list[tuple[Kind, int]] = []
        while len(found) < count:
            assert self.socket.poll(20_000)
            head = unpack_head(self.socket.recv_multipart()[0])
            if head.kind is not Kind.PING:
                found.append((head.kind, head.number))
        return sorted(found, key=lambda answer: answer[1])

    def close(self) -> None:
        self.socket.close()
