"""What a service manager is told: on a real socket, and the watchdog only while something new is shown."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from endostream.configs.schema import Config
from endostream.pipeline.clock import VirtualClock
from endostream.pipeline.frame import MaskState
from endostream.pipeline.host import RunSpec
from endostream.pipeline.launcher import ThreadLauncher
from endostream.pipeline.monitoring.notify import Notifier, RunNotices
from endostream.pipeline.supervisor import Supervisor

from ..end_to_end import Run, small_video

SECOND_NS = 1_000_000_000


class Manager:
    """Listens as systemd does; every message as a dict."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[dict[str, str]]:
        """What came since the last call."""
        messages = []
        while True:
            try:
                text = self._socket.recv(65_536).decode()
            except BlockingIOError:
                return messages
            messages.append(dict(line.split("=", 1) for line in text.splitlines()))

    def words(self) -> list[str]:
        """The states without STATUS, in order."""
        return [name for message in self.heard() for name in message if name != "STATUS"]

    def lines(self) -> list[str]:
        """The states with their values, in order."""
        return [f"{name}={value}" for message in self.heard() for name, value in message.items()]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    yield manager
    manager.close()


@pytest.fixture
def supervisor() -> Supervisor:
    config = Config()
    spec = RunSpec("", "live", config.model_dump(), ("a.avi",))
    return Supervisor(spec, config, ThreadLauncher("inproc://none/"), lambda *_: None)


class Rig:
    """Notices of a run whose board and clock the test moves."""

    def __init__(self, supervisor: Supervisor, address: Path, watchdog_s: float) -> None:
        self.supervisor, self.clock = supervisor, VirtualClock(SECOND_NS)
        self.notifier = Notifier(str(address), int(watchdog_s * SECOND_NS))
        self._notices = RunNotices(self.notifier, self.clock)

    def tick(self, seconds: float, show: str = "", *, unseen: bool = False) -> None:
        """Let time pass, let something be shown, and look."""
        self.clock.advance_ns(int(seconds * SECOND_NS))
        if show:
            self.supervisor.board.cell(f"overlay.{show}").add()
            self.supervisor.board.cell("overlay.last_present_ns").value = self.clock.now_ns()
        if show == "presented" and not unseen:
            self.supervisor.board.cell("overlay.last_shown_ns").value = self.clock.now_ns()
        self._notices(self.supervisor)


