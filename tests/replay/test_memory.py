"""A source decoded beforehand: the same pictures, another size and rate on demand, over and over, within its budget."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from endostream.configs.errors import ConfigError, SourceMissing
from endostream.pipeline.source import Source, SourceOptions, open_source
from endostream.replay.memory import MemorySource

from .make_video import VideoSpec, make_video
from .source_contract import SourceContract, play

SPEC = VideoSpec(frames=12, size_hw=(48, 64), texture=True)


class TestMemorySource(SourceContract):
    def open(self, folder: Path, options: SourceOptions) -> Source:
        path = folder / "clip.avi"
        if not path.exists():
            make_video(path, SPEC)
        return MemorySource(f"memory:{path}", options)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_video(tmp_path / "clip.avi", SPEC)


def opened(clip: Path, duration_s: float | None = None, **settings: object) -> Source:
    return open_source(f"memory:{clip}", SourceOptions(duration_s=duration_s, extra={"memory": settings}))


def test_it_plays_the_very_pictures_of_the_source(clip: Path) -> None:
    with open_source(str(clip)) as plain, opened(clip) as memory:
        assert [pixels for *_, pixels in play(memory)] == [pixels for *_, pixels in play(plain)]


def test_it_plays_over_and_over_for_as_long_as_it_is_told(clip: Path) -> None:
    with opened(clip, duration_s=30 / 25) as source:
        played = play(source)
    assert [seq for seq, _, _ in played] == list(range(30))
    assert [pixels for *_, pixels in played[12:24]] == [pixels for *_, pixels in played[:12]]


def test_size_and_rate_are_those_asked_for(clip: Path) -> None:
    with opened(clip, width=32, height=20, fps=60) as source:
        assert (source.info.size_hw, source.info.fps, source.info.time_base) == (
            (20, 32),
            60,
            Fraction(1, 60),
        )
        image = np.empty((20, 32, 3), np.uint8)
        picture = next(iter(source))
        picture.fill(image)
        assert picture.size_hw == (20, 32)


def test_what_does_not_fit_into_the_budget_is_not_played(clip: Path) -> None:
    with opened(clip, width=512, height=512, budget_mib=2) as source:  # 0.75 MiB a picture
        assert len(list(source)) == 2


def test_a_picture_larger_than_the_budget_is_refused(clip: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"memory.budget_mib: 1; expected room for one picture of 1000 × 800"
    ):
        opened(clip, width=1000, height=800, budget_mib=1)


def test_a_live_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected memory: and a recording or phantom:"):
        open_source("memory:/dev/video0")


def test_a_missing_file_is_said_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match=r"none.avi; no such file"):
        open_source(f"memory:{tmp_path / 'none.avi'}")


def test_what_was_decoded_is_kept_where_the_environment_says_so(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(clip, width=32, height=20) as source:
        decoded = [pixels for *_, pixels in play(source)]
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setenv("ENDOSTREAM_DECODED", str(kept))
    with opened(clip, width=32, height=20) as source:
        assert [pixels for *_, pixels in play(source)] == decoded
    (file,) = kept.glob("*.npy")
    images = np.load(file)
    np.save(file, np.zeros_like(images))
    with opened(clip, width=32, height=20, fps=60) as source:
        assert [np.frombuffer(pixels, np.uint8).max() for *_, pixels in play(source)] == [0] * len(decoded)
    with opened(clip, width=16, height=20) as source:
        assert np.frombuffer(play(source)[0][2], np.uint8).max() > 0


@pytest.mark.parametrize("content", [b"", b"not an array"])
def test_a_kept_file_that_cannot_be_read_is_decoded_again(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setenv("ENDOSTREAM_DECODED", str(tmp_path))
    with opened(clip) as source:
        decoded = [pixels for *_, pixels in play(source)]
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(content)
    with opened(clip) as source:
        assert [pixels for *_, pixels in play(source)] == decoded


def test_a_folder_that_is_not_there_keeps_nothing(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDOSTREAM_DECODED", str(tmp_path / "nowhere"))
    with opened(clip) as source:
        assert len(play(source)) == 12
