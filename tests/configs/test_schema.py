"""What the schema accepts, and what follows from it."""

from fractions import Fraction

import pytest
from pydantic import ValidationError

from endostream.configs.schema import Config, OverlaySettings, PhantomSettings, ReplaySettings
from endostream.configs.setting import sections_of, settings_of


@pytest.mark.parametrize(
    ("speed", "factor"), [("realtime", 1.0), ("fastest", None), ("0.5x", 0.5), ("2x", 2.0), (".25x", 0.25)]
)
def test_a_speed_says_how_many_stream_seconds_pass_a_second(speed: str, factor: float | None) -> None:
    assert ReplaySettings(speed=speed).factor == factor


@pytest.mark.parametrize("speed", ["2", "x", "-1x", "0x", "101x", "1e1x", "infx", "nanx", "Realtime", ""])
def test_anything_else_is_no_speed(speed: str) -> None:
    with pytest.raises(ValidationError):
        ReplaySettings(speed=speed)


@pytest.mark.parametrize(
    ("speed", "mode", "effective"),
    [
        ("realtime", "auto", "live"),
        ("2x", "auto", "live"),
        ("fastest", "auto", "every-frame"),
        ("fastest", "live", "live"),
        ("realtime", "every-frame", "every-frame"),
    ],
)
def test_speed_implies_the_mode_unless_the_mode_is_given(speed: str, mode: str, effective: str) -> None:
    config = Config.model_validate({"replay": {"speed": speed, "mode": mode}})
    assert config.effective_mode() == effective


@pytest.mark.parametrize(
    ("fps", "rate"),
    [("25", Fraction(25)), ("30000/1001", Fraction(30000, 1001)), (29.97, Fraction(2997, 100))],
)
def test_a_frame_rate_is_exact(fps: str | float, rate: Fraction) -> None:
    assert PhantomSettings(fps=fps).rate == rate


@pytest.mark.parametrize("fps", ["", "0", "1/0", "nan", "inf", "241", -25, True, None])
def test_anything_else_is_no_frame_rate(fps: object) -> None:
    with pytest.raises(ValidationError):
        PhantomSettings.model_validate({"fps": fps})


def test_the_colour_is_given_in_red_green_blue_and_used_in_blue_green_red() -> None:
    assert OverlaySettings(colour="#010203").colour_bgr == (3, 2, 1)


def test_a_section_cannot_be_changed_after_it_is_made() -> None:
    with pytest.raises(ValidationError):
        Config().capture.ring_slots = 32


@pytest.mark.parametrize("value", [True, "16", 16.0, None])
def test_no_value_is_taken_for_a_whole_number_that_is_none(value: object) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({"capture": {"ring_slots": value}})


@pytest.mark.parametrize(("ahead", "window", "slots"), [(8, 8, 16), (4, 16, 16), (4, 3, 16)])
def test_the_window_is_larger_than_the_lookahead_and_smaller_than_the_ring(
    ahead: int, window: int, slots: int
) -> None:
    sections = {
        "capture": {"lookahead_frames": ahead, "ring_slots": slots},
        "links": {"window_frames": window},
    }
    with pytest.raises(ValidationError, match=rf"links\.window_frames: {window}; expected more than"):
        Config.model_validate(sections)


def test_the_shortest_backoff_is_not_above_the_longest() -> None:
    with pytest.raises(ValidationError, match=r"supervisor\.restart_backoff_min_s: 9; expected at most"):
        Config.model_validate({"supervisor": {"restart_backoff_min_s": 9, "restart_backoff_max_s": 5}})


def test_each_setting_has_a_sentence_and_each_section_a_docstring() -> None:
    for item in settings_of(Config).values():
        assert item.sentence.endswith("."), item.key
        assert item.expected, item.key
    for section in sections_of(Config).values():
        assert section.__doc__ and section.__doc__.endswith(".")


@pytest.mark.parametrize(
    ("suffix", "unit"),
    [("_ms", "ms"), ("_s", "s"), ("_frames", "frames"), ("_mib", "MiB"), ("_slots", "slots")],
)
def test_the_unit_in_the_name_of_a_setting_is_its_unit(suffix: str, unit: str) -> None:
    units = {item.unit for item in settings_of(Config).values() if item.key.endswith(suffix)}
    assert units == {unit}


def test_the_words_for_what_is_allowed_come_from_type_and_bounds() -> None:
    words = {key: item.expected_with_unit for key, item in settings_of(Config).items()}
    assert words["capture.ring_slots"] == "a whole number from 8 to 128 slots"
    assert words["replay.duration_s"] == "a number above 0 or null, in s"
    assert words["replay.start_s"] == "a number of at least 0 s"
    assert words["replay.mode"] == "one of auto, live, every-frame"
    assert words["overlay.hud"] == "true or false"
    assert words["phantom.fps"] == "a number or fraction from 1 to 240 frames/s, such as 30000/1001"
