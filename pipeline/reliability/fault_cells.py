"""The fault matrix: which fault is done to which stage, by what means, and what must hold. No run is made here.

Signals and limits come from the system, from outside; what only a stage itself can do (raise, be slow, leak, answer
with garbage) it does on command (``chaos.py``). A fault that makes no sense for a stage says why.
"""

import signal
from dataclasses import dataclass, field

PROCESS = {
    "preprocess": "preprocess",
    "infer": "infer",
    "overlay": "overlay",
    "source": "capture",
    "recorder": "record",
}
"""The rows of the matrix, and which process each is."""
FAULTS = ("kill", "stop", "exception", "memory", "slow", "garbage", "disk-full")
LASTS_S = 1.0
"""How long a stage keeps a fault up, unless it is started afresh before."""
_LEAKS_S = {"preprocess": 20.0, "infer": 20.0, "source": 20.0, "overlay": 2.0, "recorder": 2.0}
"""Until they die, which a second is enough for unless the machine is crowded; overlay and recorder live on."""
LIMIT_MIB = 512
MEMORY_LIMIT = (f"supervisor.memory_limit_mib={LIMIT_MIB}",)
"""Of the cells that leak beyond our own limit."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault done to one stage.

    Attributes:
        stage: row of the matrix, a key of PROCESS.
        fault: column, one of FAULTS.
        variant: which of several, "" if there is one.
        words: what is done.
        signal_number: sent to the process.
        order: kind of chaos it is told to make, for ``lasts_s`` or until it is started afresh.
        address_space: whether RLIMIT_AS is set to little more than it has.
        file_size: whether RLIMIT_FSIZE is set to what its files have.
        settings: more settings of the run.
        exit_code: of the run; a sink that failed makes it 1.
    """

    stage: str
    fault: str
    words: str
    variant: str = ""
    signal_number: int = 0
    order: str = ""
    lasts_s: float = 0.0
    address_space: bool = False
    file_size: bool = False
    settings: tuple[str, ...] = field(default=())
    exit_code: int = 0

    @property
    def process(self) -> str:
        """Name of the stage as the pipeline calls it."""
        return PROCESS[self.stage]

    @property
    def name(self) -> str:
        """``infer kill`` or ``infer garbage:all-ones``."""
        return f"{self.stage} {self.fault}{':' if self.variant else ''}{self.variant}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold for every fault of a stage; None where nothing is promised.

    ``freeze_ms`` or ``freeze_periods``: longest time between two pictures; ``lost_frames``: captured and never
    presented; ``again_s``: until the first fresh mask of a frame captured after the fault.
    """

    freeze_periods: float | None = None
    freeze_ms: float | None = None
    lost_frames: int | None = None
    again_s: float | None = None


LIMITS = {
    "preprocess": Limits(freeze_periods=2, lost_frames=0, again_s=3),
    "infer": Limits(freeze_periods=2, lost_frames=0, again_s=3),
    "overlay": Limits(freeze_ms=1000),
    "source": Limits(),
    "recorder": Limits(freeze_periods=2, lost_frames=0),
}
GARBAGE = {
    "preprocess": {
        "random-bytes": "tensors of random bytes",
        "bad-header": "headers of random bytes",
    },
    "infer": {
        "wrong-shape": "masks of another shape",
        "not-a-number": "probabilities that are NaN",
        "all-ones": "masks of all ones",
        "random-bytes": "masks of random bytes",
        "bad-header": "headers of random bytes",
    },
    "overlay": {"scribble": "drawing breaks off half done"},
    "source": {
        "noise": "pictures of noise",
        "silence": "no pictures",
        "wrong-size": "pictures of half the size",
    },
}
NOT_APPLICABLE = {
    ("preprocess", "disk-full"): "writes no file",
    ("infer", "disk-full"): "writes no file while it runs",
    ("overlay", "disk-full"): "writes no file",
    ("source", "disk-full"): "writes no file",
    ("recorder", "garbage"): "nobody takes anything from it",
}
_RAISES = {
    "preprocess": "raises on every frame",
    "infer": "raises on every frame",
    "overlay": "raises outside of drawing",
    "source": "the source raises while decoding",
    "recorder": "the sink raises",
}


def all_cells() -> list[Cell]:
    """The matrix, row by row."""
    return [cell for stage in PROCESS for cell in _row(stage)]


def _row(stage: str) -> list[Cell]:
    sink_fails = 1 if stage == "recorder" else 0
    cells = [
        Cell(stage, "kill", "SIGKILL", signal_number=signal.SIGKILL),
        Cell(stage, "stop", "SIGSTOP", signal_number=signal.SIGSTOP),
        Cell(stage, "exception", _RAISES[stage], order="exception", lasts_s=LASTS_S, exit_code=sink_fails),
        Cell(
            stage,
            "memory",
            "leaks until the system gives no more (RLIMIT_AS)",
            order="leak",
            lasts_s=_LEAKS_S[stage],
            address_space=True,
            exit_code=sink_fails,
        ),
    ]
    if stage in ("preprocess", "infer"):
        words = f"leaks beyond supervisor.memory_limit_mib ({LIMIT_MIB})"
        cells.append(
            Cell(
                stage,
                "memory",
                words,
                "own-limit",
                order="leak",
                lasts_s=_LEAKS_S[stage],
                settings=MEMORY_LIMIT,
            )
        )
    cells.append(Cell(stage, "slow", "ten times slower", order="slow", lasts_s=LASTS_S))
    for kind, words in GARBAGE.get(stage, {}).items():
        cells.append(Cell(stage, "garbage", words, kind, order=kind, lasts_s=LASTS_S))
    if stage == "recorder":
        words = "no file may grow (RLIMIT_FSIZE: EFBIG)"
        cells.append(Cell(stage, "disk-full", words, file_size=True, exit_code=1))
    return cells
