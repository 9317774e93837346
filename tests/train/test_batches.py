"""Order and content of batches depend on seed, epoch and place, and on nothing else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from endostream.train.batches import Batches, BatchPlan, boundary_weight
from endostream.train.kvasir import find_pairs, read_mask
from endostream.train.recipe import AugmentRecipe, Recipe
from endostream.train.store import store_from_pairs

MakeData = Callable[..., Path]


@pytest.fixture
def plan(make_data: MakeData, tmp_path: Path) -> BatchPlan:
    store = store_from_pairs(find_pairs(make_data(10)), tmp_path / "pictures.u8", 40)
    return BatchPlan(Recipe(batch=4, epochs=5, seed=3, input_px=32), store, 32)


def test_the_store_gives_back_pictures_and_masks_shrunk_to_its_limit(
    make_data: MakeData, tmp_path: Path
) -> None:
    pairs = find_pairs(make_data(3))
    whole = store_from_pairs(pairs, tmp_path / "a.u8", 100)
    assert whole.sizes_hw == ((48, 64),) * 3
    assert np.array_equal(whole[2].mask > 0, read_mask(pairs[2].mask))
    small = store_from_pairs(pairs, tmp_path / "b.u8", 32)
    assert small.sizes_hw == ((24, 32),) * 3
    assert small[1].image_rgb.shape == (24, 32, 3)
    assert set(np.unique(small[1].mask)) == {0, 255}


def test_an_epoch_has_whole_batches_only(plan: BatchPlan) -> None:
    with Batches(plan, 0) as batches:
        made = list(batches.epoch(0))
    assert len(made) == plan.steps == 2
    assert [(inputs.shape, targets.shape) for inputs, targets in made] == [
        ((4, 32, 32, 3), (4, 32, 32, 2))
    ] * 2
    assert made[0][0].dtype == made[0][1].dtype == np.uint8


def test_a_batch_can_be_made_alone_and_is_the_same(plan: BatchPlan) -> None:
    with Batches(plan, 0) as batches:
        in_order = list(batches.epoch(1))
    alone = plan.make(1, 1)
    assert np.array_equal(in_order[1][0], alone[0])
    assert np.array_equal(in_order[1][1], alone[1])


def test_epochs_and_seeds_differ(plan: BatchPlan) -> None:
    other = BatchPlan(plan.recipe.model_copy(update={"seed": 4}), plan.store, 32)
    assert not np.array_equal(plan.make(0, 0)[0], plan.make(1, 0)[0])
    assert not np.array_equal(plan.make(0, 0)[0], other.make(0, 0)[0])


def test_workers_make_the_same_batches_in_the_same_order(plan: BatchPlan) -> None:
    with Batches(plan, 2) as batches:
        made = list(batches.epoch(2))
    for step, (inputs, targets) in enumerate(made):
        assert np.array_equal(inputs, plan.make(2, step)[0])
        assert np.array_equal(targets, plan.make(2, step)[1])


def test_without_augmentation_an_epoch_shows_every_picture_once(plan: BatchPlan) -> None:
    recipe = plan.recipe.model_copy(update={"augment": AugmentRecipe(style="none"), "batch": 5})
    quiet = BatchPlan(recipe, plan.store, 32)
    shown = np.concatenate([quiet.make(0, step)[0] for step in range(2)])
    assert len({image.tobytes() for image in shown}) == 10


def test_the_paper_s_copies_are_the_same_in_each_epoch(plan: BatchPlan) -> None:
    changes = {"augment": AugmentRecipe(style="paper"), "repeats": 31, "batch": 10}
    paper = BatchPlan(plan.recipe.model_copy(update=changes), plan.store, 32)
    epochs = [
        {image.tobytes() for step in range(31) for image in paper.make(epoch, step)[0]} for epoch in (0, 1)
    ]
    assert paper.steps == 31
    assert epochs[0] == epochs[1]


def test_weights_are_largest_at_the_contour_and_least_far_from_it() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    weight = boundary_weight(mask, 5.0)
    assert weight[32, 0] == weight[32, 63] == round(255 / 6)
    assert weight[32, 31] == weight[32].max() > 100
    assert boundary_weight(mask, 0.0).min() == 255
