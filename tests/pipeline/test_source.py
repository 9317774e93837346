"""Which source plays an address, and what is said of one that cannot be played."""

from fractions import Fraction
from pathlib import Path

import pytest

from endostream.configs.errors import ConfigError, SourceMissing
from endostream.pipeline.capture import source_info_from_message, source_info_message
from endostream.pipeline.source import SourceInfo, open_source, source_kind


def test_a_path_to_a_folder_is_a_folder_and_any_other_a_file(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    assert source_kind(str(tmp_path / "frames")) == "folder"
    assert source_kind(str(tmp_path / "a.avi")) == "file"


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("phantom:", "phantom"),
        ("phantom:1920x1080@30", "phantom"),
        ("phantom", "file"),
        ("phantom.avi", "file"),
        ("file:", "file"),
        ("folder:x", "file"),
        ("C:/video.avi", "file"),
        ("case 3: polyp.avi", "file"),
    ],
)
def test_only_a_registered_scheme_is_one(address: str, kind: str) -> None:
    assert source_kind(address) == kind


def test_nothing_at_a_path_is_a_missing_source() -> None:
    with pytest.raises(SourceMissing, match=r"source: no/such\.avi; no such file or folder"):
        open_source("no/such.avi")


def test_an_empty_address_says_what_is_expected() -> None:
    with pytest.raises(ConfigError, match="source: ''; expected a path or phantom:"):
        open_source("")


@pytest.mark.parametrize("fps", [None, Fraction(30000, 1001), Fraction(25)])
def test_what_a_source_says_of_itself_survives_the_control_channel(fps: Fraction | None) -> None:
    info = SourceInfo(
        "a.avi", "file", (480, 560), fps, Fraction(1, 90000), 181, 7.24, "h264", "yuv420p", "bt601", "limited",
        ("colour_matrix",), False, 7,
    )  # fmt: skip
    message = source_info_message(3, info)
    assert message["source_id"] == 3
    assert source_info_from_message({**message, "t": "source", "loop": 0}) == info
