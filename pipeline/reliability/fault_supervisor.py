"""The death of the supervisor: every stage ends by itself and finishes its file. One more line of the fault matrix.

Separate from the other cells because this run is a command of its own: whoever measures must live on. What counts is
the time until the last of its processes is gone, and whether the recording plays up to then.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import psutil

from endostream.configs.schema import Config

from ..sinks.diary_sink import read_diary
from .fault_figures import DEFAULT_PERIOD_MS, Figures

STAGE, WORDS = "supervisor", "SIGKILL: the run ends, its files are finished"
ENDS_S = 2.0
BEHIND_S = 1.0
"""The recording may end so long before the last picture that was shown."""
_SETTLED_FRAMES = 60
_PATIENCE_S = 60.0
_COMMAND = (sys.executable, "-m", "endostream.pipeline")


def play_supervisor_cell(source: str, config: Config) -> Figures:
    """Kill a run's supervisor; what became of its stages and its recording."""
    figures = Figures(STAGE, "kill", "", WORDS, DEFAULT_PERIOD_MS)
    with tempfile.TemporaryDirectory(prefix="endostream-faults-") as folder:
        _kill_and_look(figures, source, config, Path(folder))
    if figures.ended_s is None:
        figures.broken.append("the run did not end" if figures.captured else "the run never settled")
    elif figures.ended_s > ENDS_S:
        figures.broken.append(f"ended after more than {ENDS_S:g} s")
    return figures


def _kill_and_look(figures: Figures, source: str, config: Config, folder: Path) -> None:
    diary, recording = folder / "diary", folder / "recording.mp4"
    (folder / "config.yaml").write_text(config.model_dump_json(), encoding="utf-8")  # JSON is YAML
    command = [*_COMMAND, "replay", source, "--quiet", "--config", str(folder / "config.yaml")]
    command += ["--sink", f"diary:{diary}", "--sink", f"video:{recording}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stages: list[psutil.Process] = []
    try:
        if not _settled(process, diary):
            return
        stages = psutil.Process(process.pid).children(recursive=True)
        begun_s = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(_PATIENCE_S)
        _, alive = psutil.wait_procs(stages, timeout=_PATIENCE_S)
        figures.ended_s = None if alive else round(time.monotonic() - begun_s, 3)
    finally:
        process.kill()
        process.wait(_PATIENCE_S)
        for stage in stages:
            if stage.is_running():
                stage.kill()
    shown = read_diary(diary)
    figures.captured = len(shown)
    behind_s = (shown[-1].capture_ns - shown[0].capture_ns) / 1e9 - _length_s(recording)
    figures.causes.append(f"the recording ends {behind_s:.2f} s before the last picture")
    figures.ledger_closed = True  # nobody is left to say otherwise; the recording is looked at instead
    if behind_s > BEHIND_S:
        figures.broken.append(figures.causes[-1])


def _settled(process: "subprocess.Popen[bytes]", diary: Path) -> bool:
    """Wait until enough was presented; False if the run ended before, or patience did."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        if len(read_diary(diary)) >= _SETTLED_FRAMES:
            return True
        time.sleep(0.05)
    return False


def _length_s(recording: Path) -> float:
    """Time from the first to the last picture that can be decoded, 0 if it cannot be opened."""
    times_s = [0.0]
    try:
        with av.open(str(recording)) as container:
            times_s += [float(picture.time or 0) for picture in container.decode(video=0)]
    except (OSError, ValueError, IndexError):
        return 0.0
    return times_s[-1] - times_s[1] if len(times_s) > 1 else 0.0
