"""The network files that ship: they are what their card says, and they find polyps."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from endostream.models.metrics import count
from endostream.models.onnxruntime_segmenter import OnnxruntimeSegmenter
from endostream.models.openvino_segmenter import OpenvinoSegmenter
from endostream.models.segmenter import Segmenter, load_segmenter
from endostream.models.self_test import reference_picture
from endostream.models.transform import Transform
from endostream.models.weights_files import model_file, read_card, sha256_of

from .segmenter_contract import SegmenterContract

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = sorted(path.parent.name for path in (ROOT / "models" / "weights").glob("*/card.json"))


class TestResunetSmall(SegmenterContract):
    """The default segmenter keeps the contract."""

    def open_segmenter(self) -> Segmenter:
        return load_segmenter("resunet-small")


def test_resunet_small_ships() -> None:
    assert "resunet-small" in SHIPPED


@pytest.mark.parametrize("preset", SHIPPED)
def test_every_file_has_the_sum_on_its_card(preset: str) -> None:
    folder = ROOT / "models" / "weights" / preset
    for name, digest in read_card(folder)["sha256"].items():
        assert sha256_of(folder / name) == digest


@pytest.mark.parametrize("preset", SHIPPED)
def test_int8_costs_at_most_half_a_point_of_dice(preset: str) -> None:
    measured = read_card(ROOT / "models" / "weights" / preset)["metrics_on_validation_pictures"]
    for kind in ("int8", "int8_signed"):
        assert measured["fp32"]["dice_per_image"] - measured[kind]["dice_per_image"] <= 0.005


def test_float32_and_int8_agree_on_a_rendered_polyp() -> None:
    path, _ = model_file("resunet-small", "fp32", "")
    assert path.suffix == ".onnx"
    image_rgb = np.full((320, 320, 3), (150, 90, 80), np.uint8)
    cv2.circle(image_rgb, (160, 160), 60, (205, 120, 110), -1)
    masks = []
    for precision in ("fp32", "int8"):
        segmenter = OpenvinoSegmenter("resunet-small", precision=precision, cache=False)
        masks.append(segmenter.segment(image_rgb).mask)
        segmenter.close()
    assert (masks[0] != masks[1]).mean() < 0.02


def test_the_int8_file_for_tensorrt_agrees_with_float32_on_a_rendered_polyp() -> None:
    image_rgb = reference_picture((320, 320))
    masks = []
    for kind in ("fp32", "int8_signed"):
        segmenter = OnnxruntimeSegmenter("resunet-small", precision=kind)
        masks.append(segmenter.logits(image_rgb) > 0)
        segmenter.close()
    assert masks[0].sum() > 5000
    assert count(masks[1], masks[0]).dice > 0.995


@pytest.mark.data
def test_it_finds_the_polyps_of_pictures_it_was_not_trained_on(data_dir: Path) -> None:
    lines = (ROOT / "configs" / "splits" / "shared-900" / "val.txt").read_text().splitlines()
    segmenter = load_segmenter("resunet-small")
    dice = []
    for name in [line for line in lines if line and not line.startswith("#")][:20]:
        image = cv2.imread(str(data_dir / "kvasir-seg" / "images" / f"{name}.jpg"))
        truth = cv2.imread(str(data_dir / "kvasir-seg" / "masks" / f"{name}.jpg"), cv2.IMREAD_GRAYSCALE) > 127
        transform = Transform.of_picture(truth.shape, segmenter.info.input_hw)
        mask = segmenter.segment(cv2.cvtColor(transform.forward(image), cv2.COLOR_BGR2RGB)).mask
        found = transform.inverse_mask(mask)
        dice.append(2 * (found & truth).sum() / (found.sum() + truth.sum()))
    segmenter.close()
    assert np.mean(dice) > 0.75
