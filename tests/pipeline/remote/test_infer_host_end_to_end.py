"""``endostream infer-host`` and a run that uses it, as processes: losses, returns, refusals and ends."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from endostream.configs.schema import tcp_address
from endostream.pipeline.remote.curve_keys import make_keys

from ..end_to_end import COMMAND, HERE, PATIENCE_S, QUICK, Run, play, small_video
from .infer_rig import wait_until
from .tcp_proxy import TcpProxy

LOOP = ("--loop", "0")


class Host:
    """A process of ``endostream infer-host``."""

    def __init__(self, folder: Path, listen: str, *arguments: str) -> None:
        self._stderr = folder / f"host-{len(list(folder.glob('host-*')))}"
        self.process = subprocess.Popen(
            [*COMMAND, "infer-host", "--listen", listen, "--segmenter", QUICK, "--json", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr.open("w"),
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH")))),
            },
            text=True,
        )

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    @property
    def address(self) -> str:
        """Where it listens, as soon as it does."""
        wait_until(lambda: "listening at " in self.stderr or self.process.poll() is not None)
        return self.stderr.partition("listening at ")[2].split()[0]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, dict[str, object]]:
        """Signal it; its exit code and what it says it served."""
        self.process.send_signal(number)
        stdout, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, json.loads(stdout or "{}")


@contextmanager
def host_process(folder: Path, *arguments: str, listen: str = "tcp://127.0.0.1:0") -> Iterator[Host]:
    """A host, killed at the end if need be."""
    host = Host(folder, listen, *arguments)
    try:
        assert host.address
        yield host
    finally:
        host.process.kill()
        host.process.communicate(timeout=PATIENCE_S)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return small_video(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_frame_gets_its_mask_from_another_process_and_the_host_ends_in_order(
    tmp_path: Path, video: Path, number: int
) -> None:
    with host_process(tmp_path) as host:
        ended = play(tmp_path, video, "--speed", "fastest", "--infer-host", host.address)
        code, totals = host.end(number)
    assert (ended.code, ended.states) == (0, ["fresh"])
    assert ended.report["runtime"] == f"numpy at {totals and host.address}"
    assert ended.report["frames"]["ledger_closed"]
    assert code == 0
    assert totals["towers"] == {
        "127.0.0.1": {
            "received": 50,
            "answered": 50,
            "failed": 0,
            "superseded": 0,
            "lost": 0,
            "refused_messages": 0,
        }
    }
    assert f"ends on {signal.Signals(number).name}" in host.stderr


def test_a_host_that_is_killed_mid_run_fails_the_marks_not_the_video_and_its_return_brings_them_back(
    tmp_path: Path, video: Path
) -> None:
    with host_process(tmp_path) as first:
        address = first.address
        with Run(tmp_path, video, *LOOP, "--infer-host", address) as run:
            run.wait_for_frames(10, "fresh")
            first.end(signal.SIGKILL)
            run.wait_for_frames(10, "failed")
            with host_process(tmp_path, listen=address) as second:
                run.wait_for_frames(10, "fresh")
                run.send(signal.SIGINT)
                ended = run.end()
                assert "connected: endostream" in second.stderr
    assert ended.code == 130
    assert ended.report["frames"]["ledger_closed"]
    assert ended.report["links"]["preprocess-infer"]["dropped"]["network"] > 0
    assert ended.report["stages"]["infer"]["restarts"] == 0
    assert ended.report["frames"]["dropped"] == {}
    assert next(line["cause"] for line in ended.log if line["state"] == "failed").startswith("network: ")
    assert ended.stderr.count("connection lost") == 1
    assert ended.stderr.count("connected again") == 1


def test_a_network_that_swallows_all_fails_the_marks_within_seconds_and_not_one_frame(
    tmp_path: Path, video: Path
) -> None:
    with (
        host_process(tmp_path) as host,
        TcpProxy(tcp_address(host.address)) as proxy,
        Run(tmp_path, video, *LOOP, "--infer-host", proxy.address) as run,
    ):
        run.wait_for_frames(10, "fresh")
        proxy.swallow()
        run.wait_for_frames(20, "failed")
        proxy.pass_on()
        run.wait_for_frames(10, "fresh")
        run.send(signal.SIGINT)
        ended = run.end()
    assert ended.code == 130
    assert ended.report["frames"]["ledger_closed"]
    assert ended.report["frames"]["dropped"] == {}
    assert ended.report["links"]["preprocess-infer"]["dropped"]["network"] > 0
    causes = {line["cause"] for line in ended.log if line["state"] == "failed"}
    assert any(cause.startswith("network: no answer ") for cause in causes)
    assert not any("refused" in cause for cause in causes)


def test_live_without_a_host_plays_on_and_says_so_and_every_frame_ends_with_4(
    tmp_path: Path, video: Path
) -> None:
    with host_process(tmp_path) as host:
        address = host.address
    live = play(tmp_path, video, "--infer-host", address)
    assert (live.code, live.states[-1], set(live.states) - {"absent"}) == (0, "failed", {"failed"})
    assert f"infer.host: {address}; cannot be reached" in live.stderr
    assert live.report["frames"]["presented"] == 50
    assert live.report["links"]["preprocess-infer"]["dropped"]["network"] > 0
    every = play(tmp_path, video, "--speed", "fastest", "--infer-host", address)
    assert every.code == 4
    assert every.stderr.splitlines()[-1].endswith(f"infer.host: {address}; cannot be reached")


def test_two_towers_with_keys_share_a_host_and_a_stranger_gets_exit_code_2(
    tmp_path: Path, video: Path
) -> None:
    make_keys(tmp_path / "keys")
    make_keys(tmp_path / "strange")
    (tmp_path / "strange" / "host.key").write_bytes((tmp_path / "keys" / "host.key").read_bytes())
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    for folder in (one, two, three):
        folder.mkdir()
    with host_process(tmp_path, "--keys", "keys") as host:
        options = ("--infer-host", host.address, "--speed", "fastest")
        with Run(one, video, *options, "--keys", tmp_path / "keys") as first:
            second = play(two, video, *options, "--keys", tmp_path / "keys")
            ended = first.end()
        stranger = play(three, video, *options, "--keys", tmp_path / "strange")
        _, totals = host.end()
    assert (ended.code, second.code, ended.states, second.states) == (0, 0, ["fresh"], ["fresh"])
    assert totals["towers"]["tower (127.0.0.1)"]["answered"] == 100  # type: ignore[index]
    assert stranger.code == 2
    assert "refused: the host does not know this tower's key" in stranger.stderr
    assert host.stderr.count("refused: its key") == 1


def test_another_segmenter_than_the_hosts_is_refused_on_both_sides(tmp_path: Path, video: Path) -> None:
    with host_process(tmp_path) as host:
        ended = play(
            tmp_path, video, "--infer-host", host.address, "--speed", "fastest", segmenter="fcm-plain"
        )
        assert f"refused: segmenter: fcm-plain asked for, {QUICK} there" in host.stderr
    assert ended.code == 4
    assert f"refused: segmenter: fcm-plain asked for, {QUICK} there; expected the same" in ended.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("infer-host", "--listen", "tcp://0.0.0.0:5555", "--segmenter", "fcm"),
        ("replay", "phantom:", "--infer-host", "tcp://192.0.2.1:5555"),
        ("replay", "phantom:", "--infer-host", "tcp://192.0.2.1:5555", "--keys", "nowhere"),
        ("infer-host", "--listen", "tcp://0.0.0.0:5555", "--keys", "nowhere"),
        ("infer-host", "--listen", "0.0.0.0:5555"),
        ("infer-host", "--set", "infer.host=tcp://127.0.0.1:5555"),
    ],
)
def test_an_address_off_the_loopback_needs_keys_that_will_do(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    ended = subprocess.run(
        [*COMMAND, *command], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "expected" in ended.stderr or "Try: " in ended.stderr
    assert ended.stdout == ""


def test_a_port_that_is_taken_is_exit_code_2_in_one_line(tmp_path: Path) -> None:
    with host_process(tmp_path) as host:
        second = Host(tmp_path, host.address)
        assert second.process.wait(PATIENCE_S) == 2
        second.process.communicate()
        assert "cannot be listened on (Address already in use" in second.stderr
