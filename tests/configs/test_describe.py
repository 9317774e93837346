"""What is written for people can be read back, and says what the schema says."""

import json
from pathlib import Path

import yaml

from endostream import configs
from endostream.configs.describe import config_json, config_yaml, schema_json, schema_text, template_yaml
from endostream.configs.load import load_config
from endostream.configs.schema import Config
from endostream.configs.setting import settings_of

PACKAGED = Path(configs.__file__).parent


def test_the_packaged_default_is_the_schema_s() -> None:
    assert load_config(PACKAGED / "default.yaml").config == Config()


def test_the_packaged_default_is_up_to_date() -> None:
    text = (PACKAGED / "default.yaml").read_text(encoding="utf-8")
    assert text == template_yaml(), "Try: endostream config --template > configs/default.yaml"


def test_the_short_packaged_files_can_be_used_and_differ_from_the_default() -> None:
    for name in ("rehearsal", "archive"):
        assert load_config(Path(name)).config != Config()


def test_the_merged_configuration_reads_back_as_itself(tmp_path: Path) -> None:
    overrides = [
        "infer.options.a.b=x",
        "infer.options.odd-key=[1, two]",
        "overlay.colour=#00ff00",
        "replay.speed=.5x",
    ]
    loaded = load_config(None, overrides)
    file = tmp_path / "merged.yaml"
    file.write_text(config_yaml(loaded), encoding="utf-8")
    assert load_config(file).config == loaded.config


def test_yaml_1_1_reads_the_merged_configuration_alike() -> None:
    loaded = load_config()
    assert yaml.safe_load(config_yaml(loaded)) == loaded.config.model_dump()


def test_each_value_stands_beside_its_origin() -> None:
    lines = config_yaml(load_config(None, ["infer.options.n_clusters=3"])).splitlines()
    assert [line.split() for line in lines if "n_clusters" in line] == [["n_clusters:", "3", "#", "--set"]]
    assert [line.split() for line in lines if "ring_slots" in line] == [["ring_slots:", "16", "#", "default"]]


def test_the_json_holds_values_and_origins() -> None:
    loaded = load_config(None, ["capture.nice=1"])
    found = json.loads(config_json(loaded))
    assert found["config"]["capture"]["nice"] == 1
    assert found["origins"]["capture.nice"] == "--set"


def test_the_schema_lists_every_setting_with_sentence_default_and_range() -> None:
    assert schema_text().count("\n") == 2 * len(settings_of(Config))
    assert (
        "capture.ring_slots = 16\n    Pictures that the ring holds. [a whole number from 8 to 128 slots]\n"
        in schema_text()
    )
    rows = {row["key"]: row for row in json.loads(schema_json())}
    assert list(rows) == list(settings_of(Config))
    assert rows["overlay.hold_ms"]["unit"] == "ms"
    assert rows["overlay.hold_ms"]["default"] == 200.0
    assert rows["replay.mode"]["choices"] == ["auto", "live", "every-frame"]
