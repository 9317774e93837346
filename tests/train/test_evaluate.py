"""Evaluation of any segmenter, with one that knows the answer standing in."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from endostream.configs.errors import ConfigError, SinkError
from endostream.models.metrics_summary import DEFINITIONS
from endostream.models.segmenter import ImageRgb, Output, Segmentation, SegmenterInfo
from endostream.train.commands import EvaluateRequest, evaluate_command, evaluation_lines, parse_options
from endostream.train.evaluate import evaluate, pairs_to_evaluate
from endostream.train.figures import comparison, worst_sheet, write_picture

MakeData = Callable[..., Path]


class BrightSegmenter:
    """Marks what is brighter than the tissue of the drawn data set: right on every picture."""

    def __init__(self, level: int = 175) -> None:
        self.info = SegmenterInfo("bright", (96, 128), "numpy")
        self._level = level

    def warm_up(self) -> None:
        pass

    def segment(self, image_rgb: ImageRgb, output: Output = "mask") -> Segmentation:
        mask = cv2.blur(image_rgb[..., 0], (3, 3)) > self._level
        return Segmentation(mask, mask.astype(np.float32) if output == "prob" else None)

    def close(self) -> None:
        pass


class BuildingSegmenter(BrightSegmenter):
    """The same, after a build that tells every per cent."""

    def __init__(
        self, input_hw: tuple[int, int] = (96, 128), progress: Callable[[str, int], None] = print
    ) -> None:
        super().__init__()
        for percent in range(101):
            progress("building engine", percent)


def test_a_long_building_is_told_at_each_tenth(make_data: MakeData) -> None:
    said: list[str] = []
    request = EvaluateRequest(f"{__name__}:BuildingSegmenter", make_data(2), options={"input_hw": [96, 128]})
    evaluate_command(request, said.append)
    assert [line for line in said if "building" in line] == [
        f"building engine {percent} %" for percent in range(0, 101, 10)
    ]


def test_a_segmenter_that_is_right_scores_near_one_and_one_that_marks_nothing_zero(
    make_data: MakeData,
) -> None:
    data = make_data(4, (96, 128))
    pairs = pairs_to_evaluate(data, None, lambda line: None)
    right = evaluate(BrightSegmenter(), pairs, data).summary
    assert right["images"] == 4
    assert right["dice_per_image"] > 0.95
    assert right["dice_soft_batch"] > 0.95
    blind = evaluate(BrightSegmenter(255), pairs, data).summary
    assert blind["dice_per_image"] == 0.0
    assert blind["specificity_per_image"] == 1.0


def test_scores_are_taken_at_the_picture_s_own_size(make_data: MakeData) -> None:
    data = make_data(1, (200, 300))
    pairs = pairs_to_evaluate(data, None, lambda line: None)
    (score,) = evaluate(BrightSegmenter(), pairs, data).scores
    assert sum(score.counts) == 200 * 300


def test_a_list_sets_which_pictures_and_in_which_order(make_data: MakeData, tmp_path: Path) -> None:
    data, names = make_data(5), tmp_path / "val.txt"
    names.write_text("p03\np01\n")
    assert [pair.name for pair in pairs_to_evaluate(data, names, lambda line: None)] == ["p03", "p01"]
    names.write_text("p03\nmissing\n")
    with pytest.raises(ConfigError, match=r"1 of 2 pictures are not in .* missing"):
        pairs_to_evaluate(data, names, lambda line: None)


def test_boxes_of_the_data_set_are_matched(make_data: MakeData) -> None:
    data = make_data(2, (96, 128))
    pairs = pairs_to_evaluate(data, None, lambda line: None)
    entry = {
        "height": 96,
        "width": 128,
        "bbox": [{"label": "polyp", "xmin": 0, "ymin": 0, "xmax": 5, "ymax": 5}],
    }
    (data / "kavsir_bboxes.json").write_text(json.dumps({pair.name: entry for pair in pairs}))
    found = evaluate(BrightSegmenter(), pairs, data).summary
    assert (found["box_precision"], found["box_recall"]) == (0.0, 0.0)


def test_the_command_gives_every_metric_with_its_definition(make_data: MakeData, tmp_path: Path) -> None:
    data = make_data(3, (96, 128))
    request = EvaluateRequest("fcm", data, worst=tmp_path / "worst.png", figure=tmp_path / "fig3.png")
    answer = evaluate_command(request, lambda line: None)
    assert set(DEFINITIONS) <= set(answer)
    assert answer["definitions"] == DEFINITIONS
    assert [each["name"] for each in answer["per_image"]] == ["p00", "p01", "p02"]
    assert answer["speed"]["fps"] > 0
    assert cv2.imread(str(tmp_path / "worst.png")) is not None
    json.dumps(answer, allow_nan=False)
    lines = evaluation_lines(answer)
    assert all(any(name in line for line in lines) for name in DEFINITIONS)


def test_an_unknown_segmenter_is_named_before_any_data_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        evaluate_command(EvaluateRequest("nonsense", tmp_path), lambda line: None)


def test_a_runtime_for_a_segmenter_without_a_choice_is_told(make_data: MakeData) -> None:
    request = EvaluateRequest("fcm", make_data(1), runtime="openvino")
    with pytest.raises(
        ConfigError, match=r"segmenter fcm has no runtime to choose, expected none\. Try: without"
    ):
        evaluate_command(request, lambda line: None)


def test_the_figures_have_a_row_a_picture_and_tiles_in_columns(make_data: MakeData) -> None:
    data = make_data(5, (96, 128))
    pairs = pairs_to_evaluate(data, None, lambda line: None)
    segmenter = BrightSegmenter()
    assert comparison(pairs[:2], [segmenter]).shape == (2 * 296, 3 * 320, 3)
    found = evaluate(segmenter, pairs, data)
    assert worst_sheet(segmenter, found.scores, pairs, 5).shape == (2 * 296, 4 * 320, 3)


def test_a_figure_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.png", tmp_path / "a.nonsense"):
        with pytest.raises(SinkError, match="cannot be written"):
            write_picture(picture, path)


def test_options_are_read_as_yaml() -> None:
    assert parse_options(["threads=2", "model=/tmp/a.onnx", "cache=false"]) == {
        "threads": 2,
        "model": "/tmp/a.onnx",
        "cache": False,
    }
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        parse_options(["threads"])
