"""Which mode of a capture device is taken."""

from fractions import Fraction

import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.source import UnreadableFormats
from endostream.pipeline.sources.v4l2_modes import Choice, Mode, Wanted, choose

HD, FULL_HD, PAL = (720, 1280), (1080, 1920), (576, 720)


def rates(*fps: int) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, fps))


USB2 = [
    Mode("MJPG", FULL_HD, rates(30, 60)),
    Mode("MJPG", HD, rates(30, 60)),
    Mode("YUYV", FULL_HD, rates(5)),
    Mode("YUYV", HD, rates(10)),
    Mode("YUYV", PAL, rates(25)),
    Mode("NV12", PAL, rates(25)),
]


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (Wanted(), Choice("MJPG", FULL_HD, Fraction(60))),  # a format that reaches the rate wins
        (Wanted(fps=Fraction(5)), Choice("YUYV", FULL_HD, Fraction(5))),  # of those that do, the cheapest
        (Wanted(fps=Fraction(25)), Choice("MJPG", FULL_HD, Fraction(30))),  # the lowest rate that is enough
        (Wanted(PAL), Choice("NV12", PAL, Fraction(25))),
        (Wanted(PAL, Fraction(50)), Choice("NV12", PAL, Fraction(25))),  # out of reach: the best there is
        (Wanted(HD, pixel_format="YUYV"), Choice("YUYV", HD, Fraction(10))),
        (Wanted(HD, Fraction("59.94")), Choice("MJPG", HD, Fraction(60))),
        (Wanted(HD, Fraction("30.1")), Choice("MJPG", HD, Fraction(30))),  # as good as 30
    ],
)
def test_size_then_rate_then_cost_decide(wanted: Wanted, chosen: Choice) -> None:
    assert choose(USB2, wanted, FULL_HD) == chosen


def test_without_a_wish_the_drivers_size_wins_and_else_the_largest_up_to_full_hd() -> None:
    modes = [Mode("NV12", size, rates(30)) for size in ((2160, 3840), FULL_HD, HD)]
    assert choose(modes, Wanted(), HD).size_hw == HD
    assert choose(modes, Wanted(), (1, 1)).size_hw == FULL_HD
    assert choose(modes[:1], Wanted()).size_hw == (2160, 3840)


def test_beyond_60_fps_is_taken_only_if_asked_for_or_if_there_is_nothing_slower() -> None:
    modes = [Mode("NV12", HD, rates(60, 120))]
    assert choose(modes, Wanted()).fps == 60
    assert choose(modes, Wanted(fps=Fraction(100))).fps == 120
    assert choose([Mode("NV12", HD, rates(120))], Wanted()).fps == 120


def test_a_device_that_names_no_rate_is_taken_at_its_word() -> None:
    assert choose([Mode("UYVY", HD)], Wanted()) == Choice("UYVY", HD, None)
    assert choose([Mode("UYVY", HD)], Wanted(fps=Fraction(50))).fps == 50


def test_what_is_not_offered_is_an_error_that_says_what_is() -> None:
    with pytest.raises(
        ConfigError, match="640x480; expected a size the device offers: 720x576, 1280x720, 1920x1080"
    ):
        choose(USB2, Wanted((480, 640)))
    with pytest.raises(
        ConfigError, match=r"live\.pixel_format: BGR3; expected one the device offers: MJPG, NV12, YUYV"
    ):
        choose(USB2, Wanted(pixel_format="BGR3"))
    with pytest.raises(UnreadableFormats, match=r"pixel formats: H264; expected one of"):
        choose([Mode("H264", HD, rates(30))], Wanted())


def test_a_mode_in_words() -> None:
    assert str(Mode("YUYV", PAL, (Fraction(25), Fraction(30000, 1001)))) == "YUYV 720x576 at 25, 29.97 fps"
    assert str(Mode("UYVY", HD)) == "UYVY 1280x720"
