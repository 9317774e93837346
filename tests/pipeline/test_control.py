"""The control channel: messages and descriptors arrive together, and a peer that is gone is noticed at once."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from endostream.pipeline.control import ControlChannel, PeerGone
from endostream.pipeline.ring import Block

Ends = tuple[ControlChannel, ControlChannel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    left, right = ControlChannel.pair()
    yield left, right
    left.close()
    right.close()


def test_messages_arrive_in_order_and_each_for_itself(ends: Ends) -> None:
    left, right = ends
    left.send({"t": "one", "n": 1})
    left.send({"t": "two", "words": ["ü", "\udcff"]})
    assert right.receive() == ({"t": "one", "n": 1}, [])
    assert right.receive() == ({"t": "two", "words": ["ü", "\udcff"]}, [])
    assert right.receive() is None


def test_a_descriptor_arrives_as_one_of_the_receivers_own(ends: Ends) -> None:
    left, right = ends
    block = Block.create(4096, "test")
    block.map[:3] = b"abc"
    left.send({"t": "ring"}, (block.fd,))
    received = right.receive()
    assert received is not None
    (fd,) = received[1]
    assert fd != block.fd
    block.close()
    other = Block(fd, 4096)
    assert other.map[:3] == b"abc"
    other.close()


def test_a_closed_peer_is_noticed_after_its_last_words(ends: Ends) -> None:
    left, right = ends
    left.send({"t": "last"})
    left.close()
    assert right.receive() == ({"t": "last"}, [])
    with pytest.raises(PeerGone):
        right.receive()
    with pytest.raises(PeerGone):
        right.send({"t": "hello?"})


def test_talking_on_a_channel_closed_here_is_peer_gone(ends: Ends) -> None:
    left, _ = ends
    left.close()
    with pytest.raises(PeerGone):
        left.send({"t": "x"})
    with pytest.raises(PeerGone):
        left.receive()


def test_a_peer_that_takes_nothing_counts_as_gone_and_does_not_block_for_ever(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("endostream.pipeline.control.select.select", lambda *_: ([], [], []))

    def talk() -> None:
        for _ in range(100_000):
            ends[0].send({"t": "log", "message": "x" * 10_000})

    with pytest.raises(PeerGone, match="takes nothing"):
        talk()


def test_threads_may_send_at_the_same_time(ends: Ends) -> None:
    left, right = ends

    def talk(name: str) -> None:
        for number in range(50):
            left.send({"t": name, "n": number, "filling": "x" * 500})

    threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    heard: dict[str, list[int]] = {name: [] for name in "abcd"}
    while sum(map(len, heard.values())) < 200:
        received = right.receive()
        if received is not None:
            heard[received[0]["t"]].append(received[0]["n"])
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert heard == {name: list(range(50)) for name in "abcd"}


def test_a_message_of_a_thousand_sources_goes_through(ends: Ends) -> None:
    left, right = ends
    sources = [f"/archive/labelled-videos/lower-gi-tract/findings/{number:06d}.avi" for number in range(2000)]
    left.send({"t": "run", "sources": sources})
    received = right.receive()
    assert received is not None
    assert received[0]["sources"] == sources


def test_a_message_too_long_for_the_channel_does_not_look_like_a_dead_peer(ends: Ends) -> None:
    # A stage took it for the supervisor's death, and stopped.
    left, right = ends
    with pytest.raises(ValueError, match="control message: 10000018 bytes; expected at most"):
        left.send({"t": "log", "m": "x" * 10_000_000})
    left.send({"t": "log"})
    assert right.receive() == ({"t": "log"}, [])


def test_an_end_made_from_an_inherited_descriptor_is_the_same_channel() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left, right = ControlChannel(ours), ControlChannel.from_fd(theirs.detach())
    left.send({"t": "x"})
    assert right.receive() == ({"t": "x"}, [])
    left.close()
    right.close()


def test_an_unfinished_pair_leaves_no_descriptor_behind() -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    for _ in range(20):
        for end in ControlChannel.pair():
            end.close()
    after = len(os.listdir("/proc/self/fd")) if before else 0  # noqa: PTH208
    assert after == before
