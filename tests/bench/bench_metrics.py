"""Whether metrics disturb the video: the same run unasked, and asked far oftener than Prometheus would.

    python tests/bench/bench_metrics.py [--json FILE] [--quick]

The phantom at 1280 × 720 and 30 fps with fuzzy c-means and the null sink, in real time: without ``--metrics``, scraped
every 0.1 s over HTTP (Prometheus asks every 15 s unless told otherwise), and asked every 0.1 s at the socket that
``endostream top`` uses. In rounds, since machines drift; the median round of each way is shown, with the worst frame of
all. Processor time is that of all processes of the run for a second of video. An answer's time is what the asker waits.
"""

import os
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from endostream.configs.errors import SourceLost
from endostream.pipeline.monitoring.metrics_socket import read_record
from results import Promise, Result, Table, bench_parser, conclude, median, percentiles, this_machine
from runs import endostream

EVERY_S = 0.1
SLOWER_ALLOWED_MS = 1.0
"""By so much p99 of the video delay may be above that of the run without metrics: 3 % of a frame period."""
WITHOUT, HTTP, SOCKET = "without", "HTTP, 10 times a second", "socket, 10 times a second"


class Asker:
    """Asks a run how it goes whenever it is called; keeps how long each answer took, in ms."""

    def __init__(self, ask: Callable[[], None]) -> None:
        self._ask = ask
        self.took_ms: list[float] = []

    def __call__(self, pid: int) -> None:
        """Ask; a run that has not begun or is over gives no answer."""
        begun_s = time.monotonic()
        try:
            self._ask()
        except (SourceLost, urllib.error.URLError, ConnectionError):
            return
        self.took_ms.append((time.monotonic() - begun_s) * 1000)


def play(way: str, seconds: float, runtime: Path) -> dict[str, Any]:
    """One run in one of the ways."""
    arguments = ["replay", "phantom:", "--segmenter", "fcm", "--sink", "null"]
    settings = {"width": 1280, "height": 720, "fps": 30, "duration_s": seconds}
    arguments += [f"--set=phantom.{name}={value}" for name, value in settings.items()]
    asker: Asker | None = None
    if way == HTTP:
        port = free_port()
        arguments += ["--metrics", f"127.0.0.1:{port}"]
        asker = Asker(lambda: scrape(port))
    elif way == SOCKET:
        asker = Asker(lambda: ask_socket(runtime))
    done = endostream(*arguments, watch=asker, interval_s=EVERY_S)
    return {
        "video_delay_ms": done.report["video_delay_ms"],
        "longest_freeze_ms": done.report["longest_freeze_ms"],
        "dropped": sum(done.report["frames"]["dropped"].values()),
        "cpu_cores": done.cpu_s / seconds,
        "answer_ms": percentiles(asker.took_ms if asker else []),
    }


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def scrape(port: int) -> None:
    """As Prometheus does."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        answer.read()


def ask_socket(runtime: Path) -> None:
    """As ``endostream top`` does."""
    for directory in runtime.glob("endostream/run-*"):
        read_record(directory)


def measure(seconds: float, rounds: int) -> dict[str, Any]:
    """Every way, in turn, ``rounds`` times."""
    found: dict[str, Any] = {way: [] for way in (WITHOUT, HTTP, SOCKET)}
    with tempfile.TemporaryDirectory(prefix="eo") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        for number in range(rounds):
            for way, runs in found.items():
                print(f"round {number + 1} of {rounds}: {way}", file=sys.stderr)
                runs.append(play(way, seconds, Path(folder)))
    return {"seconds": seconds, "rounds": rounds, "ways": found}


def p99_ms(runs: list[dict[str, Any]]) -> float:
    """Of the video delay, the median round's."""
    return median([run["video_delay_ms"]["p99"] for run in runs])


def row(way: str, runs: list[dict[str, Any]]) -> list[str]:
    """One way as a row of the table."""
    answers = [run["answer_ms"] for run in runs if run["answer_ms"]["n"]]
    answer = [f"{median([each[key] for each in answers]):.1f}" if answers else "–" for key in ("p50", "p99")]
    return [
        way,
        f"{median([run['video_delay_ms']['p50'] for run in runs]):.2f}",
        f"{p99_ms(runs):.2f}",
        f"{max(run['video_delay_ms']['max'] for run in runs):.2f}",
        f"{max(run['longest_freeze_ms'] for run in runs):.1f}",
        str(sum(run["dropped"] for run in runs)),
        f"{median([run['cpu_cores'] for run in runs]):.2f}",
        *answer,
    ]


def result_of(numbers: dict[str, Any]) -> Result:
    """Table and promise."""
    ways = numbers["ways"]
    columns = ["", "video p50", "p99", "max", "longest freeze", "dropped", "cores", "answer p50", "p99"]
    title = f"Video delay with metrics asked for, ms, {numbers['rounds']} × {numbers['seconds']:g} s each"
    slower_ms = max(p99_ms(ways[way]) for way in (HTTP, SOCKET)) - p99_ms(ways[WITHOUT])
    text = f"asking 10 times a second costs p99 of the video delay at most {SLOWER_ALLOWED_MS:g} ms ({slower_ms:+.2f})"
    table = Table(title, columns, [row(way, runs) for way, runs in ways.items()])
    return Result("metrics", numbers, [table], [Promise(text, slower_ms <= SLOWER_ALLOWED_MS)])


def main() -> int:
    """Measure, print, and say by the exit code whether the promise holds."""
    arguments = bench_parser(__doc__).parse_args()
    machine = this_machine()
    seconds, rounds = (5, 1) if arguments.quick else (20, 3)
    return conclude(result_of(measure(seconds, rounds)), arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
