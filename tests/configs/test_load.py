"""Default, file and command line merged, with the origin of each value; and every way to get it wrong."""

from pathlib import Path

import pytest

from endostream.configs.errors import ConfigError, ExitCode
from endostream.configs.load import Override, load_config, values_of
from endostream.configs.schema import Config


def write(folder: Path, text: str | bytes) -> Path:
    file = folder / "mine.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def problem(file: Path | None, *overrides: str | Override) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides)
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value)


def test_without_file_and_overrides_everything_is_default() -> None:
    loaded = load_config()
    assert loaded.config == Config()
    assert set(loaded.origins.values()) == {"default"}
    assert list(loaded.origins) == list(values_of(Config()))


def test_a_file_beats_the_default_and_an_override_beats_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "capture:\n  ring_slots: 20\noverlay:\n  hold_ms: 150\n  box: false\n")
    loaded = load_config(file, ["overlay.hold_ms=90"])
    assert loaded.config.capture.ring_slots == 20
    assert loaded.config.overlay.hold_ms == 90
    assert loaded.origins["capture.ring_slots"] == "mine.yaml:2"
    assert loaded.origins["overlay.hold_ms"] == "--set"
    assert loaded.origins["overlay.box"] == "mine.yaml:5"
    assert loaded.origins["overlay.hud"] == "default"


def test_the_last_override_of_a_key_counts_and_names_its_option() -> None:
    loaded = load_config(None, ["replay.speed=2x", Override("replay.speed", "fastest", "--speed")])
    assert loaded.config.replay.speed == "fastest"
    assert loaded.origins["replay.speed"] == "--speed"


def test_overrides_reach_into_the_options_of_the_segmenter(tmp_path: Path) -> None:
    file = write(tmp_path, "infer:\n  options: {m: 2.0, n_clusters: 2}\n")
    loaded = load_config(file, ["infer.options.n_clusters=3"])
    assert loaded.config.infer.options == {"m": 2.0, "n_clusters": 3}
    assert loaded.origins["infer.options.m"] == "mine.yaml:2"
    assert loaded.origins["infer.options.n_clusters"] == "--set"
    assert "infer.options" not in loaded.origins


def test_a_dotted_key_in_a_file_is_the_nested_one(tmp_path: Path) -> None:
    file = write(tmp_path, "replay.faults.lose: 0.5\n")
    assert load_config(file).config.replay.faults.lose == 0.5


def test_a_whole_section_can_be_overridden() -> None:
    loaded = load_config(None, ["capture={ring_slots: 20, lookahead_frames: 5}"])
    assert (loaded.config.capture.ring_slots, loaded.config.capture.lookahead_frames) == (20, 5)


@pytest.mark.parametrize("text", ["off", '"off"', "'off'"])
def test_off_is_a_word_and_not_false(tmp_path: Path, text: str) -> None:
    assert (
        load_config(
            write(tmp_path, f"preprocess:\n  field_of_view: {text}\n")
        ).config.preprocess.field_of_view
        == "off"
    )
    assert load_config(None, [f"preprocess.field_of_view={text}"]).config.preprocess.field_of_view == "off"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("overlay.colour=#00ff00", "overlay.colour", "#00ff00"),
        ('overlay.colour="#00ff00"', "overlay.colour", "#00ff00"),
        ("infer.segmenter=007", "infer.segmenter", "007"),
        ("infer.segmenter=null", "infer.segmenter", "null"),
        ("replay.duration_s=null", "replay.duration_s", None),
        ("replay.duration_s=1e1", "replay.duration_s", 10.0),
        ("overlay.hud=false", "overlay.hud", False),
        ("phantom.fps=30000/1001", "phantom.fps", "30000/1001"),
        (" capture.nice = -1 ", "capture.nice", -1),
    ],
)
def test_an_override_is_read_as_a_yaml_value_unless_the_setting_is_text(
    override: str, key: str, value: object
) -> None:
    assert values_of(load_config(None, [override]).config)[key] == value


def test_an_empty_section_says_nothing(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "capture:\nreplay: {}\n")).config == Config()


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, b"\xef\xbb\xbfcapture.nice: 1\n")).config.capture.nice == 1


