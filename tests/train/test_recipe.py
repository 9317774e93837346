"""Recipes: shipped ones load, mistakes are named."""

from pathlib import Path

import pytest

from endostream.configs.errors import ConfigError
from endostream.train.recipe import Recipe, load_recipe


@pytest.mark.parametrize("name", ["small", "base", "small-cpu", "paper"])
def test_every_shipped_recipe_loads_by_name(name: str) -> None:
    assert load_recipe(name).preset.startswith("resunet-")


def test_the_paper_s_recipe_is_as_its_section_5_has_it() -> None:
    recipe = load_recipe("resunet-paper")
    assert (recipe.split, recipe.epochs, recipe.batch, recipe.input_px_at(0, 320)) == ("seed42", 150, 8, 320)
    assert (recipe.optimiser.name, recipe.optimiser.learning_rate) == ("nadam", 1e-4)
    assert (recipe.optimiser.schedule, recipe.optimiser.ema) == ("constant", 0.0)
    assert (recipe.loss.name, recipe.loss.auxiliary) == ("dice", 0.0)
    assert (recipe.augment.style, recipe.repeats) == ("paper", 31)


def test_settings_go_over_the_file() -> None:
    recipe = load_recipe("small", ["epochs=7", "augment.rotate_deg=30", "optimiser.name=nadam"])
    assert (recipe.epochs, recipe.augment.rotate_deg, recipe.optimiser.name) == (7, 30.0, "nadam")


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        ("epoch=3", "epoch: unknown key. Try: epochs"),
        ("epochs=0", "epochs: 0; expected a whole number from 1"),
        ("augment.style=wild", "augment.style: 'wild'; expected one of online, paper, none"),
        ("augment.flip=1.5", "augment.flip: 1.5; expected a number from 0.0 to 1.0"),
        ("nonsense", "expected KEY=VALUE"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_expected(setting: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault.replace(".", r"\.")):
        load_recipe("small", [setting])


def test_an_unknown_recipe_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a YAML file or one of base, paper, small, small-cpu"):
        load_recipe("big")
    with pytest.raises(ConfigError, match="no such file"):
        load_recipe(str(tmp_path / "mine.yaml"))


def test_early_epochs_have_their_own_size() -> None:
    recipe = Recipe(epochs=10, early_input_px=160, early_epochs=4, input_px=256)
    assert [recipe.input_px_at(epoch, 320) for epoch in (0, 3, 4, 9)] == [160, 160, 256, 256]
    assert Recipe().input_px_at(0, 320) == 320
