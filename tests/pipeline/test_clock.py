"""The virtual clock stands still until it is told; the machine's own goes on."""

from endostream.pipeline.clock import MonotonicClock, VirtualClock


def test_a_virtual_clock_stands_still() -> None:
    clock = VirtualClock(5)
    assert [clock.now_ns(), clock.now_ns()] == [5, 5]


def test_waiting_moves_a_virtual_clock_to_the_due_time() -> None:
    clock = VirtualClock(5)
    clock.sleep_until_ns(12)
    assert clock.now_ns() == 12


def test_waiting_for_what_is_past_does_not_move_a_virtual_clock_back() -> None:
    clock = VirtualClock(5)
    clock.sleep_until_ns(3)
    assert clock.now_ns() == 5


def test_time_passes_on_a_virtual_clock_when_told() -> None:
    clock = VirtualClock()
    clock.advance_ns(7)
    clock.advance_ns(8)
    assert clock.now_ns() == 15


def test_the_machines_clock_returns_not_before_the_due_time() -> None:
    clock = MonotonicClock()
    due_ns = clock.now_ns() + 1_000_000
    clock.sleep_until_ns(due_ns)
    assert clock.now_ns() >= due_ns


def test_the_machines_clock_does_not_wait_for_what_is_past() -> None:
    clock = MonotonicClock()
    clock.sleep_until_ns(0)
    assert clock.now_ns() > 0
