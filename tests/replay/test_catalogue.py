"""The catalogue: reading the CSV, choosing, finding files wherever they lie, checking them, listing."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
from rich.console import Console

from endostream.configs.errors import ConfigError, SourceMissing
from endostream.replay.catalogue import Catalogue
from endostream.replay.catalogue_entry import CatalogueEntry, Selection, count_findings, parse_size, same_rate
from endostream.replay.catalogue_table import catalogue_command

HEADER = "file-name;finding;width;height;number-of-frames;fps;length;kilobytes"
POLYP = "a.avi;lifted Polyp;64;48;5;25;0;1"
ULCER = "b b.mpg;gastric ulcer;720;576;2500;25;100;99"
CANCER = "c.avi;polyp, NBI, propably cancer;1280;1024;9000;30;300;99"


def write_csv(folder: Path, *rows: str, name: str = "meta.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("\n".join((HEADER, *rows)) + "\n", encoding="utf-8")
    return path


def write_video(path: Path, size_hw: tuple[int, int] = (48, 64), frames: int = 5, fps: int = 25) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.height, stream.width = size_hw
        for _ in range(frames):
            picture = av.VideoFrame.from_ndarray(np.zeros((*size_hw, 3), np.uint8), format="bgr24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def names(entries: list[CatalogueEntry]) -> list[str]:
    return [entry.file_name for entry in entries]


def test_a_row_of_the_csv_becomes_an_entry(tmp_path: Path) -> None:
    entry = Catalogue.open(write_csv(tmp_path, ULCER)).entries[0]
    assert entry == CatalogueEntry("b b.mpg", "gastric ulcer", (576, 720), 2500, 25.0, 100.0, 99, None)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Selection(), ["a.avi", "b b.mpg", "c.avi"]),
        (Selection(finding="POLYP"), ["a.avi", "c.avi"]),
        (Selection(finding="polyp", limit=1), ["a.avi"]),
        (Selection(size_hw=(576, 720)), ["b b.mpg"]),
        (Selection(fps=29.97), ["c.avi"]),
        (Selection(min_length_s=100, max_length_s=100), ["b b.mpg"]),
        (Selection(finding="c.avi"), []),
        (Selection(limit=0), []),
    ],
)
def test_all_conditions_given_must_hold(tmp_path: Path, wanted: Selection, expected: list[str]) -> None:
    assert names(Catalogue.open(write_csv(tmp_path, POLYP, ULCER, CANCER)).select(wanted)) == expected


def test_what_the_list_does_not_say_meets_no_condition(tmp_path: Path) -> None:
    catalogue = Catalogue.open(write_csv(tmp_path, "d.avi;polyp;;;;;;"))
    assert catalogue.entries[0].size_hw is None and catalogue.entries[0].fps is None
    assert catalogue.select(Selection(fps=25)) == []
    assert catalogue.select(Selection(max_length_s=1e9)) == []


@pytest.mark.parametrize(
    ("csv_folder", "opened"),
    [
        (".", "."),
        (".", "labeled-videos"),
        (".", "labeled-videos/lower-gi"),
        ("meta/deeper", "."),
        ("labeled-videos", "."),
    ],
)
def test_csv_and_videos_find_each_other_in_the_unpacked_layout(
    tmp_path: Path, csv_folder: str, opened: str
) -> None:
    video = write_video(tmp_path / "labeled-videos" / "lower-gi" / "polyps" / "a.avi")
    write_csv(tmp_path / csv_folder, POLYP, CANCER)
    catalogue = Catalogue.open(tmp_path / opened)
    assert [entry.path for entry in catalogue.entries] == [video, None]


def test_other_csv_files_beside_it_are_not_taken_for_the_metadata(tmp_path: Path) -> None:
    (tmp_path / "5_fold_split.csv").write_text("file-name;class-name;split-index\nx.jpg;polyp;0\n")
    metadata = write_csv(tmp_path, POLYP)
    assert Catalogue.open(tmp_path).metadata == metadata


def test_a_csv_beside_the_parent_does_not_claim_unrelated_videos(tmp_path: Path) -> None:
    write_csv(tmp_path, POLYP)
    write_video(tmp_path / "mine" / "x.avi")
    catalogue = Catalogue.open(tmp_path / "mine")
    assert (catalogue.metadata, names(catalogue.entries)) == (None, ["x.avi"])


def test_a_csv_with_commas_quotes_and_a_byte_order_mark_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    rows = [HEADER.replace(";", ","), 'c.avi,"polyp, NBI",1280,1024,9000,30,300,99']
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    assert Catalogue.open(tmp_path).entries[0].finding == "polyp, NBI"


def test_the_capitals_of_a_file_name_may_differ(tmp_path: Path) -> None:
    write_csv(tmp_path, POLYP)
    video = write_video(tmp_path / "A.AVI")
    assert Catalogue.open(tmp_path).entries[0].path == video


def test_videos_that_the_list_does_not_name_are_told(tmp_path: Path) -> None:
    write_csv(tmp_path, POLYP)
    stranger = write_video(tmp_path / "x.avi")
    assert Catalogue.open(tmp_path).unlisted == [stranger]


def test_a_missing_file_is_told_and_one_as_listed_is_not(tmp_path: Path) -> None:
    write_csv(tmp_path, POLYP, CANCER)
    write_video(tmp_path / "a.avi")
    problems = Catalogue.open(tmp_path).check()
    assert [(problem.entry.file_name, problem.kind) for problem in problems] == [("c.avi", "missing")]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("a.avi;p;64;64;5;25;0;1", "size 64x48, listed 64x64"),
        ("a.avi;p;64;48;6;25;0;1", "frames 5, listed 6"),
        ("a.avi;p;64;48;5;30;0;1", "rate 25.0, listed 30"),
        ("a.avi;p;32;32;5;30;0;1", "size 64x48, listed 32x32; rate 25.0, listed 30"),
    ],
)
def test_a_file_that_differs_from_the_list_is_told_with_both_values(
    tmp_path: Path, row: str, what: str
) -> None:
    write_csv(tmp_path, row)
    write_video(tmp_path / "a.avi")
    (problem,) = Catalogue.open(tmp_path).check()
    assert (problem.kind, problem.what) == ("differs", what)


def test_a_download_cut_off_is_told_by_its_size(tmp_path: Path) -> None:
    write_csv(tmp_path, "a.avi;p;64;48;5;25;0;9999")
    write_video(tmp_path / "a.avi")
    (problem,) = Catalogue.open(tmp_path).check()
    assert problem.what.endswith("KiB, listed 9999 (cut off?)")


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 50])
def test_a_file_that_is_no_video_is_unreadable_in_one_line(tmp_path: Path, content: bytes) -> None:
    write_csv(tmp_path, POLYP)
    (tmp_path / "a.avi").write_bytes(content)
    (problem,) = Catalogue.open(tmp_path).check()
    assert problem.kind == "unreadable" and "\n" not in problem.what


def test_a_number_of_frames_that_is_only_estimated_may_be_off_by_a_little(tmp_path: Path) -> None:
    write_video(tmp_path / "m.mkv", frames=50)
    write_csv(tmp_path, "m.mkv;p;64;48;51;25;2;1")
    assert Catalogue.open(tmp_path).check() == []


def test_a_plain_folder_is_listed_by_its_headers_with_the_folders_as_findings(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    write_video(root / "top.avi")
    write_video(root / "polyps" / "lifted" / "p.mp4", (32, 32), 10, 10)
    (root / "notes.txt").write_text("x")
    entries = Catalogue.open(root).entries
    assert [(e.file_name, e.finding) for e in entries] == [("top.avi", "archive"), ("p.mp4", "polyps/lifted")]
    assert (entries[1].size_hw, entries[1].frames, entries[1].fps, entries[1].length_s) == (
        (32, 32),
        10,
        10,
        1,
    )


def test_in_a_plain_folder_a_finding_is_looked_for_in_file_names_too(tmp_path: Path) -> None:
    write_video(tmp_path / "colon_polyp_3.avi")
    write_video(tmp_path / "colon_normal.avi")
    assert names(Catalogue.open(tmp_path).select(Selection(finding="polyp"))) == ["colon_polyp_3.avi"]


def test_an_unreadable_video_of_a_plain_folder_stays_listed(tmp_path: Path) -> None:
    (tmp_path / "broken.avi").write_bytes(b"RIFF")
    catalogue = Catalogue.open(tmp_path)
    assert names(catalogue.entries) == ["broken.avi"]
    assert [problem.kind for problem in catalogue.check()] == ["unreadable"]


def test_the_limit_of_what_is_playable_counts_only_files_that_are_there(tmp_path: Path) -> None:
    write_csv(tmp_path, CANCER, POLYP)
    video = write_video(tmp_path / "a.avi")
    playable = Catalogue.open(tmp_path).playable(Selection(finding="polyp", limit=1))
    assert [entry.path for entry in playable] == [video]


@pytest.mark.parametrize(
    ("finding", "message"), [("polyp", "1 match, but no file of them is there"), ("worm", "nothing matches")]
)
def test_nothing_playable_is_one_clear_line(tmp_path: Path, finding: str, message: str) -> None:
    catalogue = Catalogue.open(write_csv(tmp_path, POLYP))
    with pytest.raises(SourceMissing, match=message):
        catalogue.playable(Selection(finding=finding))


def test_a_missing_folder_an_empty_one_and_a_wrong_csv_are_source_missing(tmp_path: Path) -> None:
    wrong = tmp_path / "empty" / "wrong.csv"
    wrong.parent.mkdir()
    wrong.write_text("a;b\n1;2\n")
    for path, message in (
        (tmp_path / "none", "no such folder or CSV"),
        (wrong.parent, "found neither"),
        (wrong, "expected a CSV with columns file-name and finding"),
    ):
        with pytest.raises(SourceMissing, match=message):
            Catalogue.open(path)


@pytest.mark.parametrize("cell", ["many", "-3", "nan", "inf"])
def test_a_cell_that_is_no_number_names_its_line_and_column(tmp_path: Path, cell: str) -> None:
    path = write_csv(tmp_path, POLYP, f"b.avi;x;720;576;{cell};25;1;1")
    with pytest.raises(ConfigError, match=rf"meta.csv line 3, number-of-frames: '{cell}'; expected a number"):
        Catalogue.open(path)


def test_findings_are_counted_whatever_their_capitals() -> None:
    entries = [
        CatalogueEntry(f"{number}", finding) for number, finding in enumerate(("Polyp", "polyp ", "GAVE"))
    ]
    assert count_findings(entries) == {"polyp": 2, "gave": 1}


def test_rates_are_the_same_to_one_percent_or_cut_to_whole_numbers() -> None:
    assert same_rate(29.97, 30) and same_rate(29.97, 29) and same_rate(25, 25)
    assert not same_rate(24, 25) and not same_rate(50, 25)


def test_a_size_is_read_as_width_by_height() -> None:
    assert parse_size("720x576") == (576, 720)
    with pytest.raises(ConfigError, match="expected WIDTHxHEIGHT"):
        parse_size("720")


def test_the_command_lists_as_json_and_ends_well_though_files_are_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path, POLYP, ULCER, CANCER)
    write_video(tmp_path / "a.avi", frames=4)
    assert catalogue_command(tmp_path, Selection(finding="polyp"), as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["videos"], told["mention_polyp"], told["selected"]) == (3, 2, 2)
    assert (told["missing"], told["differs"], told["unreadable"]) == (1, 1, 0)
    assert told["entries"][0]["what"] == "frames 4, listed 5"
    assert told["findings"] == {"lifted polyp": 1, "polyp, nbi, propably cancer": 1}


def test_the_command_says_in_words_what_is_missing_and_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_csv(tmp_path, POLYP, ULCER)
    write_video(tmp_path / "a.avi", frames=4)
    assert catalogue_command(tmp_path) == 0
    out = capsys.readouterr().out
    assert "2 videos in" in out and "1 whose finding mentions a polyp" in out
    assert "1 of them missing under" in out
    assert "not as listed: a.avi: frames 4, listed 5" in out


def test_without_checking_no_file_is_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path, POLYP)
    (tmp_path / "a.avi").write_bytes(b"")
    assert catalogue_command(tmp_path, check=False, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["entries"][0]["state"] == "ok"


def test_the_command_copes_with_brackets_in_names(tmp_path: Path) -> None:
    write_csv(tmp_path, "[red]a.avi;[/b]polyp;64;48;5;25;0;1")
    console = Console(record=True, quiet=False, file=(tmp_path / "out").open("w"), width=100)
    with console.file:
        catalogue_command(tmp_path, console=console)
    assert "[red]a.avi" in console.export_text()


def test_the_command_copes_with_file_names_that_are_not_utf8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "a.avi").rename(tmp_path / "caf\udce9.avi")
    catalogue_command(tmp_path)
    catalogue_command(tmp_path, as_json=True)
    assert "caf\\udce9.avi" in capsys.readouterr().out


@pytest.mark.data
def test_the_real_csv_has_373_videos_and_239_mention_a_polyp(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert catalogue_command(data_dir / "hyper-kvasir", as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["videos"], told["mention_polyp"]) == (373, 239)
    assert told["frames"] == 1_059_519
    assert len(Catalogue.open(data_dir / "hyper-kvasir").select(Selection(finding="polyp"))) == 239


@pytest.mark.data
def test_a_plain_folder_of_real_videos_is_listed(data_dir: Path) -> None:
    entries = Catalogue.open(data_dir / "videos").select(Selection(finding="polyp"))
    assert [(entry.size_hw, entry.frames, entry.fps) for entry in entries] == [((480, 560), 181, 25.0)]
