"""One measurement with the witness: a sender, whatever is to be measured, and an eye on the screen it draws on.

Ours and others' programs are measured alike: each is given a named pipe that carries YUV4MPEG2 in place of ``{input}``,
and shows it in a window on an X display, the one at hand or an Xvfb of its own. Sender, eye and program are processes
of their own. Separate from judging (``witness_verdict.py``). Nothing is asked of the program but to draw.
"""

import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from endostream.configs.errors import ConfigError, EndostreamError, ExitCode

from .witness_play import NOBODY_READS, Slot, faults_of, planned, require_size
from .witness_verdict import Seen, Verdict, judge, summary_ms
from .witness_window import SIZE_WH

_XVFB_SCREEN = "1920x1200x24"
_START_TIMEOUT_S = 20.0
_GRACE_S = 3.0
_LINGER_S = 0.5
_HANG_UP_S = 1.0
_OUR_COMMAND = (sys.executable, "-P", "-m", "endostream.pipeline")


class WitnessError(EndostreamError, RuntimeError):
    """The measurement could not be made."""

    exit_code = ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class Measurement:
    """What to measure.

    Attributes:
        command: shell words with ``{input}`` where the named pipe's path goes.
        base: source of the pictures under the codes.
        size_wh, fps: of that source.
        slots: frames to send.
        faults: as ``repeat@50``.
        display: X display; None for the environment's, or an Xvfb where there is none.
        rest_ms: the eye's pause between looks.
    """

    command: str
    base: str
    size_wh: tuple[int, int]
    fps: Fraction
    slots: int
    faults: tuple[str, ...] = ()
    display: str | None = None
    rest_ms: float = 1.0


@dataclass(slots=True)
class Measured:
    """What came of it; ``incomplete`` says why not all frames were sent, "" where they were."""

    verdict: Verdict
    seen: list[Seen]
    slots: list[Slot]
    looks: int
    unreadable: int
    exit_code: int | None
    said: str = ""
    incomplete: str = ""


