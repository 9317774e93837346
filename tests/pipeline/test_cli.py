"""What the command line asks for, what it refuses, and how it says so; no run is started."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from endostream.configs.errors import CheckFailed, ModelError, SourceLost
from endostream.pipeline import request as request_module
from endostream.pipeline.cli import run_command
from endostream.pipeline.request import RunRequest
from endostream.pipeline.sink import SinkSpec

COMMAND = (sys.executable, "-m", "endostream.pipeline")


class Runs:
    """Stands in for the module that does a run: keeps what was asked for, and ends as it is told."""

    def __init__(self) -> None:
        self.requests: list[RunRequest] = []
        self.checked: list[str] = []
        self.ending: Callable[[], int] = lambda: 0

    def run(self, request: RunRequest) -> int:
        self.requests.append(request)
        return self.ending()

    def check_sink(self, spec: SinkSpec) -> None:
        self.checked.append(spec.label)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    fake = Runs()
    monkeypatch.setitem(sys.modules, "endostream.pipeline.app", SimpleNamespace(run=fake.run))  # type: ignore[arg-type]
    monkeypatch.setattr(request_module, "check_sink", fake.check_sink)
    return fake


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    """The one line on stderr of a command that ends with ``code`` and prints nothing else."""
    assert run_command(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("endostream: ")
    assert err.count("\n") == 1
    return err


def test_replay_asks_for_a_run_with_everything_that_was_given(runs: Runs, tmp_path: Path) -> None:
    video = tmp_path / "in.avi"
    video.touch()
    arguments = [
        "replay",
        str(video),
        "phantom:",
        "--segmenter",
        "fcm-plain",
        "--speed",
        "fastest",
        "--loop",
        "2",
    ]
    arguments += ["--start", "1.5", "--duration", "3", "--sink", f"video:{tmp_path}/o.mp4", "--sink", "null"]
    arguments += ["--report", f"{tmp_path}/r.json", "--set", "overlay.hold_ms=90", "--json", "--quiet"]
    assert run_command(arguments) == 0
    (request,) = runs.requests
    assert request.sources == [str(video), "phantom:"]
    assert [spec.label for spec in request.sinks] == [f"video:{tmp_path}/o.mp4", "null"]
    assert request.presenting.kind == "null"
    assert [spec.kind for spec in request.recording] == ["video"]
    assert runs.checked == [f"video:{tmp_path}/o.mp4", "null"]
    assert request.report == tmp_path / "r.json"
    assert request.config.infer.segmenter == "fcm-plain"
    assert request.config.effective_mode() == "every-frame"
    replay = request.config.replay
    assert (replay.loop, replay.start_s, replay.duration_s) == (2, 1.5, 3.0)
    assert request.config.overlay.hold_ms == 90
    assert request.origins["replay.speed"] == "--speed"
    assert request.origins["overlay.hold_ms"] == "--set"
    assert (request.json, request.quiet) == (True, True)
    assert request.command == ["endostream", *arguments]
    assert list(tmp_path.iterdir()) == [video]


def test_replay_plays_what_is_chosen_from_a_catalogue(runs: Runs, tmp_path: Path) -> None:
    for name in ("polyp/a.avi", "polyp/b.avi", "normal/c.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert run_command(["replay", "--catalogue", str(tmp_path), "--finding", "polyp", "--limit", "1"]) == 0
    assert runs.requests[0].sources == [str(tmp_path / "polyp" / "a.avi")]


def test_catalogue_lists_a_folder_of_videos(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.avi").touch()
    assert run_command(["catalogue", str(tmp_path), "--no-check", "--json"]) == 0
    assert "a.avi" in capsys.readouterr().out


def test_without_a_presenting_sink_null_presents(runs: Runs) -> None:
    run_command(["replay", "phantom:"])
    assert runs.requests[0].sinks == []
    assert runs.requests[0].presenting.kind == "null"


def test_a_configuration_file_is_overridden_by_options(runs: Runs, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("replay:\n  speed: 2x\n  mode: every-frame\n")
    run_command(["replay", "phantom:", "--config", str(file), "--speed", "0.5x"])
    replay = runs.requests[0].config.replay
    assert (replay.speed, replay.mode) == ("0.5x", "every-frame")


def test_the_exit_code_of_the_run_is_that_of_the_command(runs: Runs) -> None:
    runs.ending = lambda: 5
    assert run_command(["replay", "phantom:"]) == 5


@pytest.mark.parametrize(
    ("code", "arguments", "expected"),
    [
        (2, ["replay"], "replay: nothing to play; expected SOURCE"),
        (2, ["replya"], "No such command 'replya'. Did you mean 'replay'? Try: endostream --help"),
        (2, ["replay", "phantom:", "--sped", "2x"], "No such option: --sped"),
        (2, ["replay", "phantom:", "--speed"], "Option '--speed' requires an argument"),
        (2, ["replay", "phantom:", "--speed", "quick"], "replay.speed: 'quick' (--speed); expected realtime"),
        (2, ["replay", "phantom:", "--loop", "x"], "replay.loop: 'x' (--loop); expected a whole number"),
        (2, ["replay", "phantom:", "--start", "-1"], "replay.start_s: -1 (--start); expected a number of at"),
        (2, ["replay", "phantom:", "--mode", "liv"], "replay.mode: 'liv' (--mode); "),
        (2, ["replay", "phantom:", "--segmenter", "fmc"], "segmenter: 'fmc'; expected one of fcm"),
        (2, ["replay", "phantom:", "--set", "a"], "--set: 'a'; expected KEY=VALUE"),
        (2, ["replay", "phantom:", "--config", "no.yaml"], "config: no.yaml; cannot be read"),
        (2, ["replay", "phantom:", "--sink", "vidoe:o.mp4"], "sink: 'vidoe:o.mp4'; expected KIND[:PATH]"),
        (2, ["replay", "phantom:", "--sink", "null", "--sink", "window"], "sink: null and window; expected"),
        (2, ["replay", "phantom:", "--sink", "video:o", "--sink", "jsonl:./o"], "./o; expected a place"),
        (2, ["replay", "phantom:", "--sink", "video:o", "--report", "o"], "report: o; expected a place"),
        (2, ["replay", ""], "source: ''; expected a path or phantom:"),
        (3, ["replay", "no.avi"], "source: no.avi; no such file or folder"),
        (3, ["replay", "phantom:", "no.avi"], "source: no.avi; no such file or folder"),
        (1, ["replay", "phantom:", "--report", "no/r.json"], "report: no/r.json; cannot be written"),
        (1, ["replay", "phantom:", "--report", "."], "report: .; expected a file, this is a folder"),
        (1, ["replay", "phantom:", "--report", "/proc/r.json"], "report: /proc/r.json; cannot be written"),
        (2, ["config", "--show", "--schema"], "expected only one of them"),
        (2, ["config", "--set", "captur.nice=1"], "captur: unknown key (--set); "),
        (2, ["replay", "phantom:", "--catalogue", "."], "phantom: and --catalogue; expected only"),
        (2, ["replay", "--finding", "polyp"], "a choice of recordings, but no catalogue"),
        (2, ["replay", "--catalogue", ".", "--size", "big"], "size: 'big'; expected WIDTHxHEIGHT"),
        (2, ["replay", "--catalogue", ".", "--limit", "0"], "Invalid value for '--limit'"),
        (3, ["replay", "--catalogue", "no"], "catalogue: no; no such folder"),
        (2, ["catalogue"], "Missing argument 'DIR'. Try: endostream catalogue --help"),
        (3, ["catalogue", "no"], "catalogue: no; no such folder"),
        (2, ["demo", "--seconds", "0"], "phantom.duration_s: 0 (--seconds); expected a number above 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line_before_anything_starts(
    runs: Runs,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in refused(capsys, code, *arguments)
    assert runs.requests == []
    assert list(tmp_path.iterdir()) == []


def test_an_output_never_overwrites_the_source(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, link = tmp_path / "in.avi", tmp_path / "link.avi"
    source.touch()
    link.hardlink_to(source)
    assert "that of" in refused(capsys, 2, "replay", str(source), "--sink", f"video:{link}")


def test_several_mistakes_come_in_several_lines(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["replay", "phantom:", "--loop", "x", "--speed", "y"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[:2] for line in lines] == [
        ["endostream", " replay.speed"],
        ["endostream", " replay.loop"],
    ]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (SourceLost("source: a.avi; gone"), 3, "endostream: source: a.avi; gone\n"),
        (ModelError("weights: missing"), 4, "endostream: weights: missing\n"),
        (CheckFailed("ledger: open"), 5, "endostream: ledger: open\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            RuntimeError("a\nb"),
            1,
            "endostream: unexpected RuntimeError: a b. Try: ENDOSTREAM_DEBUG=1 for where\n",
        ),
    ],
)
def test_whatever_ends_a_run_ends_the_command_with_its_code_and_one_line(
    runs: Runs, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    def fail() -> int:
        raise error

    runs.ending = fail
    assert run_command(["replay", "phantom:"]) == code
    assert capsys.readouterr().err == line


def test_the_traceback_is_shown_only_on_request(
    runs: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDOSTREAM_DEBUG", "1")
    run_command(["replay", "no.avi"])
    assert "Traceback" in capsys.readouterr().err


def test_demo_plays_the_phantom_live_and_says_where_the_results_are(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "a" / "b"

    def write() -> int:
        for name in ("demo.mp4", "report.json"):
            (out / name).touch()
        return 0

    runs.ending = write
    assert run_command(["demo", "--out", str(out), "--seconds", "3"]) == 0
    (request,) = runs.requests
    assert request.sources == ["phantom:"]
    assert runs.checked == [f"video:{out}/demo.mp4", f"jsonl:{out}/demo.jsonl"]
    assert request.report == out / "report.json"
    assert (request.config.phantom.duration_s, request.config.effective_mode()) == (3.0, "live")
    assert capsys.readouterr().out == f"video:  {out}/demo.mp4\nreport: {out}/report.json\n"


def test_demo_into_a_place_that_cannot_be_made_is_refused(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert "cannot be made" in refused(capsys, 1, "demo", "--out", str(tmp_path / "file" / "x"))


def test_config_shows_the_merged_result_with_origins(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("overlay:\n  hold_ms: 150\n")
    assert run_command(["config", "--show", "--config", str(file), "--set", "capture.nice=1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["config"]["overlay"]["hold_ms"] == 150
    assert shown["origins"]["overlay.hold_ms"] == "mine.yaml:2"
    assert shown["origins"]["capture.nice"] == "--set"
    assert run_command(["config", "--config", str(file)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["hold_ms:", "150.0", "#", "mine.yaml:2"] in lines


@pytest.mark.parametrize(
    ("option", "first"), [("--schema", "replay.speed = realtime\n"), ("--template", "# Every")]
)
def test_config_prints_schema_and_template(
    capsys: pytest.CaptureFixture[str], option: str, first: str
) -> None:
    assert run_command(["config", option]) == 0
    assert capsys.readouterr().out.startswith(first)


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([]) == 0
    assert capsys.readouterr().out.startswith("Usage: endostream [OPTIONS] COMMAND")


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out.startswith("endostream 0.")


def test_help_imports_nothing_heavy() -> None:
    heavy = ["cv2", "av", "numba", "numpy", "zmq", "tensorflow", "tensorrt", "openvino", "keras"]
    code = (
        "import sys; from endostream.pipeline.cli import run_command; "
        "code = run_command(['replay', '--help']); "
        f"print([name for name in {heavy} if name in sys.modules], code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_a_reader_that_goes_away_is_no_error_to_tell() -> None:
    with subprocess.Popen(
        [*COMMAND, "config", "--schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


def test_the_command_ends_with_the_code_of_the_mistake() -> None:
    done = subprocess.run(
        [*COMMAND, "replay", "no.avi"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "endostream: source: no.avi; no such file or folder\n"


def test_live_asks_for_a_live_run_whatever_the_file_says(runs: Runs, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("replay:\n  speed: fastest\n  loop: 0\nlive:\n  buffers: 2\n")
    command = ["live", "/dev/video0", "--duration", "5", "--config", str(file), "--sink", "jsonl:o.jsonl"]
    assert run_command(command) == 0
    request = runs.requests[0]
    assert request.sources == ["/dev/video0"]
    assert request.config.effective_mode() == "live"
    assert (request.config.replay.duration_s, request.config.replay.loop) == (5.0, 1)
    assert request.config.live.buffers == 2


@pytest.mark.parametrize("source", ["recording.avi", "phantom:", "", "nonsense://x"])
def test_live_refuses_what_is_not_live(runs: Runs, capsys: pytest.CaptureFixture[str], source: str) -> None:
    said = refused(capsys, 2, "live", source)
    assert said.startswith(f"endostream: live: {source!r}; expected /dev/videoN, rtsp://")
    assert runs.requests == []


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("foo", "endostream doctor, which lists the devices, or lavfi:testsrc2, a test picture"),
        ("rstp://user:secret@tower/1", "endostream live rtsp://***@tower/1"),
        ("video0", "endostream live /dev/video0"),
        ("/dev/vidoe2", "endostream live /dev/video2"),
        (".", "endostream replay ."),
    ],
)
def test_live_says_what_may_have_been_meant(
    runs: Runs, capsys: pytest.CaptureFixture[str], source: str, hint: str
) -> None:
    said = refused(capsys, 2, "live", source)
    assert said.endswith(f". Try: {hint}\n") and "secret" not in said
    assert runs.requests == []


def test_live_refuses_to_wait_for_every_frame(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, 2, "live", "/dev/video0", "--set", "replay.mode=every-frame")
    assert said == "endostream: replay.mode: every-frame; expected live: a live source does not wait\n"


def test_an_interrupt_during_the_first_imports_ends_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt", encoding="utf-8")
    command = [*COMMAND, "--version"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
