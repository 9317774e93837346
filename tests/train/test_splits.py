"""The shipped lists, and splits that are drawn."""

from pathlib import Path

import numpy as np
import pytest

from endostream.configs.errors import ConfigError
from endostream.train.splits import (
    choose_split,
    draw_split,
    load_split,
    near_duplicates,
    read_list,
    shipped_splits,
)

SIZES = {
    "official-880-120": (880, 120, 0),
    "pranet-900-100": (800, 100, 100),
    "seed42": (798, 100, 100),
    "shared-900": (800, 100, 0),
}


def test_every_shipped_split_is_known_here() -> None:
    assert shipped_splits() == sorted(SIZES)


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_split_has_its_sizes_and_no_name_twice(name: str) -> None:
    split = load_split(name)
    assert (len(split.train), len(split.val), len(split.test)) == SIZES[name]
    assert len({*split.train, *split.val, *split.test}) == sum(SIZES[name])


@pytest.mark.parametrize("name", sorted(SIZES))
def test_near_duplicates_never_lie_on_two_sides(name: str) -> None:
    split = load_split(name)
    side = {each: part for part in ("train", "val", "test") for each in split.part(part)}
    apart = [
        (one, two)
        for one, two in near_duplicates().items()
        if one in side and side.get(two, side[one]) != side[one]
    ]
    assert apart == []


def test_seed_42_is_the_permutation_that_scikit_learn_makes() -> None:
    official = load_split("official-880-120")
    names = sorted({*official.train, *official.val})
    first = np.random.RandomState(42).permutation(1000)
    assert sorted(names[i] for i in first[:100]) == list(load_split("seed42").test)


def test_the_split_of_the_shared_data_has_nothing_of_pranet_s_test_list() -> None:
    held_out = set(load_split("pranet-900-100").test)
    assert not held_out & {*load_split("shared-900").train, *load_split("shared-900").val}


def test_a_drawn_split_is_the_same_each_time_and_keeps_twins_together() -> None:
    one, two = next(iter(near_duplicates().items()))
    names = [f"n{i:02}" for i in range(38)] + [one, two]
    split = draw_split(names)
    assert split == draw_split(names[::-1])
    assert sorted((*split.train, *split.val, *split.test)) == sorted(names)
    assert any({one, two} <= set(part) for part in (split.train, split.val, split.test))
    assert (len(split.val), len(split.test)) in {(4, 4), (5, 4), (4, 5)}


def test_three_names_are_the_least_to_draw_from() -> None:
    split = draw_split(["a", "b", "c"])
    assert (len(split.train), len(split.val), len(split.test)) == (1, 1, 1)
    with pytest.raises(ConfigError, match="at least 3"):
        draw_split(["a", "b"])


def test_a_recipe_s_split_that_does_not_fit_is_drawn_and_said() -> None:
    names = [f"n{i}" for i in range(20)]
    split, remark = choose_split("shared-900", names, asked_for=False)
    assert split == draw_split(names)
    assert "900 of its 900 pictures are not there" in remark


def test_a_split_that_was_asked_for_is_not_replaced() -> None:
    with pytest.raises(ConfigError, match=r"expected all\. Try"):
        choose_split("shared-900", ["a", "b", "c"], asked_for=True)


def test_an_unknown_split_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="expected one of official-880-120"):
        load_split("nonsense")


def test_a_folder_of_lists_is_a_split(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a.jpg\nb  # a remark\n\n# nothing\n")
    (tmp_path / "val.txt").write_text("c\n")
    split = load_split(str(tmp_path))
    assert (split.train, split.val, split.test) == (("a", "b"), ("c",), ())


@pytest.mark.parametrize(("text", "fault"), [("", "empty"), ("a\nb\na\n", "a comes twice")])
def test_a_bad_list_is_named(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=fault):
        read_list(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_list(tmp_path / "none.txt")