@contextmanager
def x_display(asked: str | None) -> Iterator[str]:
    """The display asked for, the environment's, or an Xvfb's that lives as long as the context."""
    known = asked or os.environ.get("DISPLAY")
    if known:
        yield known
        return
    program = shutil.which("Xvfb")
    if program is None:
        raise ConfigError("witness: no DISPLAY and no Xvfb; expected one of them. Try: apt-get install xvfb")
    reading, writing = os.pipe()
    command = [program, "-displayfd", str(writing), "-screen", "0", _XVFB_SCREEN, "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], _START_TIMEOUT_S)
        number = os.read(reading, 16).decode().strip() if ready else ""
        if not number:
            raise WitnessError("witness: Xvfb did not start; expected an X display. Try: --display :0")
        yield f":{number}"
    finally:
        os.close(reading)
        _end(server)


def measure(asked: Measurement) -> Measured:
    """Do one measurement.

    Raises:
        ConfigError: a command without ``{input}``, or a fault that cannot be made.
        WitnessError: nothing can be seen.
    """
    if "{input}" not in asked.command:
        raise ConfigError(f"witness: {asked.command!r}; expected {{input}} where the pipe's path goes")
    require_size(*asked.size_wh)
    planned(asked.slots, faults_of(asked.faults))
    with (
        x_display(asked.display) as display,
        tempfile.TemporaryDirectory(prefix="endostream-witness-") as folder,
    ):
        pipe, log = Path(folder) / "input.y4m", Path(folder) / "slots.jsonl"
        os.mkfifo(pipe, 0o600)
        eye = _Eye(display, asked.size_wh, asked.rest_ms)
        with (Path(folder) / "said.txt").open("w+b") as said:
            program = _start(asked.command.replace("{input}", shlex.quote(str(pipe))), display, said)
            try:
                _send(asked, pipe, log, program)
                time.sleep(_LINGER_S)
                seen, facts = eye.finish()
            finally:
                code = _end_group(program)
                eye.kill()
            said.seek(0)
            words = said.read().decode(errors="replace")
        slots = [Slot(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []
    if not seen:
        tail = words.strip().splitlines()[-1:] or ["it said nothing"]
        ended = "" if code is None else f"exit code {code}, "
        raise WitnessError(
            f"witness: {asked.command}; no code was seen on {display} ({ended}{tail[0][:200]}). "
            "Try: it with a video in place of {input}; a window with that must open"
        )
    verdict = judge(seen, slots or None, float(1e9 / asked.fps))
    incomplete = _incomplete(asked, slots, code)
    return Measured(verdict, seen, slots, facts["looks"], facts["unreadable"], code, words, incomplete)


def _incomplete(asked: Measurement, slots: Sequence[Slot], code: int | None) -> str:
    """Why the sender did not get to its end, in a line; "" if it did."""
    if len(slots) == asked.slots:
        return ""
    ended = "it took no more" if code is None else f"it ended with exit code {code}"
    return f"{asked.command}: {ended} after {len(slots)} of {asked.slots} frames"


def calibrate(display: str | None, trials: int, rest_ms: float) -> dict[str, Any]:
    """The witness's own error in ms: what it says less when the picture was put on the screen.

    ``contradicted``: pictures that it says it saw at a time when they cannot have been there; there must be none.
    """
    with x_display(display) as name:
        eye = _Eye(name, SIZE_WH, rest_ms)
        try:
            command = [
                sys.executable,
                "-P",
                "-m",
                "endostream.pipeline.witness.witness_window",
                name,
                str(trials),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            seen, facts = eye.finish()
        finally:
            eye.kill()
    if done.returncode:
        raise WitnessError(f"witness: calibration failed ({done.stderr.strip().splitlines()[-1:]})")
    shown = {number: (before, after) for number, before, after in map(json.loads, done.stdout.splitlines())}
    # The first is what the eye finds the place by.
    pairs = [(each, shown[each.number]) for each in seen if each.number in shown and each.number > 0]
    errors = [each.seen_ns - (before + after) / 2 for each, (before, after) in pairs]
    apart = [each.number for each, (before, after) in pairs if each.by_ns < before or each.after_ns > after]
    return {
        "trials": trials - 1,
        "seen": len(pairs),
        "contradicted": apart,
        "error_ms": summary_ms(errors),
        "least_ms": round(min(errors) / 1e6, 4) if errors else None,
        "half_width_ms": summary_ms([each.error_ns for each, _ in pairs]),
        "draw_ms": summary_ms([after - before for _, (before, after) in pairs]),
        "looks": facts["looks"],
    }


class _Eye:
    """The watching process."""

    def __init__(self, display: str, drawn_wh: tuple[int, int], rest_ms: float) -> None:
        for package in ("mss", "Xlib"):
            if find_spec(package) is None:
                raise ConfigError(
                    f"witness: package {package} is not installed. Try: pip install endostream[witness]"
                )
        words = ["--display", display, "--drawn", *map(str, drawn_wh), "--rest-ms", str(rest_ms)]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "endostream.pipeline.witness.witness_watch", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            _, said = self._process.communicate(timeout=_START_TIMEOUT_S)
            why = said.strip().rpartition("\n")[2]
            raise WitnessError(
                f"display: {display}; expected an X display that can be looked at ({why[:200]})"
            )

    def finish(self) -> tuple[list[Seen], dict[str, int]]:
        """End it and take what it saw."""
        said, _ = self._process.communicate("", timeout=_START_TIMEOUT_S)
        *lines, last = [json.loads(line) for line in said.splitlines()]
        return [Seen(**line) for line in lines], last

    def kill(self) -> None:
        """End it in any case."""
        self._process.kill()
        self._process.wait()


def _start(command: str, display: str, said: Any) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "DISPLAY": display}
    return subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=said,
        env=environment,
        start_new_session=True,
    )


def _send(asked: Measurement, pipe: Path, log: Path, program: "subprocess.Popen[bytes]") -> None:
    """Run the sender to its end; a program that ends early ends it too."""
    words = [
        "witness",
        "play",
        asked.base,
        "--out",
        str(pipe),
        "--log",
        str(log),
        "--frames",
        str(asked.slots),
    ]
    words += ["--rate", f"{asked.fps.numerator}/{asked.fps.denominator}"]
    words += [word for fault in asked.faults for word in ("--fault", fault)]
    sender = subprocess.Popen([*_OUR_COMMAND, *words], stderr=subprocess.PIPE)
    deadline = time.monotonic() + _START_TIMEOUT_S * 2 + float(asked.slots / asked.fps) * 1.5
    try:
        while sender.poll() is None:
            if program.poll() is not None or time.monotonic() > deadline:
                _let_end(sender, program, _HANG_UP_S + float(2 / asked.fps))
                break
            time.sleep(0.05)
        _, complaint = sender.communicate(timeout=_START_TIMEOUT_S)
    finally:
        if sender.poll() is None:
            _end(sender)
    if sender.returncode not in (0, -signal.SIGTERM) and program.poll() is None:
        said = complaint.decode(errors="replace").strip()[-300:]
        if NOBODY_READS in said:
            raise WitnessError(
                f"witness: {asked.command}; has not opened its input; expected a program that reads {{input}}"
            )
        raise WitnessError(f"witness: the sender failed ({said})")


def _let_end(
    sender: "subprocess.Popen[bytes]", program: "subprocess.Popen[bytes]", patience_s: float
) -> None:
    """Without a reader of its pipe the sender ends by itself and writes its log; one that waits for one is ended."""
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGTERM)
    try:
        sender.wait(patience_s)
    except subprocess.TimeoutExpired:
        sender.terminate()


def _end_group(program: "subprocess.Popen[bytes]") -> int | None:
    """Let the program end by itself at the end of its input, then ask, then insist; its exit code if it ended."""
    for number, patience_s in ((None, _GRACE_S), (signal.SIGTERM, _GRACE_S), (signal.SIGKILL, _GRACE_S)):
        if number is not None:
            with suppress(ProcessLookupError):
                os.killpg(program.pid, number)
        with suppress(subprocess.TimeoutExpired):
            code = program.wait(patience_s)
            return code if number is None else None
    return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stamps_of(log: Path, slots: Sequence[Slot]) -> dict[int, int]:
    """Our own ``present_ns`` by frame number out of the log of ``jsonl:``; raises ConfigError if it is none.

    Its ``seq`` counts the pictures that came, ``slots`` says which number each of them had. The count begins with the
    first picture that was taken, which need not be the first that was sent: by how many it is behind is found from
    the capture times, as the median of all, so that a picture or two that came late change nothing.
    """
    sent = [slot for slot in slots if slot.number is not None]
    handed_ns = np.maximum.accumulate([slot.code_ns for slot in sent])
    try:
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        own = [entry for entry in entries if not entry["synthetic"] and entry["present_ns"]]
        seqs = np.array([int(entry["seq"]) for entry in own], np.int64)
        places = np.searchsorted(handed_ns, [int(entry["capture_ns"]) for entry in own], "right") - 1
        behind = int(np.median(places - seqs)) if own else 0
        if behind < 0:
            raise ValueError("of another run")
        return {
            int(sent[behind + seq].number or 0): int(entry["present_ns"])
            for seq, entry in zip(seqs, own, strict=True)
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(
            f"witness: {log}; expected the log of a sink jsonl: of this run ({error})"
        ) from error


def measured_json(
    asked: Measurement, measured: Measured, extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What is written down of a measurement."""
    verdict = measured.verdict
    return {
        "schema": 1,
        "command": asked.command,
        "size": list(asked.size_wh),
        "fps": float(asked.fps),
        "sent": verdict.sent,
        "seen": verdict.seen,
        "not_sent": verdict.not_sent,
        "lost": verdict.lost,
        "repeated": verdict.repeated,
        "reordered": verdict.reordered,
        "torn": verdict.torn,
        "delay_ms": verdict.delay_ms,
        "error_ms": verdict.error_ms,
        "interval_ms": verdict.interval_ms,
        "looks": measured.looks,
        "unreadable_looks": measured.unreadable,
        "program_exit_code": measured.exit_code,
        **(extra or {}),
    }
