"""What the supervisor knows of a stage, as the board shows it to the other stages; a leaf they can import."""

from enum import IntEnum

STAGES = ("capture", "preprocess", "infer", "overlay", "record")


class StageState(IntEnum):
    """State of a stage on the board; written by the supervisor only."""

    ABSENT = 0
    STARTING = 1
    RUNNING = 2
    DOWN = 3
    ENDED = 4
    GIVEN_UP = 5
