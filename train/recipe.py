"""A training recipe: every choice of a run that changes its result, checked, in one YAML file.

Separate from the live configuration (``configs/schema.py``): a recipe is what a card records and a paper
would print. ``configs/train-*.yaml`` hold ours and the Kvasir-SEG paper's; ``--set augment.rotate_deg=30``
changes one setting. Machine matters (workers, threads, backend) are no part of it.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from endostream.configs.errors import ConfigError
from endostream.configs.setting import Section, setting, settings_of
from endostream.configs.yaml_text import parse_value, read_settings


def _share(sentence: str, default: float = 0.0) -> Any:
    return setting(default, sentence, ge=0.0, le=1.0)


class AugmentRecipe(Section):
    """Changes made to each picture, and to its mask along with it."""

    style: Literal["online", "paper", "none"] = setting(
        "online", "Drawn anew each epoch, the paper's fixed 31 copies of each picture, or none."
    )
    flip: float = _share("Share flipped, left to right and, apart from that, top to bottom.", 0.5)
    affine: float = _share("Share moved by one affine map of the next settings.", 0.95)
    rotate_deg: float = setting(180.0, "Largest rotation either way.", "degrees", ge=0.0, le=180.0)
    scale_min: float = setting(0.6, "Smallest scale (logarithmically uniform).", ge=0.1, le=1.0)
    scale_max: float = setting(1.6, "Largest scale.", ge=1.0, le=8.0)
    shift: float = setting(0.15, "Largest shift either way, of the input's size.", ge=0.0, le=1.0)
    shear_deg: float = setting(15.0, "Largest shear either way.", "degrees", ge=0.0, le=45.0)
    stretch: float = setting(0.15, "Largest change of the aspect ratio.", ge=0.0, le=0.9)
    polyp_removed: float = _share("Share whose polyps are covered with mucosa, where that can be done.", 0.25)
    polyp_free: float = _share("Share replaced by a crop without polyp and an empty mask.", 0.1)
    colour: float = _share("Share with changed brightness, contrast, gamma, hue and saturation.", 0.9)
    brightness: float = setting(0.4, "Largest change of the gain.", ge=0.0, le=0.9)
    contrast: float = setting(0.25, "Largest change of the contrast about the mean.", ge=0.0, le=0.9)
    gamma: float = setting(0.25, "Largest change of gamma.", ge=0.0, le=0.9)
    hue_deg: float = setting(8.0, "Largest turn of the hue.", "degrees", ge=0.0, le=90.0)
    saturation: float = setting(0.3, "Largest change of the saturation.", ge=0.0, le=1.0)
    blur: float = _share("Share out of focus.", 0.15)
    motion_blur: float = _share("Share smeared along a line.", 0.2)
    noise: float = _share("Share with sensor noise.", 0.15)
    jpeg: float = _share("Share compressed as JPEG of quality 25 to 90.", 0.25)
    interlace: float = _share("Share combed as two fields of a moving picture.", 0.1)
    speculars: float = _share("Share with added specular highlights.", 0.2)
    cutout: float = _share("Share with one rectangle in the mean colour, off the mask too.", 0.15)
    random_erasing: float = _share("Share with one rectangle of noise, off the mask too.", 0.1)
    cutmix: float = _share("Share with a rectangle of another picture and its mask.", 0.15)
    copy_paste: float = _share("Share with another picture's polyp pasted in.", 0.2)
    calm_share: float = _share("Last share of the epochs without cutmix and copy-paste.", 0.1)


class LossRecipe(Section):
    """What is minimised."""

    name: Literal["dice", "structure"] = setting(
        "structure", "The paper's soft Dice of the batch, or boundary-weighted cross-entropy plus Dice."
    )
    boundary_weight: float = setting(
        5.0, "Extra weight of pixels near a contour (structure).", ge=0.0, le=50.0
    )
    dice_share: float = _share("Share of the Dice term (structure), the rest is cross-entropy.", 0.5)
    auxiliary: float = _share("Weight of the first auxiliary output, halved with each; 0 for none.", 0.5)
    teacher_weight: float = _share("Share of the loss taken against a teacher's probabilities.", 0.0)
    teacher_preset: str = setting("", "Preset of the teacher; its weights are given with --teacher.")


class OptimiserRecipe(Section):
    """How it is minimised."""

    name: Literal["adamw", "nadam"] = setting("adamw", "AdamW, or the paper's Nadam.")
    learning_rate: float = setting(1e-3, "Peak learning rate.", gt=0.0, le=1.0)
    end_learning_rate: float = setting(1e-6, "At the end of the cosine.", gt=0.0, le=1.0)
    schedule: Literal["cosine", "constant"] = setting("cosine", "After the warm-up.")
    warmup_epochs: float = setting(5.0, "Epochs of linear warm-up.", "epochs", ge=0.0, le=1000.0)
    weight_decay: float = setting(0.01, "Decoupled, not on biases and batch norms (adamw).", ge=0.0, le=1.0)
    clip_norm: float = setting(1.0, "Largest norm of the whole gradient; 0 for no clipping.", ge=0.0, le=1e6)
    ema: float = setting(0.998, "Momentum of the averaged weights; 0 for none.", ge=0.0, lt=1.0)


class Recipe(Section):
    """One training run."""

    preset: str = setting("resunet-small", "Network, a name of models/resunet.py.")
    split: str = setting("shared-900", "Split of configs/splits, a folder of lists, or drawn.")
    seed: int = setting(0, "Of weights, order and augmentation.", ge=0, le=2**31 - 1)
    epochs: int = setting(300, "Passes over the training pictures.", "epochs", ge=1, le=100_000)
    repeats: int = setting(1, "Copies of each picture in an epoch.", ge=1, le=1000)
    batch: int = setting(16, "Pictures in a step.", ge=1, le=1024)
    input_px: int = setting(0, "Side of the training input; 0 for the preset's.", "pixels", ge=0, le=2048)
    early_input_px: int = setting(0, "Side in the first epochs; 0 for input_px.", "pixels", ge=0, le=2048)
    early_epochs: int = setting(0, "How many epochs have early_input_px.", "epochs", ge=0, le=100_000)
    validate_every: int = setting(1, "Epochs between validations.", "epochs", ge=1, le=1000)
    precision: Literal["auto", "float32", "mixed_bfloat16"] = setting(
        "auto", "Of the computation; auto is mixed_bfloat16 on a GPU, float32 on a CPU."
    )
    augment: AugmentRecipe = AugmentRecipe()
    loss: LossRecipe = LossRecipe()
    optimiser: OptimiserRecipe = OptimiserRecipe()

    def input_px_at(self, epoch: int, preset_px: int) -> int:
        """Side in pixels of the training input in ``epoch`` (from 0)."""
        late = self.input_px or preset_px
        return (self.early_input_px or late) if epoch < self.early_epochs else late


def recipe_file(name: str) -> Path:
    """The file of a recipe: a path, ``NAME`` for configs/train-NAME.yaml, or a preset's name.

    Raises:
        ConfigError: no such file; those that are shipped are named.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ConfigError(f"recipe: {name}; no such file")
        return Path(name)
    folder = Path(str(files("endostream.configs")))
    path = folder / f"train-{name.removeprefix('resunet-')}.yaml"
    if not path.is_file():
        known = sorted(each.stem.removeprefix("train-") for each in folder.glob("train-*.yaml"))
        raise ConfigError(f"recipe: {name!r}; expected a YAML file or one of {', '.join(known)}")
    return path