@pytest.fixture
def rig(supervisor: Supervisor, manager: Manager, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(supervisor, tmp_path / "notify", 8.0)
    yield rig
    rig.notifier.close()


def test_ready_is_said_once_when_the_first_picture_is_shown(rig: Rig, manager: Manager) -> None:
    rig.tick(5)
    assert manager.words() == []
    rig.tick(0.04, "presented")
    assert manager.words() == ["READY", "WATCHDOG"]
    rig.tick(0.04, "presented")
    assert manager.words() == []


def test_no_signal_is_something_shown_too(rig: Rig, manager: Manager) -> None:
    rig.tick(1, "synthetic")
    assert manager.words() == ["READY", "WATCHDOG"]


def test_the_watchdog_is_fed_four_times_a_timeout_while_pictures_come(rig: Rig, manager: Manager) -> None:
    words = []
    for _ in range(400):  # sixteen seconds at 25 a second
        rig.tick(0.04, "presented")
        words += manager.words()  # the kernel keeps ten messages at most
    assert words == ["READY", *["WATCHDOG"] * 8]


def test_a_frozen_picture_starves_the_watchdog_and_a_new_one_feeds_it(rig: Rig, manager: Manager) -> None:
    rig.tick(0.04, "presented")
    rig.tick(0.04, "presented")  # shown since the last feeding, but not later
    manager.heard()
    for _ in range(500):
        rig.tick(0.02)
    assert manager.words() == []
    rig.tick(0.02, "presented")
    assert manager.words() == ["WATCHDOG"]


def test_a_window_that_draws_nothing_starves_the_watchdog_though_frames_are_presented(
    rig: Rig, manager: Manager
) -> None:
    rig.tick(0.04, "presented")
    manager.heard()
    heard = []
    for _ in range(100):
        rig.tick(0.04, "presented", unseen=True)
        heard += manager.heard()
    assert [message["STATUS"] for message in heard] == [
        "the window has drawn nothing for 2 s",
        "the window has drawn nothing for 4 s",
    ]


def test_without_a_watchdog_none_is_fed(supervisor: Supervisor, manager: Manager, tmp_path: Path) -> None:
    rig = Rig(supervisor, tmp_path / "notify", 0)
    for _ in range(100):
        rig.tick(0.04, "presented")
    rig.notifier.close()
    assert manager.words() == ["READY"]


def test_status_says_rate_state_of_the_ai_and_silence(rig: Rig, manager: Manager) -> None:
    rig.tick(0)
    assert manager.heard()[-1]["STATUS"] == "waiting for the first picture"
    rig.supervisor.board.cell("overlay.mask_state").value = MaskState.HELD
    rig.supervisor.board.cell("infer.restarts").value = 2
    for _ in range(50):
        rig.tick(0.04, "presented")
    assert manager.heard()[-1]["STATUS"] == "25.0 frames/s, 50 so far, AI held, 2 restarts"
    rig.tick(7)
    assert manager.heard()[-1]["STATUS"] == "no signal for 7 s"


def test_stopping_is_said_once_and_nothing_after_it(rig: Rig, manager: Manager) -> None:
    rig.tick(0.04, "presented")
    rig.supervisor.interrupt()
    manager.heard()
    for _ in range(3):
        rig.tick(3, "presented")
    assert manager.words() == ["STOPPING"]


def test_what_the_manager_asks_for_is_read_once_and_not_handed_on() -> None:
    environment = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "10000000", "HOME": "/"}
    notifier = Notifier.from_environment(environment)
    assert notifier is not None
    notifier.close()
    assert notifier.watchdog_ns == 10 * SECOND_NS
    assert environment == {"HOME": "/"}
    assert Notifier.from_environment(environment) is None


@pytest.mark.parametrize(
    ("usec", "pid", "watchdog_ns"),
    [("500", str(os.getpid()), 500_000), ("500", "1", 0), ("", "", 0), ("soon", "", 0)],
)
def test_a_watchdog_meant_for_another_process_is_not_ours(usec: str, pid: str, watchdog_ns: int) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid})
    assert notifier is not None
    notifier.close()
    assert notifier.watchdog_ns == watchdog_ns


def test_abstract_sockets_are_reached_and_a_manager_that_is_gone_is_no_error() -> None:
    manager = Manager(f"@endostream-test-{os.getpid()}")
    notifier = Notifier(f"@endostream-test-{os.getpid()}")
    notifier.send(STATUS="one\nline", READY="1")
    assert manager.heard() == [{"STATUS": "one line", "READY": "1"}]
    manager.close()
    notifier.send(READY="1")
    notifier.close()


def test_a_real_run_is_ready_fed_starved_while_the_display_stands_still_and_stops_in_order(
    tmp_path: Path, manager: Manager
) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    # The supervisor itself is not to help.
    patient = ("--set", "supervisor.heartbeat_timeout_s=60", "--set", "overlay.hang_timeout_s=60")
    with Run(tmp_path, small_video(tmp_path), "--loop", "0", *patient, environment=environment) as run:
        words: list[str] = []
        run.wait_for(lambda: words.extend(manager.words()) or words.count("WATCHDOG") > 3, "feeding")
        assert words[0] == "READY"
        overlay = run.kill("overlay", signal.SIGSTOP)
        run.wait_for(lambda: Path(f"/proc/{overlay}/stat").read_text().split()[2] == "T", "the stop")
        said: list[str] = []
        silent = "STATUS=no signal for"
        run.wait_for(
            lambda: said.extend(manager.lines()) or sum(line.startswith(silent) for line in said) == 2,
            "a still picture",
        )
        first = next(index for index, line in enumerate(said) if line.startswith(silent))
        assert [line for line in said[first:] if not line.startswith(silent)] == []  # it was not fed
        os.kill(overlay, signal.SIGCONT)
        run.wait_for(lambda: "WATCHDOG" in manager.words(), "feeding again")
        run.send(signal.SIGTERM)
        ended = run.end()
    assert ended.code == 130
    assert manager.words()[-1] == "STOPPING"
