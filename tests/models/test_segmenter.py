"""The registry of segmenters: names, segmenters of one's own as ``module:Class``, and what is said when none opens."""

import sys
import types

import numpy as np
import pytest

from endostream.configs.errors import ConfigError, EndostreamError, ModelError
from endostream.models.segmenter import (
    ImageRgb,
    Output,
    Segmentation,
    SegmenterInfo,
    check_segmenter_name,
    load_segmenter,
    segmenter_input_hw,
)


class Own:
    """A segmenter of a user's own."""

    def __init__(self, input_hw: tuple[int, int] = (320, 320), colour: str = "red") -> None:
        self.colour = colour
        self.info = SegmenterInfo("own", (input_hw[0], input_hw[1]), "none")

    def warm_up(self) -> None: ...

    def segment(self, image_rgb: ImageRgb, output: Output = "mask") -> Segmentation:
        return Segmentation(np.zeros(image_rgb.shape[:2], np.bool_))

    def close(self) -> None: ...


class Large(Own):
    """Eats 512 × 640 and takes no option."""

    def __init__(self) -> None:
        super().__init__((512, 640))


class Nothing:
    """No segmenter at all."""


@pytest.fixture(autouse=True)
def _own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("clinic.models")
    module.__dict__.update(Own=Own, Large=Large, Nothing=Nothing)
    monkeypatch.setitem(sys.modules, "clinic", types.ModuleType("clinic"))
    monkeypatch.setitem(sys.modules, "clinic.models", module)


def test_a_segmenter_of_ones_own_is_named_by_module_and_class() -> None:
    check_segmenter_name("clinic.models:Own")
    segmenter = load_segmenter("clinic.models:Own", {"input_hw": [64, 96], "colour": "green"})
    assert isinstance(segmenter, Own)
    assert (segmenter.colour, segmenter.info.input_hw) == ("green", (64, 96))
    assert segmenter_input_hw("clinic.models:Own", {"input_hw": [64, 96]}) == (64, 96)


@pytest.mark.parametrize(
    "name", ["unet", "clinic.models", "clinic models:Own", ":Own", "clinic.models:", "a:b:c", ""]
)
def test_a_name_that_is_neither_registered_nor_a_class_is_refused(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"^segmenter: .*; expected one of fcm, .*, or your own module:Class$"
    ):
        check_segmenter_name(name)


@pytest.mark.parametrize(
    ("name", "options", "kind", "says"),
    [
        (
            "no_such_clinic:Own",
            {},
            ModelError,
            "cannot be loaded here (No module named 'no_such_clinic'). Try: PYTHON",
        ),
        (
            "clinic.models:Absent",
            {},
            ModelError,
            "cannot be loaded here (module 'clinic.models' has no attribute",
        ),
        ("clinic.models:Nothing", {}, ModelError, "Nothing; expected info, warm_up, segment, close"),
        ("clinic.models:Own", {"size": 3}, ConfigError, "got an unexpected keyword argument 'size'"),
        (
            "clinic.models:Large",
            {},
            ModelError,
            "is given 320 × 320. Try: --set infer.options.input_hw=[512,640]",
        ),
    ],
)
def test_what_cannot_be_opened_is_said_in_one_line(
    name: str, options: dict[str, object], kind: type[EndostreamError], says: str
) -> None:
    with pytest.raises(kind) as caught:
        load_segmenter(name, options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
