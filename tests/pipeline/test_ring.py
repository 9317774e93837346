"""The ring: generations tell a whole picture from one that is being overwritten, whoever dies in the middle."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from endostream.pipeline.ring import Block, FrameRing, RingShape, SlotPool

from .core_fixtures import ring_of, solid, write

SIZE = (240, 320)
WRITER = """
import sys
from endostream.pipeline.ring import Block, FrameRing, RingShape
shape = RingShape(0, (240, 320), 2)
ring = FrameRing(Block(int(sys.argv[1]), shape.total_bytes), shape)
value = 0
print("writing", flush=True)
while True:
    value = value % 255 + 1
    ring.begin(0)[:] = value
    ring.commit(0)
"""
"""Overwrites slot 0 with pictures of one grey as fast as it can, until it is killed."""


def test_a_generation_is_odd_while_its_slot_is_written_and_even_when_it_is_whole() -> None:
    with ring_of() as ring:
        assert ring.is_current(1, 0)
        ring.begin(1)
        assert [ring.is_current(1, generation) for generation in (0, 1, 2)] == [False, False, False]
        assert ring.commit(1) == 2
        assert [ring.is_current(1, generation) for generation in (0, 1, 2)] == [False, False, True]


def test_slots_count_their_generations_apart() -> None:
    with ring_of() as ring:
        assert [write(ring, 0, 1), write(ring, 0, 2), write(ring, 3, 3)] == [2, 4, 2]
        assert ring.is_current(0, 4)
        assert ring.is_current(3, 2)
        assert ring.is_current(1, 0)


def test_a_copy_holds_the_picture_its_generation_names() -> None:
    with ring_of() as ring:
        generation = write(ring, 2, 77)
        out = solid(0)
        assert ring.copy(2, generation, out)
        assert (out == 77).all()


def test_a_copy_of_an_overwritten_picture_is_refused_and_leaves_the_output_alone() -> None:
    with ring_of() as ring:
        generation = write(ring, 2, 77)
        write(ring, 2, 78)
        out = solid(5)
        assert not ring.copy(2, generation, out)
        assert (out == 5).all()


def test_a_copy_during_which_the_slot_is_opened_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with ring_of() as ring:
        generation = write(ring, 0, 10)
        copyto = np.copyto

        def interrupted(out: object, view: object) -> None:
            copyto(out, view)  # type: ignore[call-overload]
            ring.begin(0)

        monkeypatch.setattr("endostream.pipeline.ring.np.copyto", interrupted)
        assert not ring.copy(0, generation, solid(0))


def test_a_slot_that_is_being_written_is_never_current() -> None:
    with ring_of() as ring:
        ring.begin(0)
        assert not any(ring.is_current(0, generation) for generation in range(6))


def test_a_slot_whose_writer_was_killed_recovers_and_no_generation_is_used_twice() -> None:
    with ring_of() as ring:
        before = write(ring, 0, 1)
        ring.begin(0)[:2] = 9  # killed here
        restarted = FrameRing(Block(os.dup(ring.block.fd), ring.shape.total_bytes), ring.shape)
        try:
            assert not restarted.is_current(0, before)
            after = write(restarted, 0, 2)
            assert (before, after) == (2, 6)
            assert not ring.is_current(0, 4)
            out = solid(0)
            assert ring.copy(0, after, out)
            assert (out == 2).all()
        finally:
            restarted.close()


def test_a_restarted_writer_goes_on_with_the_generations_of_the_one_before() -> None:
    with ring_of() as ring:
        seen = [write(ring, 1, value) for value in range(3)]
        restarted = FrameRing(Block(os.dup(ring.block.fd), ring.shape.total_bytes), ring.shape)
        seen += [write(restarted, 1, value) for value in range(3)]
        restarted.close()
        assert seen == [2, 4, 6, 8, 10, 12]


def _torn(image_bgr: np.ndarray) -> bool:
    return bool((image_bgr != image_bgr[0, 0, 0]).any())


def _read_against_a_writer(ring: FrameRing, reads: int) -> tuple[int, int]:
    """Copies that were accepted, and torn pictures among them."""
    out = solid(0, SIZE)
    accepted = torn = 0
    for _ in range(reads):
        generation = int(ring._generations[0])
        if ring.copy(0, generation, out):
            accepted += 1
            torn += _torn(out)
    return accepted, torn


def test_no_accepted_copy_is_torn_while_another_process_overwrites_the_slot_and_is_killed() -> None:
    with ring_of(2, SIZE) as ring:
        fd = ring.block.fd
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(fd)], pass_fds=[fd], stdout=subprocess.PIPE, text=True
        )
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "writing\n"
            accepted, torn = 0, 0
            for _ in range(50):
                more, bad = _read_against_a_writer(ring, 200)
                accepted, torn = accepted + more, torn + bad
                if accepted > 50:
                    break
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait(10)
            writer.stdout.close()
        assert torn == 0
        generation = write(ring, 0, 42)
        assert generation % 2 == 0
        out = solid(0, SIZE)
        assert ring.copy(0, generation, out)
        assert (out == 42).all()


def test_no_accepted_copy_is_torn_while_a_thread_overwrites_the_slot() -> None:
    with ring_of(2, SIZE) as ring:
        stop = threading.Event()

        def overwrite() -> None:
            value = 0
            while not stop.is_set():
                value = value % 255 + 1
                write(ring, 0, value)

        writer = threading.Thread(target=overwrite)
        writer.start()
        try:
            _, torn = _read_against_a_writer(ring, 500)
        finally:
            stop.set()
            writer.join(10)
        assert not writer.is_alive()
        assert torn == 0


def _descriptors() -> set[str]:
    """Numbers of the descriptors of this process that are shared memory of ours (other tests may hold some)."""
    ours = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if "memfd:endostream" in str(entry.readlink()):
                ours.add(entry.name)
    return ours


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc on this system")
def test_a_closed_ring_leaves_no_descriptor_and_no_name_in_shared_memory() -> None:
    shm = Path("/dev/shm")
    before, named = _descriptors(), set(shm.iterdir()) if shm.exists() else set()
    ring = FrameRing.create(RingShape(0, (48, 64), 4))
    assert _descriptors() > before
    assert (set(shm.iterdir()) if shm.exists() else set()) <= named
    ring.close()
    assert _descriptors() == before


def test_closing_twice_is_no_error() -> None:
    ring = FrameRing.create(RingShape(0, (4, 6), 2))
    ring.close()
    ring.close()


def test_a_picture_that_is_still_viewed_outlives_the_ring() -> None:
    ring = FrameRing.create(RingShape(0, (4, 6), 2))
    write(ring, 1, 200)
    view = ring.view(1)
    ring.close()
    assert (view == 200).all()


def test_a_block_that_is_too_small_for_its_ring_is_refused() -> None:
    shape = RingShape(0, (480, 640), 4)
    block = Block.create(4096, "small")
    with pytest.raises(ValueError, match="ring block: 4096 bytes; expected at least 3706880"):
        FrameRing(block, shape)
    block.close()


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 5), (16, 16), (47, 63), (1080, 1920)])
def test_pictures_of_neighbouring_slots_do_not_touch(size_hw: tuple[int, int]) -> None:
    with ring_of(3, size_hw) as ring:
        for slot in range(3):
            write(ring, slot, slot + 1)
        assert [int(ring.view(slot).min()) for slot in range(3)] == [1, 2, 3]
        assert [int(ring.view(slot).max()) for slot in range(3)] == [1, 2, 3]
        assert ring.shape.total_bytes == ring.shape.header_bytes + 3 * ring.shape.slot_bytes


def test_the_pool_gives_the_slot_that_was_free_longest() -> None:
    pool = SlotPool(3)
    assert [pool.take(), pool.take()] == [0, 1]
    pool.give(1)
    pool.give(0)
    assert [pool.take(), pool.take(), pool.take()] == [2, 1, 0]
    assert len(pool) == 0
    with pytest.raises(IndexError):
        pool.take()
