"""What every source must keep, whatever it plays; a source's tests subclass it and say how to open one.

    class TestMySource(SourceContract):
        def open(self, folder: Path, options: SourceOptions) -> Source:
            return MySource(str(make_something(folder)), options)

The source must have 10 pictures or more, the same each time, at an even rate.
"""

from pathlib import Path

import numpy as np
import pytest

from endostream.pipeline.frame import ImageBgr
from endostream.pipeline.source import Source, SourceOptions

Played = list[tuple[int, int, bytes]]


def play(source: Source) -> Played:
    """(seq, pts, pixels) of all pictures."""
    played = []
    for picture in source:
        image_bgr = np.empty((*picture.size_hw, 3), np.uint8)
        picture.fill(image_bgr)
        played.append((picture.seq, picture.pts, image_bgr.tobytes()))
    return played


class SourceContract:
    """Tests that each source passes."""

    def open(self, folder: Path, options: SourceOptions) -> Source:
        """Make what is to be played in the empty ``folder``, if it is not there yet, and open it."""
        raise NotImplementedError

    @pytest.fixture
    def source(self, tmp_path: Path) -> Source:
        return self.open(tmp_path, SourceOptions())

    def test_the_info_agrees_with_the_pictures(self, source: Source) -> None:
        with source:
            pictures = list(source)
        info = source.info
        assert {picture.size_hw for picture in pictures} == {info.size_hw}
        assert {picture.time_base for picture in pictures} == {info.time_base}
        assert info.frame_count in (None, len(pictures))
        assert info.fps is not None
        assert {picture.arrival_ns for picture in pictures} == {None} or info.live
        period_s = float(1 / info.fps)
        steps_s = np.diff([picture.time_s for picture in pictures])
        assert steps_s == pytest.approx([period_s] * len(steps_s), abs=0.0011)  # containers round to 1 ms
        assert info.duration_s is None or info.duration_s == pytest.approx(
            len(pictures) * period_s, abs=period_s
        )

    def test_seq_counts_from_zero_and_pts_increase(self, source: Source) -> None:
        with source:
            played = play(source)
        assert [seq for seq, _, _ in played] == list(range(len(played)))
        assert all(np.diff([pts for _, pts, _ in played]) > 0)

    def test_a_picture_fills_every_pixel_of_the_array_and_none_beside_it(self, source: Source) -> None:
        height, width = source.info.size_hw
        filled: list[ImageBgr] = []
        for before in (0, 255):
            around = np.full((height + 4, width + 4, 3), before, np.uint8)
            next(iter(source)).fill(around[2:-2, 2:-2])
            filled.append(around[2:-2, 2:-2].copy())
            around[2:-2, 2:-2] = before
            assert (around == before).all()
        source.close()
        np.testing.assert_array_equal(*filled)

    def test_iterating_again_gives_the_same_from_the_start(self, source: Source) -> None:
        with source:
            assert play(source) == play(source)

    def test_start_and_duration_choose_the_pictures_that_playing_through_gives(
        self, source: Source, tmp_path: Path
    ) -> None:
        fps = source.info.fps
        assert fps is not None
        with source:
            whole = play(source)
        with self.open(tmp_path, SourceOptions(float(4 / fps), float(3 / fps))) as part:
            played = play(part)
        assert [seq for seq, _, _ in played] == [0, 1, 2]
        assert [rest for _, *rest in played] == [rest for _, *rest in whole[4:7]]

    def test_a_sound_source_has_no_faults(self, source: Source) -> None:
        with source:
            play(source)
            assert source.faults == {}

    def test_it_is_its_own_context_manager_and_closes_twice(self, source: Source) -> None:
        with source as entered:
            assert entered is source
            next(iter(source))
        source.close()