def load_recipe(name: str, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and lay ``KEY=VALUE`` settings over it.

    Raises:
        ConfigError: no such recipe, or a setting that cannot be used; one line each.
    """
    path = recipe_file(name)
    given: dict[str, Any] = {".".join(key): value for key, (value, _) in read_settings(path).items()}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set: {override!r}; expected KEY=VALUE. Try: --set epochs=10")
        given[key.strip()] = parse_value(text.strip())
    return recipe_from_values(given, str(path))


def recipe_from_values(given: dict[str, Any], origin: str) -> Recipe:
    """The recipe of values by dotted key; raises ConfigError naming ``origin`` and each bad key."""
    nested: dict[str, Any] = {}
    for key, value in given.items():
        *above, name = key.split(".")
        level = nested
        for part in above:
            level = level.setdefault(part, {})
        level[name] = value
    try:
        return Recipe.model_validate(nested)
    except ValidationError as error:
        lines = (_problem(".".join(map(str, one["loc"])), one["input"]) for one in error.errors())
        raise ConfigError("\n".join(f"{line} ({origin})" for line in lines)) from error


def _problem(key: str, value: Any) -> str:
    settings = settings_of(Recipe)
    if key in settings:
        return f"recipe: {key}: {value!r}; expected {settings[key].expected_with_unit}"
    near = get_close_matches(key, settings, 1)
    return f"recipe: {key}: unknown key" + (f". Try: {near[0]}" if near else "")
