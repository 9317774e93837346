"""The matrix: every combination once, in order; what is no value is refused by name."""

import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.profile.cell_run import RunPlan, command_words
from endostream.pipeline.profile.matrix import Cell, matrix_of


def test_every_combination_is_a_cell() -> None:
    cells = matrix_of(
        ["a.avi"], segmenter="fcm,resunet-small", size="720x576,1280x1024", pace="live,back-to-back"
    )
    assert [(cell.segmenter, cell.size, cell.pace) for cell in cells] == [
        ("fcm", (720, 576), "live"),
        ("fcm", (720, 576), "back-to-back"),
        ("fcm", (1280, 1024), "live"),
        ("fcm", (1280, 1024), "back-to-back"),
        ("resunet-small", (720, 576), "live"),
        ("resunet-small", (720, 576), "back-to-back"),
        ("resunet-small", (1280, 1024), "live"),
        ("resunet-small", (1280, 1024), "back-to-back"),
    ]


def test_a_dimension_that_was_not_given_is_left_to_the_configuration() -> None:
    assert matrix_of(["a.avi"]) == [Cell("a.avi")]
    assert Cell("a.avi").settings() == ["supervisor.launcher=processes", "replay.speed=realtime"]


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ({"size": "720"}, "size: '720'; expected WIDTHxHEIGHT"),
        ({"rate": "25,0"}, "rate: '0'; expected frames a second, 1 to 240"),
        ({"pace": "fast"}, "pace: 'fast'; expected live or back-to-back"),
        ({"launcher": "fork"}, "launcher: 'fork'; expected processes or threads"),
        (
            {"segmenter": "fcm,,fcm"},
            "segmenter: 'fcm,,fcm'; expected values with commas between them, each once",
        ),
        ({"rate": "25,25"}, "each once"),
    ],
)
def test_what_is_no_value_is_refused(dimensions: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        matrix_of(["a.avi"], **dimensions)


def test_a_recording_is_played_from_memory_in_the_size_and_rate_asked_for() -> None:
    cell = Cell("a.avi", "fcm", None, (1280, 1024), "30", "back-to-back", "threads")
    assert command_words(cell, RunPlan(2.0, 20.0, ("--sink", "null"))) == [
        *("replay", "memory:a.avi", "--duration", "22", "--sink", "null"),
        *("--set", "supervisor.launcher=threads", "--set", "replay.speed=fastest"),
        *("--set", "infer.segmenter=fcm", "--set", "memory.width=1280", "--set", "memory.height=1024"),
        *("--set", "memory.fps=30"),
    ]


def test_a_live_source_is_played_as_it_comes() -> None:
    cell = Cell("/dev/video0", size=(640, 480), fps="30")
    assert command_words(cell, RunPlan(0.0, 5.0)) == [
        *("live", "/dev/video0", "--duration", "5", "--set", "supervisor.launcher=processes"),
        *("--set", "live.width=640", "--set", "live.height=480", "--set", "live.fps=30"),
    ]
    with pytest.raises(ConfigError, match="expected live for a live source"):
        matrix_of(["/dev/video0"], pace="back-to-back")
