"""The supervisor's rings: how many slots pictures of any size get, and which rings are kept for whom."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endostream.configs.errors import ConfigError
from endostream.configs.schema import Config
from endostream.pipeline.host import CAPTURED, PRESENTED
from endostream.pipeline.rings import RingKeeper, plan_ring

from .core_fixtures import config_of

FULL_HD, UHD_8K = (1080, 1920), (4320, 7680)


def test_a_usual_picture_gets_all_the_slots_that_are_set() -> None:
    shape, lookahead, window = plan_ring(Config(), CAPTURED, (576, 720), 3)
    assert (shape.ring_id, shape.size_hw, shape.slots) == (3, (576, 720), 16)
    assert (lookahead, window) == (4, 8)


def test_the_presented_ring_holds_the_window_and_two_more() -> None:
    shape, _, _ = plan_ring(Config(), PRESENTED, FULL_HD, 0)
    assert shape.slots == Config().links.window_frames + 2


def test_large_pictures_get_fewer_slots_but_never_fewer_than_four() -> None:
    shape, lookahead, window = plan_ring(Config(), CAPTURED, UHD_8K, 0)
    assert (shape.slots, lookahead, window) == (5, 1, 3)
    small = config_of(capture={"ring_budget_mib": 256})
    assert plan_ring(small, CAPTURED, UHD_8K, 0)[0].slots == 4


def test_pictures_far_beyond_the_budget_are_refused_with_the_setting_that_helps() -> None:
    small = config_of(capture={"ring_budget_mib": 16})
    with pytest.raises(ConfigError, match=r"ring_budget_mib: 16; pictures of 7680 × 4320") as refused:
        plan_ring(small, CAPTURED, UHD_8K, 0)
    helps = int(str(refused.value).rpartition("=")[2])
    assert plan_ring(config_of(capture={"ring_budget_mib": helps}), CAPTURED, UHD_8K, 0)[0].slots >= 4


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 4320),
    st.integers(1, 7680),
    st.integers(8, 128),
    st.integers(1, 64),
    st.integers(2, 127),
    st.integers(16, 4096),
)
def test_look_ahead_and_window_always_fit_into_the_ring(
    height: int, width: int, slots: int, ahead: int, window: int, budget: int
) -> None:
    if not ahead < window < slots:
        return
    config = config_of(
        capture={"ring_slots": slots, "lookahead_frames": ahead, "ring_budget_mib": budget},
        links={"window_frames": window},
    )
    for role in (CAPTURED, PRESENTED):
        try:
            shape, planned_ahead, planned_window = plan_ring(config, role, (height, width), 0)
        except ConfigError:
            continue
        assert 4 <= shape.slots <= 129
        assert 1 <= planned_ahead <= ahead
        assert 1 <= planned_window <= window
        assert planned_ahead + planned_window < shape.slots


def test_a_ring_of_the_same_size_is_found_again_and_one_of_another_is_not() -> None:
    keeper = RingKeeper(Config())
    assert keeper.newest(CAPTURED, (48, 64)) is None
    ring, retired = keeper.open(CAPTURED, (48, 64))
    assert retired == []
    assert keeper.newest(CAPTURED, (48, 64)) is ring
    assert keeper.newest(CAPTURED, (64, 48)) is None
    assert keeper.newest(PRESENTED, (48, 64)) is None
    keeper.close()


def test_the_ring_before_the_newest_is_kept_and_the_one_before_that_is_retired() -> None:
    keeper = RingKeeper(Config())
    first, _ = keeper.open(CAPTURED, (48, 64))
    second, retired = keeper.open(CAPTURED, (50, 64))
    assert retired == []
    third, retired = keeper.open(CAPTURED, (48, 64))
    assert retired == [first.shape.ring_id]
    assert first.block.fd == -1
    assert [ring.shape.ring_id for ring in keeper.readable_by("overlay")] == [
        second.shape.ring_id,
        third.shape.ring_id,
    ]
    assert len({first.shape.ring_id, second.shape.ring_id, third.shape.ring_id}) == 3
    keeper.close()


def test_stages_get_the_rings_they_read() -> None:
    keeper = RingKeeper(Config())
    captured, _ = keeper.open(CAPTURED, (48, 64))
    presented, _ = keeper.open(PRESENTED, (48, 64))
    readable = {
        stage: keeper.readable_by(stage) for stage in ("overlay", "preprocess", "record", "infer", "capture")
    }
    assert readable == {
        "overlay": [captured],
        "preprocess": [captured],
        "record": [captured, presented],
        "infer": [],
        "capture": [],
    }
    keeper.close()
    assert (captured.block.fd, presented.block.fd) == (-1, -1)
    assert keeper.readable_by("record") == []
