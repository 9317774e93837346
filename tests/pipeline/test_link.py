"""Links over real ZeroMQ: bounded, counted, and honest whoever dies, comes late, or talks nonsense.

Everywhere holds: sent = acknowledged + dropped by cause + lost with a stage + under way.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from endostream.pipeline.board import Board
from endostream.pipeline.clock import Clock, MonotonicClock, VirtualClock
from endostream.pipeline.link import LinkReader, LinkWriter, Received, new_epoch, unaccounted
from endostream.pipeline.wire import Head, Kind, WireError, pack_head

from .core_fixtures import new_board, until, zmq_context

LINK = "capture-overlay"
SECOND_NS = 1_000_000_000


class Rig:
    """One link, its ends made and ended at will; each end of a context of its own over ipc, as processes have."""

    def __init__(self, endpoint: str, clock: Clock) -> None:
        self.endpoint = endpoint
        self.clock = clock
        self.board: Board = new_board()
        self._stack: list[Any] = []
        self._contexts: dict[int, Any] = {}
        self._shared: Any = None
        if endpoint.startswith("inproc"):
            self._shared = self._enter()

    def _enter(self) -> "zmq.Context[Any]":
        guard = zmq_context()
        context = guard.__enter__()
        self._contexts[id(context)] = guard
        return context

    def writer(self, window: int = 4) -> LinkWriter:
        context = self._shared or self._enter()
        writer = LinkWriter(context, self.endpoint, LINK, window, self.board, self.clock)
        self._stack.append((writer, context))
        return writer

    def reader(self) -> LinkReader:
        context = self._shared or self._enter()
        reader = LinkReader(context, self.endpoint, LINK, self.board, self.clock)
        self._stack.append((reader, context))
        return reader

    def kill(self, end: LinkWriter | LinkReader) -> None:
        """End ``end`` as a SIGKILL does: at once, with all that was on its way in it."""
        context = next(context for made, context in self._stack if made is end)
        self._stack = [(made, its) for made, its in self._stack if made is not end]
        end.socket.setsockopt(zmq.LINGER, 0)
        end.close()
        if context is not self._shared:
            self._contexts.pop(id(context)).__exit__(None, None, None)

    def close(self) -> None:
        for end, _ in list(self._stack):
            self.kill(end)
        for guard in self._contexts.values():
            guard.__exit__(None, None, None)

    @property
    def counts(self) -> dict[str, int]:
        return {cell: count for cell, count in self.board.group(LINK).items() if count}


@pytest.fixture(params=["inproc", "ipc"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    endpoint = "inproc://link" if request.param == "inproc" else f"ipc://{tmp_path}/link"
    rig = Rig(endpoint, MonotonicClock())
    yield rig
    rig.close()


@pytest.fixture
def ipc(tmp_path: Path) -> Iterator[Rig]:
    """Only over ipc: what is about the death of one end, which threads of one context cannot die."""
    rig = Rig(f"ipc://{tmp_path}/link", MonotonicClock())
    yield rig
    rig.close()


def connect(writer: LinkWriter, reader: LinkReader, kept: list[Received] | None = None) -> None:
    """Let both talk until the writer knows this reader."""

    def met() -> bool:
        (kept if kept is not None else []).extend(reader.receive())
        writer.service()
        return writer._reader_epoch == reader.epoch

    until(met, (writer.socket, reader.socket), "the writer hears HELLO")


def receive(reader: LinkReader, count: int) -> list[Received]:
    received: list[Received] = []

    def all_there() -> bool:
        received.extend(reader.receive())
        return len(received) >= count

    until(all_there, (reader.socket,), f"{count} messages")
    assert len(received) == count
    return received


def settle(writer: LinkWriter, under_way: int) -> list[object]:
    done: list[object] = []

    def settled() -> bool:
        done.extend(writer.service())
        return writer.under_way == under_way

    until(settled, (writer.socket,), f"{under_way} under way")
    return done


def test_a_message_arrives_whole_and_its_token_comes_back_when_it_is_done(rig: Rig) -> None:
    writer, reader = rig.writer(), rig.reader()
    connect(writer, reader)
    assert writer.send(Kind.TENSOR, b"body", b"payload" * 1000, token="first")
    (message,) = receive(reader, 1)
    assert (message.kind, message.body, message.payload) == (Kind.TENSOR, b"body", b"payload" * 1000)
    assert writer.under_way == 1
    reader.done(message)
    assert settle(writer, 0) == ["first"]
    assert rig.counts == {"sent": 1, "acknowledged": 1}


def test_messages_arrive_in_the_order_they_were_sent(rig: Rig) -> None:
    writer, reader = rig.writer(window=100), rig.reader()
    connect(writer, reader)
    for number in range(100):
        writer.send(Kind.FRAME, str(number).encode())
    assert [int(message.body) for message in receive(reader, 100)] == list(range(100))


def test_without_a_reader_nothing_is_sent_and_all_is_counted(rig: Rig) -> None:
    writer = rig.writer()
    assert not writer.connected
    assert [writer.send(Kind.FRAME, b"") for _ in range(3)] == [False, False, False]
    assert rig.counts == {"sent": 3, "dropped.no_reader": 3}


def test_a_reader_that_comes_late_gets_what_is_sent_from_then_on(rig: Rig) -> None:
    writer = rig.writer()
    writer.send(Kind.FRAME, b"early")
    reader = rig.reader()
    connect(writer, reader)
    writer.send(Kind.FRAME, b"late")
    assert [message.body for message in receive(reader, 1)] == [b"late"]
    assert unaccounted(rig.board, LINK) == 1 == writer.under_way


def test_the_window_is_never_exceeded_and_what_does_not_fit_is_counted(rig: Rig) -> None:
    writer, reader = rig.writer(window=3), rig.reader()
    connect(writer, reader)
    assert [writer.send(Kind.FRAME, bytes([n])) for n in range(5)] == [True, True, True, False, False]
    assert not writer.can_send
    messages = receive(reader, 3)
    reader.done(messages[0])
    settle(writer, 2)
    assert writer.can_send
    assert [writer.send(Kind.FRAME, bytes([n])) for n in range(2)] == [True, False]
    assert len(messages) - 1 + len(receive(reader, 1)) == 3
    assert rig.counts == {"sent": 7, "acknowledged": 1, "dropped.link_full": 3}
    assert unaccounted(rig.board, LINK) == 3


def test_a_random_conversation_keeps_the_window_and_the_account(rig: Rig) -> None:
    chance = random.Random(5)
    writer, reader = rig.writer(window=6), rig.reader()
    connect(writer, reader)
    held: list[Received] = []
    for _ in range(2000):
        action = chance.randrange(4)
        if action == 0:
            writer.send(Kind.FRAME, b"x")
        elif action == 1:
            held.extend(reader.receive())
        elif action == 2 and held:
            message = held.pop(chance.randrange(len(held)))
            if chance.random() < 0.5:
                reader.done(message)
            else:
                reader.drop(message, chance.choice(["superseded", "overwritten", "invalid"]))
        else:
            writer.service()
        assert len(held) <= writer.under_way <= 6
        assert unaccounted(rig.board, LINK) <= writer.under_way
    held.extend(reader.receive())

    def drained() -> bool:
        held.extend(reader.receive())
        while held:
            reader.done(held.pop())
        writer.service()
        return writer.under_way == 0

    until(drained, (writer.socket, reader.socket))
    assert unaccounted(rig.board, LINK) == 0
    assert rig.board.value(f"{LINK}.lost_with_stage") == 0


def test_messages_answered_in_another_order_free_their_own_tokens(rig: Rig) -> None:
    writer, reader = rig.writer(), rig.reader()
    connect(writer, reader)
    for token in "abc":
        writer.send(Kind.FRAME, b"", token=token)
    first, second, third = receive(reader, 3)
    reader.done(third)
    reader.drop(first, "superseded")
    assert settle(writer, 1) == ["c", "a"]
    reader.done(second)
    assert settle(writer, 0) == ["b"]


def test_the_end_comes_behind_everything_sent_before_and_is_not_counted(rig: Rig) -> None:
    writer, reader = rig.writer(), rig.reader()
    connect(writer, reader)
    writer.send(Kind.FRAME, b"1")
    writer.send(Kind.FRAME, b"2")
    writer.send_end()
    assert [message.kind for message in receive(reader, 3)] == [Kind.FRAME, Kind.FRAME, Kind.EOS]
    assert rig.counts == {"sent": 2}


def test_an_end_that_nobody_was_there_to_hear_is_told_to_the_reader_that_comes(rig: Rig) -> None:
    writer = rig.writer()
    writer.send_end()
    reader = rig.reader()
    heard: list[Received] = []

    def told() -> bool:
        writer.service()
        heard.extend(reader.receive())
        return bool(heard)

    until(told, (writer.socket, reader.socket))
    assert [message.kind for message in heard] == [Kind.EOS]


def test_a_killed_reader_takes_what_was_under_way_along_and_it_is_counted_once(ipc: Rig) -> None:
    writer, reader = ipc.writer(), ipc.reader()
    connect(writer, reader)
    for token in "abc":
        writer.send(Kind.FRAME, token.encode(), token=token)
    messages = receive(reader, 3)
    reader.done(messages[0])
    settle(writer, 2)
    ipc.kill(reader)
    successor = ipc.reader()
    connect(writer, successor)
    assert writer.take_lost() == ["b", "c"]
    assert writer.take_lost() == []
    assert writer.under_way == 0
    assert ipc.counts == {"sent": 3, "acknowledged": 1, "lost_with_stage": 2}
    writer.send(Kind.FRAME, b"d")
    assert [message.body for message in receive(successor, 1)] == [b"d"]


def test_what_a_reader_used_and_could_not_acknowledge_is_not_counted_as_lost(ipc: Rig) -> None:
    writer, reader = ipc.writer(), ipc.reader()
    connect(writer, reader)
    writer.send(Kind.FRAME, b"", token="used")
    (message,) = receive(reader, 1)
    reader._give_back = lambda message: None  # type: ignore[method-assign]
    reader.done(
        message
    )  # killed between its count and its acknowledgement: what counts is what the board says
    ipc.kill(reader)
    successor = ipc.reader()
    connect(writer, successor)
    assert writer.take_lost() == ["used"]
    assert ipc.counts == {"sent": 1, "acknowledged": 1}


def test_messages_meant_for_a_dead_reader_are_discarded_by_its_successor(ipc: Rig) -> None:
    writer, reader = ipc.writer(), ipc.reader()
    connect(writer, reader)
    ipc.kill(reader)
    assert writer.send(Kind.FRAME, b"for the dead")
    successor = ipc.reader()
    kept: list[Received] = []
    connect(writer, successor, kept)
    writer.send(Kind.FRAME, b"for the living")
    kept += receive(successor, 1)
    assert [message.body for message in kept] == [b"for the living"]
    assert ipc.counts == {"sent": 2, "lost_with_stage": 1, "other_epoch": 1}
    assert unaccounted(ipc.board, LINK) == writer.under_way == 1


def test_a_dead_reader_costs_the_window_and_no_more(ipc: Rig) -> None:
    writer, reader = ipc.writer(window=3), ipc.reader()
    connect(writer, reader)
    ipc.kill(reader)
    assert [writer.send(Kind.FRAME, b"") for _ in range(10)] == [True] * 3 + [False] * 7
    assert ipc.counts == {"sent": 10, "dropped.link_full": 7}
    assert unaccounted(ipc.board, LINK) == 3


def test_what_the_reader_holds_of_a_killed_writer_is_not_lost(ipc: Rig) -> None:
    # Its successor used to count all of it as lost, and then the reader used it: more went than had come.
    writer, reader = ipc.writer(), ipc.reader()
    connect(writer, reader)
    for _ in range(3):
        writer.send(Kind.FRAME, b"old")
    messages = receive(reader, 3)
    ipc.kill(writer)
    successor = ipc.writer()
    connect(successor, reader)
    assert ipc.counts == {"sent": 3}
    for message in messages:
        reader.done(message)
    successor.send(Kind.FRAME, b"new")
    (message,) = receive(reader, 1)
    assert message.body == b"new"
    reader.done(message)
    settle(successor, 0)
    assert ipc.counts == {"sent": 4, "acknowledged": 4}


def test_what_a_killed_writer_left_is_lost_when_the_reader_dies_too(ipc: Rig) -> None:
    writer, reader = ipc.writer(), ipc.reader()
    connect(writer, reader)
    for _ in range(3):
        writer.send(Kind.FRAME, b"old")
    receive(reader, 3)
    ipc.kill(writer)
    successor = ipc.writer()
    connect(successor, reader)
    successor.send(Kind.FRAME, b"new")
    receive(reader, 1)
    ipc.kill(reader)
    connect(successor, ipc.reader())
    assert ipc.counts == {"sent": 4, "lost_with_stage": 4}


def test_a_reader_restarted_after_the_end_is_told_the_end_again(ipc: Rig) -> None:
    # A run whose display was killed between its last frame and its last word waited for ever.
    writer, reader = ipc.writer(), ipc.reader()
    connect(writer, reader)
    writer.send_end()
    assert [message.kind for message in receive(reader, 1)] == [Kind.EOS]
    ipc.kill(reader)
    successor = ipc.reader()
    heard: list[Received] = []

    def told() -> bool:
        writer.service()
        heard.extend(successor.receive())
        return bool(heard)

    until(told, (writer.socket, successor.socket))
    assert [message.kind for message in heard] == [Kind.EOS]


def test_the_end_is_not_told_again_before_what_is_sent_again(ipc: Rig) -> None:
    writer, reader = ipc.writer(), ipc.reader()
    connect(writer, reader)
    writer.send(Kind.FRAME, b"1", token="again")
    writer.send_end()
    receive(reader, 2)
    ipc.kill(reader)
    successor = ipc.reader()
    heard: list[Received] = []
    resent: list[object] = []

    def told() -> bool:
        writer.service()
        for token in writer.take_lost():
            resent.append(token)
            writer.send(Kind.FRAME, b"2")
            writer.send_end()
        heard.extend(successor.receive())
        return len(heard) == 2

    until(told, (writer.socket, successor.socket))
    assert resent == ["again"]
    assert [message.kind for message in heard] == [Kind.FRAME, Kind.EOS]


def test_a_reader_that_ends_and_comes_back_in_the_same_context_is_found_again(rig: Rig) -> None:
    # Over inproc nothing reconnects by itself, and a socket without a peer refuses to send.
    writer, reader = rig.writer(), rig.reader()
    connect(writer, reader)
    writer.send(Kind.FRAME, b"lost")
    rig.kill(reader)
    successor = rig.reader()
    connect(writer, successor)
    writer.send(Kind.FRAME, b"found")
    assert [message.body for message in receive(successor, 1)] == [b"found"]
    assert rig.counts == {"sent": 2, "lost_with_stage": 1}


def test_a_killed_writers_acknowledgements_reach_nobody_and_harm_nobody(ipc: Rig) -> None:
    writer, reader = ipc.writer(), ipc.reader()
    connect(writer, reader)
    writer.send(Kind.FRAME, b"")
    (message,) = receive(reader, 1)
    ipc.kill(writer)
    for _ in range(100):
        reader._give_back(message)
    successor = ipc.writer()
    connect(successor, reader)
    assert successor.service() == []


@pytest.mark.parametrize("kind", [Kind.ACK, Kind.HELLO])
def test_words_about_another_writer_change_nothing(ipc: Rig, kind: Kind) -> None:
    writer, reader = ipc.writer(), ipc.reader()
    connect(writer, reader)
    writer.send(Kind.FRAME, b"", token="kept")
    foreign = (
        Head(kind, new_epoch(), reader.epoch, 1),
        Head(Kind.ACK, writer.epoch, new_epoch(), 1),
        Head(Kind.ACK, writer.epoch, reader.epoch, 99),
    )
    for head in foreign:
        with pytest.raises(WireError):
            writer._take(head)
        assert writer.under_way == 1
    writer._take(Head(Kind.ACK, writer.epoch, reader.epoch, 1))
    assert writer.under_way == 0


def test_a_quiet_reader_is_asked_who_it_is_only_while_it_owes_an_answer() -> None:
    clock = VirtualClock(10 * SECOND_NS)
    with zmq_context() as context:
        board = new_board()
        writer = LinkWriter(context, "inproc://quiet", LINK, 4, board, clock)
        reader = LinkReader(context, "inproc://quiet", LINK, board, clock)
        connect(writer, reader)
        asked: list[list[bytes]] = []
        reader._answer = lambda identity, head: asked.append([identity])  # type: ignore[method-assign,assignment]
        clock.advance_ns(SECOND_NS)
        writer.service()
        assert reader.receive() == []
        assert asked == []
        writer.send(Kind.FRAME, b"")
        clock.advance_ns(SECOND_NS)
        writer.service()
        writer.service()
        assert len(reader.receive()) == 1
        assert len(asked) == 1
        writer.close()
        reader.close()


def _garbage(chance: random.Random) -> list[bytes]:
    """One to four parts: noise, truncated or mutated heads, heads of every kind for strangers."""
    kind = chance.choice(list(Kind))
    head = pack_head(Head(kind, chance.getrandbits(64), chance.getrandbits(64), chance.getrandbits(64)))
    choices = [
        b"",
        chance.randbytes(chance.randrange(80)),
        head[: chance.randrange(33)],
        head[:5] + chance.randbytes(27),
        head + chance.randbytes(40),
        b"ENDO" + chance.randbytes(60),
    ]
    return [chance.choice(choices) for _ in range(chance.randint(1, 4))]


def test_thousands_of_foreign_messages_to_the_reader_are_survived_and_counted(rig: Rig) -> None:
    chance = random.Random(1)
    writer, reader = rig.writer(), rig.reader()
    connect(writer, reader)
    context = rig._shared or rig._enter()
    stranger = context.socket(zmq.DEALER)
    stranger.setsockopt(zmq.LINGER, 0)
    stranger.connect(rig.endpoint)
    got: list[Received] = []
    unreadable = 0
    for _ in range(3000):
        parts = _garbage(chance)
        unreadable += len(parts) > 2 or len(parts[0]) < 32
        stranger.send_multipart(parts)
    stranger.send_multipart([b"last"])

    def all_read() -> bool:
        got.extend(reader.receive())
        return rig.board.value(f"{LINK}.invalid_messages") > unreadable

    until(all_read, (reader.socket,))
    while stranger.poll(0):
        stranger.recv_multipart()
    stranger.close()
    assert got == []
    assert unaccounted(rig.board, LINK) == 0
    writer.send(Kind.FRAME, b"still here")
    (message,) = receive(reader, 1)
    reader.done(message)
    settle(writer, 0)
    assert unaccounted(rig.board, LINK) == 0


def test_thousands_of_foreign_messages_to_the_writer_are_survived(ipc: Rig) -> None:
    chance = random.Random(2)
    writer = ipc.writer()
    context = ipc._enter()
    stranger = context.socket(zmq.ROUTER)
    stranger.setsockopt(zmq.LINGER, 0)
    stranger.setsockopt(
        zmq.SNDHWM, 0
    )  # a ROUTER drops what is too much, and then the last message may be lost
    stranger.bind(ipc.endpoint)

    def heard_of() -> bool:
        writer.service()
        return bool(stranger.poll(0))

    until(heard_of, (stranger,))
    identity = stranger.recv_multipart()[0]
    for _ in range(3000):
        stranger.send_multipart([identity, *_garbage(chance)])
    stranger.send_multipart([identity, pack_head(Head(Kind.HELLO, writer.epoch, 77, 0))])

    def believed() -> bool:
        writer.service()
        return writer.connected

    until(believed, (writer.socket,))
    assert writer.service() == []
    assert writer.take_lost() == []
    assert writer.under_way == 0
    assert ipc.counts == {"invalid_answers": 3000}
    stranger.close()


def test_a_payload_of_several_mebibytes_arrives_as_it_was_sent(rig: Rig) -> None:
    writer, reader = rig.writer(), rig.reader()
    connect(writer, reader)
    payload = random.Random(3).randbytes(3 << 20)
    writer.send(Kind.TENSOR, b"body", memoryview(payload))
    assert receive(reader, 1)[0].payload == payload


def test_epochs_are_never_zero_which_means_nobody() -> None:
    assert all(new_epoch() for _ in range(1000))
