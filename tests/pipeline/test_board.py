"""The board: every cell found by its name, the same in every process, and no two in the same place."""

import os
from itertools import pairwise

import pytest

from endostream.pipeline.board import (
    LINKS,
    READER_CAUSES,
    SINK_CAUSES,
    STAGES,
    WRITER_CAUSES,
    Board,
    Topology,
)
from endostream.pipeline.frame import MaskState
from endostream.pipeline.histogram import Histogram
from endostream.pipeline.ring import Block

TOPOLOGIES = [Topology(1, 0), Topology(1, 1), Topology(3, 2), Topology(373, 4)]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_cell_and_every_histogram_has_memory_of_its_own(topology: Topology) -> None:
    board, block = Board.create(topology)
    names = list(topology.cells())
    assert len(set(names)) == len(names)
    for number, name in enumerate(names):
        board.cell(name).value = number + 1
    assert [board.value(name) for name in names] == list(range(1, len(names) + 1))
    histograms = list(topology.histograms())
    assert len(set(histograms)) == len(histograms)
    for number, name in enumerate(histograms):
        board.histogram(name).record(number)
    assert all(board.histogram(name).n == 1 for name in histograms)
    assert [board.value(name) for name in names] == list(range(1, len(names) + 1))
    starts = sorted(board._starts.values())
    assert starts[0] == len(names)
    assert all(right - left == Histogram.cells() for left, right in pairwise(starts))
    assert block.size >= Board.size_bytes(topology)


def test_two_views_of_one_block_see_the_same_counts() -> None:
    board, block = Board.create(Topology(2, 1))
    other = Board(Block(os.dup(block.fd), Board.size_bytes(board.topology)), board.topology)
    board.cell("capture.captured").add(3)
    other.histogram("video_delay").record(1_500_000)
    assert other.value("capture.captured") == 3
    assert board.histogram("video_delay").max_ns == 1_500_000


def test_counts_outlive_the_view_that_made_them() -> None:
    board, block = Board.create(Topology())
    Board(block, board.topology).cell("infer.processed").add(7)
    assert board.value("infer.processed") == 7


def test_a_cell_holds_what_64_bits_hold() -> None:
    cell = Board.create(Topology())[0].cell("capture.first_capture_ns")
    for value in (-1, 2**63 - 1, -(2**63)):
        cell.value = value
        assert cell.value == value


def test_a_group_is_all_that_lies_under_a_prefix() -> None:
    board, _ = Board.create(Topology(1, 1))
    board.cell("overlay.state.held").add(2)
    assert board.group("overlay.state") == {"absent": 0, "fresh": 0, "held": 2, "stale": 0, "failed": 0}
    assert set(board.group("sink0.dropped")) == set(SINK_CAUSES)
    for link in LINKS:
        assert set(board.group(f"{link}.dropped")) == {*WRITER_CAUSES, *READER_CAUSES}
    assert board.group("sink1") == {}


def test_sources_do_not_share_a_prefix_with_those_of_more_digits() -> None:
    board, _ = Board.create(Topology(12))
    board.cell("source11.captured").add(5)
    assert board.group("source1")["captured"] == 0
    assert set(board.group("source1.state")) == {state.label for state in MaskState}


def test_an_unknown_name_is_a_key_error() -> None:
    board, _ = Board.create(Topology())
    for ask in (board.cell, board.value, board.histogram):
        with pytest.raises(KeyError):
            ask("capture.nonsense")


def test_every_stage_can_show_that_it_lives() -> None:
    board, _ = Board.create(Topology())
    for stage in STAGES:
        assert {"state", "pid", "heartbeat_ns", "busy_since_ns", "restarts"} <= set(board.group(stage))


def test_a_new_board_is_all_zero() -> None:
    board, _ = Board.create(Topology(2, 2))
    assert not any(board.value(name) for name in board.topology.cells())
    assert all(board.histogram(name).n == 0 for name in board.topology.histograms())
