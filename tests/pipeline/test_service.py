"""The systemd unit: what stands in it, how commands are quoted, and that systemd itself accepts it."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from endostream.configs.load import load_config
from endostream.pipeline.cli import run_command
from endostream.pipeline.service import install, quoted, unit_text

from .end_to_end import play, small_video


def lines_of(unit: str) -> list[str]:
    return [line for line in unit.splitlines() if line and not line.startswith(("#", "["))]


def test_the_unit_runs_live_with_what_was_given_and_what_a_service_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["service", "print", "/dev/video0", "--sink", "video:/data/a b.mkv"]) == 0
    unit = capsys.readouterr().out
    (command,) = [line for line in lines_of(unit) if line.startswith("ExecStart=")]
    expected = ' live /dev/video0 --sink "video:/data/a b.mkv" --config /etc/endostream.yaml'
    assert command.endswith(f"{expected} --log-format json --quiet")
    assert {"Type=notify", "WatchdogSec=10", "Restart=always", "User=endostream"} <= set(lines_of(unit))
    assert "@" not in "".join(lines_of(unit)).replace("@system-service", "")


def test_the_kernels_memory_killer_and_real_time_are_provided_for() -> None:
    lines = lines_of(unit_text(["/dev/video0"]))
    assert "OOMPolicy=continue" in lines  # else the death of infer would end the video
    assert "LimitRTPRIO=1" in lines
    assert not any(line.startswith("MemoryDenyWriteExecute") for line in lines)
    assert not any(line.startswith("PrivateDevices") for line in lines)


def test_where_the_command_is_not_installed_the_package_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ran a module in which nothing happens."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    command = f"ExecStart={tmp_path}/python -P -m endostream.pipeline live /dev/video0"
    assert command in lines_of(unit_text(["/dev/video0"]))


def test_options_that_are_given_are_not_given_twice(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["/dev/video0", "--config=/srv/e.yaml", "--log-format", "text", "--quiet"]
    assert run_command(["service", "print", *arguments]) == 0
    out = capsys.readouterr().out
    assert out.count("--log-format") == out.count("--quiet") == out.count("--config") == 1


@pytest.mark.parametrize("arguments", [[], ["no-such"], ["/dev/video0", "--user", "root"]])
def test_without_a_source_or_as_root_there_is_no_service(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["service", "print", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("endostream: ")
    assert ". Try: " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--metrics", "99x"],
            "endostream: metrics.listen: '99x'; expected HOST:PORT. Try: --metrics 127.0.0.1:9464",
        ),
        (["--segmenter", "no-such"], "endostream: segmenter: 'no-such'; "),
        (["--runtime", "no-such"], "endostream: runtime: 'no-such'; "),
        (["--sink", "no-such"], "endostream: sink: 'no-such'; "),
        (["--set", "live.give_up_s=never"], "endostream: live.give_up_s: 'never' (--set); "),
        (["--no-such"], "endostream: No such option: --no-such. Try: endostream live --help"),
    ],
)
def test_what_the_service_could_never_run_with_is_refused(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["service", "print", "/dev/video0", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line) and err.count("\n") == 1


def test_settings_that_lie_in_a_file_are_read_where_it_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("live:\n  give_up_s: never\n")
    assert run_command(["service", "print", "/dev/video0", "--config", str(file)]) == 2
    assert "live.give_up_s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "in_unit"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a b", '"a b"'),
        ("50%", "50%%"),
        ("$HOME", "$$HOME"),
        ('say "x"', '"say \\"x\\""'),
        ("c:\\d", '"c:\\\\d"'),
        ("it's", '"it\'s"'),
        (";", '";"'),
    ],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, in_unit: str) -> None:
    assert quoted(word) == in_unit


def test_install_writes_the_unit_keeps_settings_that_are_there_and_says_what_to_do_next(
    tmp_path: Path,
) -> None:
    unit, config = tmp_path / "etc/systemd/system/endostream.service", tmp_path / "etc/endostream.yaml"
    said = install(["/dev/video0"], "endostream", tmp_path)
    assert unit.read_text() == unit_text(["/dev/video0"])
    assert load_config(config).config.live.wait_at_start
    assert said[-3:-1] == ["systemctl daemon-reload", "systemctl enable --now endostream"]
    config.write_text("overlay: {hud: false}\n")
    install(["/dev/video1"], "endostream", tmp_path)
    assert yaml.safe_load(config.read_text()) == {"overlay": {"hud": False}}
    assert "live /dev/video1" in unit.read_text()
    assert [path.name for path in unit.parent.iterdir()] == [unit.name]


def test_each_start_records_into_a_folder_of_its_own_where_the_settings_say_so(tmp_path: Path) -> None:
    """A service that is started again must not write over what it recorded before."""
    settings = ("--set", "record.at_start=true", "--set", f"record.folder={tmp_path / 'kept'}")
    video = small_video(tmp_path, 10)
    for started in (1, 2):
        assert play(tmp_path, video, *settings, log=False).code == 0
        assert len(list((tmp_path / "kept").glob("*/session.json"))) == started


def test_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc").touch()
    assert run_command(["service", "install", "/dev/video0", "--root", str(tmp_path)]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze to verify the unit with")
    unit = tmp_path / "endostream.service"
    unit.write_text(unit_text(["/dev/video0"], executable=["/bin/true"]))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
