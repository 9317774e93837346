"""Finding pairs, and naming each fault in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from endostream.configs.errors import SourceMissing
from endostream.models.metrics import BoxCorners
from endostream.train.kvasir import check_pairs, find_pairs, read_boxes, read_image, read_mask, require_sound

MakeData = Callable[..., Path]


def test_pairs_come_sorted_by_name(make_data: MakeData) -> None:
    pairs = find_pairs(make_data(3))
    assert [pair.name for pair in pairs] == ["p00", "p01", "p02"]
    assert check_pairs(pairs) == []


def test_pictures_are_rgb_and_masks_are_cut_at_127(make_data: MakeData) -> None:
    root = make_data(1)
    cv2.imwrite(str(root / "images" / "p00.png"), np.full((4, 4, 3), (10, 20, 200), np.uint8))
    cv2.imwrite(str(root / "masks" / "p00.png"), np.array([[0, 8, 127, 128], [247, 255, 0, 0]], np.uint8))
    assert read_image(root / "images" / "p00.png")[0, 0].tolist() == [200, 20, 10]
    assert read_mask(root / "masks" / "p00.png").tolist() == [
        [False, False, False, True],
        [True, True, False, False],
    ]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "no_end"])
def test_a_damaged_picture_is_named_in_one_line(make_data: MakeData, damage: str) -> None:
    root = make_data(3, (120, 160))
    path = root / "images" / "p01.jpg"
    data = path.read_bytes()
    path.write_bytes(
        {"cut": data[: len(data) // 2], "empty": b"", "text": b"no picture", "no_end": data[:-200]}[damage]
    )
    (fault,) = check_pairs(find_pairs(root))
    assert "p01.jpg" in fault
    assert "\n" not in fault
    assert "expected" in fault


def test_a_picture_that_cannot_be_read_is_named(make_data: MakeData) -> None:
    root = make_data(3)
    (root / "images" / "p00.jpg").unlink()
    (root / "images" / "p00.jpg").mkdir()
    (root / "images" / "p02.jpg").unlink()
    (root / "images" / "p02.jpg").symlink_to(root / "gone.jpg")
    folder, link = check_pairs(find_pairs(root))
    assert (
        folder
        == f"picture {root / 'images' / 'p00.jpg'}: cannot be read (Is a directory); expected a JPEG or PNG"
    )
    assert link.startswith(
        f"picture {root / 'images' / 'p02.jpg'}: cannot be read (No such file or directory)"
    )


def test_a_missing_mask_is_named(make_data: MakeData) -> None:
    root = make_data(3)
    (root / "masks" / "p02.jpg").unlink()
    (fault,) = check_pairs(find_pairs(root))
    assert fault == f"mask of p02: missing; expected {root / 'masks' / 'p02.jpg'}"


def test_a_mask_of_another_size_is_named_with_both_sizes(make_data: MakeData) -> None:
    root = make_data(2, (48, 64))
    cv2.imwrite(str(root / "masks" / "p00.jpg"), np.zeros((40, 60), np.uint8))
    (fault,) = check_pairs(find_pairs(root))
    assert fault == f"mask {root / 'masks' / 'p00.jpg'}: 60 x 40; expected 64 x 48 as its picture"


def test_every_fault_is_said_before_it_ends(make_data: MakeData) -> None:
    root = make_data(4)
    (root / "masks" / "p00.jpg").unlink()
    (root / "images" / "p03.jpg").write_bytes(b"")
    said: list[str] = []
    with pytest.raises(SourceMissing, match="2 faults in 4 pairs"):
        require_sound(find_pairs(root), said.append)
    assert len(said) == 2


def test_an_empty_folder_and_a_missing_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="no such folder"):
        find_pairs(tmp_path / "nowhere")
    with pytest.raises(SourceMissing, match="expected folders images and masks"):
        find_pairs(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(SourceMissing, match="empty folder"):
        find_pairs(tmp_path)


def test_the_folder_one_below_is_pointed_at(make_data: MakeData) -> None:
    root = make_data(1)
    with pytest.raises(SourceMissing, match=f"Try: {root}"):
        find_pairs(root.parent)


def test_boxes_are_read_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert read_boxes(tmp_path) == {}
    box = {"label": "polyp", "xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}
    file = tmp_path / "kavsir_bboxes.json"
    file.write_text(json.dumps({"a": {"height": 50, "width": 60, "bbox": [box]}}))
    assert read_boxes(tmp_path) == {"a": [BoxCorners(1, 2, 30, 40)]}
    file.write_text("{")
    with pytest.raises(SourceMissing, match="cannot be read"):
        read_boxes(tmp_path)


@pytest.mark.data
def test_the_real_pairs_are_all_sound(data_dir: Path) -> None:
    pairs = find_pairs(data_dir / "kvasir-seg")
    assert len(pairs) == 900
    assert check_pairs(pairs[::30]) == []
    assert set(read_boxes(data_dir / "kvasir-seg")) == {pair.name for pair in pairs}