def test_a_bare_name_is_a_packaged_file_unless_there_is_such_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("archive")).origins["replay.speed"].startswith("archive.yaml:")
    Path("archive").write_text("capture.nice: 3\n")
    assert load_config(Path("archive")).origins["replay.speed"] == "default"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("capture.ring_slot=9", "capture.ring_slot: unknown key (--set); expected one of ring_slots, "),
        ("capture.ring_slot=9", ". Try: capture.ring_slots"),
        ("captur.ring_slots=9", ". Try: capture"),
        ("ring_slots=9", ". Try: capture.ring_slots"),
        ("infer.hold_ms=9", ". Try: overlay.hold_ms"),
        ("replay.faults.lost=0.1", ". Try: replay.faults.lose"),
        (
            "capture.ring_slots=200",
            "capture.ring_slots: 200 (--set); expected a whole number from 8 to 128 slots",
        ),
        ("capture.ring_slots=true", "capture.ring_slots: true (--set); expected a whole number"),
        ("capture.ring_slots=8.5", "capture.ring_slots: 8.5 (--set); expected a whole number"),
        ("capture.ring_slots=", "capture.ring_slots: null (--set); expected a whole number"),
        ("capture.ring_slots.x=1", "capture.ring_slots: {'x': 1} (--set); expected a whole number"),
        ("capture=3", "capture: 3 (--set); expected a section with ring_slots, "),
        ("infer.options=3", "infer.options: 3 (--set); expected KEY: VALUE pairs"),
        ("overlay.hold_ms=.nan", "overlay.hold_ms: nan (--set); expected a number from 0 to 10000 ms"),
        ("overlay.hold_ms=.inf", "overlay.hold_ms: inf (--set); expected a number from 0 to 10000 ms"),
        ("overlay.hud=yes", "overlay.hud: 'yes' (--set); expected true or false"),
        ("replay.mode=liv", "replay.mode: 'liv' (--set); expected one of auto, live, every-frame. Try: live"),
        ("replay.speed=2", "replay.speed: '2' (--set); expected realtime, fastest, or a number"),
        (
            "links.window_frames=20",
            "links.window_frames: 20; expected more than capture.lookahead_frames (4)",
        ),
        ("capture", "--set: 'capture'; expected KEY=VALUE"),
        ("=3", "--set: '=3'; expected KEY=VALUE"),
        ("a..b=3", "--set: 'a..b=3'; expected KEY=VALUE"),
        ("overlay.hold_ms=[1", "overlay.hold_ms: '[1'; cannot be read as a YAML value"),
        ("a\nb=3", "'a\\nb': unknown key (--set)"),
    ],
)
def test_a_bad_override_is_named_in_one_line_with_what_is_allowed(override: str, expected: str) -> None:
    text = problem(None, override)
    assert expected in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "mine.yaml: nothing in it"),
        ("# only a comment\n", "mine.yaml: nothing in it"),
        ("capture:\n  nice: 1\n  nice: 2\n", "mine.yaml:3: capture.nice; given already on line 2"),
        ("capture: {nice: 1}\ncapture.nice: 2\n", "mine.yaml:2: capture.nice; given already on line 1"),
        ("- a\n- b\n", "mine.yaml:1: not KEY: VALUE"),
        ("hello\n", "mine.yaml:1: not KEY: VALUE"),
        ("capture:\n\tnice: 1\n", "mine.yaml:2: a tab; expected KEY: VALUE, indented with spaces"),
        ("a: b: c\n", "mine.yaml:1: "),
        ("a: 1\n---\nb: 2\n", "mine.yaml:2: "),
        ("a: &x {}\nb: *x\n", "mine.yaml:1: an anchor or alias"),
        ("a: !!python/object/apply:os.getcwd []\n", "mine.yaml:1: "),
        ("3: 4\n", "mine.yaml:1: 3; expected the name of a setting"),
        ("[" * 5000, "mine.yaml: "),
        (f"a: {'1' * 5000}\n", "mine.yaml: "),
        (b"\xff\xfe\xfd", "expected YAML text in UTF-8"),
        (b"RIFF\0\0\0\0AVI ", "mine.yaml: a binary file"),
        (b"a: \x01\n", "mine.yaml: "),
        (b" " * ((1 << 20) + 1), "at most 1024 KiB"),
        ("capture: 5\n", "capture: 5 (mine.yaml:1); expected a section"),
        ("overlay:\n  colour: #00ff00\n", "overlay.colour: null (mine.yaml:2); expected #RRGGBB"),
        ("capture:\n  ring_slots: 200\n", "capture.ring_slots: 200 (mine.yaml:2); expected a whole number"),
        ("capture:\n  ring_slot: 9\n", "capture.ring_slot: unknown key (mine.yaml:2); "),
        ("captur:\n  ring_slots: 9\n", "captur: unknown key (mine.yaml:2); "),
    ],
)
def test_a_bad_file_is_named_in_one_line_with_where(tmp_path: Path, text: str | bytes, expected: str) -> None:
    line = problem(write(tmp_path, text))
    assert expected in line
    assert "\n" not in line


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "no.yaml"
    assert problem(missing) == f"config: {missing}; cannot be read (No such file or directory)"
    assert problem(tmp_path) == f"config: {tmp_path}; cannot be read (Is a directory)"


def test_several_problems_come_at_once_each_with_its_own_line(tmp_path: Path) -> None:
    file = write(tmp_path, "capture:\n  ring_slots: 200\n  slots: 3\n")
    lines = problem(file, "record.crf=99").splitlines()
    assert [line.partition(":")[0] for line in lines] == ["capture.ring_slots", "capture.slots", "record.crf"]


def test_an_address_that_is_none_gets_one_to_try() -> None:
    said = problem(None, Override("infer.host", "nonsense", "--infer-host"))
    assert said == (
        "infer.host: 'nonsense' (--infer-host); expected tcp://HOST:PORT, or null. Try: tcp://gpuhost:5555"
    )
