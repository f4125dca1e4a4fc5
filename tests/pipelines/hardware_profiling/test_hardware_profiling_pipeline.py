from __future__ import annotations

import json
from functools import partial

import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.runner import SequentialRunner
from tests.contracts import validate_hardware_profiles

from thesis_rec.base.errors import ConfigurationError, NothingSucceeded, Unreached
from thesis_rec.catalog import AtomicParquetDataset, KeyedPartitionDataset
from thesis_rec.pipelines.hardware_profiling.nodes import (
    HardwareProfilingParameters,
    check_hardware_profiles,
    join_hardware_profiles,
    profile_models,
)
from thesis_rec.pipelines.hardware_profiling.pipeline import create_pipeline


def save_tiny_model(folder, width: int = 8, seed: int = 0):
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    # A real timm network, small enough to be made in milliseconds.
    arguments = {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, width], "stem_width": 4}
    network = timm.create_model("resnet18", num_classes=3, **arguments)
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    config = {
        "architecture": "resnet18",
        "num_classes": 3,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [3, 32, 32],
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "num_classes": 3,
            "classifier": "fc",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def manifest(tmp_path):
    save_tiny_model(tmp_path / "models" / "tiny")
    return pd.DataFrame(
        {
            "model_id": ["tiny", "absent", "weights_only", ""],
            "loader": ["timm", "timm", "local", "timm"],
            "source": ["models/tiny", "models/absent", "x.pth", "y"],
        }
    )


def parameters(tmp_path, **changes) -> HardwareProfilingParameters:
    arguments = {
        "models_root": str(tmp_path), "hub_cache": str(tmp_path / "hub"), "device": "cpu", "batch_sizes": (1, 2),
        "max_seconds": 0.01, "max_repeats": 3, "min_repeats": 2, "warmup": 1,
    }  # fmt: skip
    return HardwareProfilingParameters(**{**arguments, **changes})


def run(tmp_path, manifest):
    folder = str(tmp_path / "outcomes")
    catalog = DataCatalog(
        {
            "hardware_outcomes": KeyedPartitionDataset(path=folder, format="json", depth=2),
            "existing_hardware_outcomes": KeyedPartitionDataset(path=folder, format="json", depth=2),
            "hardware_profiles": AtomicParquetDataset(filepath=tmp_path / "profiles.parquet"),
            "hardware_failures": AtomicParquetDataset(filepath=tmp_path / "failures.parquet"),
        }
    )
    catalog["model_manifest"] = manifest
    catalog["params:hardware_profiling"] = parameters(tmp_path)
    SequentialRunner().run(create_pipeline(), catalog)
    return catalog


def test_without_a_usable_model_the_tables_are_empty(tmp_path, manifest):
    catalog = run(tmp_path, manifest[manifest["loader"] == "local"])
    assert catalog.load("hardware_profiles").empty
    assert catalog.load("hardware_failures").empty


def test_the_pipeline_profiles_what_it_can_and_reports_the_rest(tmp_path, manifest):
    catalog = run(tmp_path, manifest)
    table = catalog.load("hardware_profiles")
    validate_hardware_profiles(table)
    assert table[["model_id", "batch_size"]].to_numpy().tolist() == [["tiny", 1], ["tiny", 2]]
    failures = catalog.load("hardware_failures")
    assert "absent" in set(failures["model_id"])
    assert "weights_only" not in set(failures["model_id"])
    assert len(failures) == 2
    assert sorted(path.parent.name for path in (tmp_path / "outcomes").rglob("*.json")) == ["absent", "tiny"]


def test_nothing_profiled_is_an_error_and_strict_stops_at_the_first_failure(tmp_path, manifest):
    chosen = parameters(tmp_path, shard={"index": 0, "count": 2})
    broken = {"rows": [], "error": "broken", "hint": ""}
    outcomes = {f"{model}/cpu": lambda: broken for model in ("tiny", "absent")}
    table, failures = join_hardware_profiles(manifest, outcomes, chosen)
    with pytest.raises(NothingSucceeded, match="none succeeded"):
        check_hardware_profiles(table, failures, chosen)
    some = pd.DataFrame({"model_id": ["tiny"]})
    check_hardware_profiles(some, failures, chosen)
    with pytest.raises(NothingSucceeded):
        check_hardware_profiles(some, failures, parameters(tmp_path, strict=True))


def test_with_every_model_failing_the_run_reports_the_models_errors(tmp_path, manifest):
    folder = str(tmp_path / "outcomes")
    catalog = DataCatalog(
        {
            "hardware_outcomes": KeyedPartitionDataset(path=folder, format="json", depth=2),
            "existing_hardware_outcomes": KeyedPartitionDataset(path=folder, format="json", depth=2),
            "hardware_profiles": AtomicParquetDataset(filepath=tmp_path / "profiles.parquet"),
            "hardware_failures": AtomicParquetDataset(filepath=tmp_path / "failures.parquet"),
        }
    )
    catalog["model_manifest"] = manifest[manifest["model_id"] == "absent"]
    catalog["params:hardware_profiling"] = parameters(tmp_path)
    with pytest.raises(NothingSucceeded, match=r"1 of 1 models failed; none succeeded:\n  absent: The source .* exist"):
        SequentialRunner().run(create_pipeline(), catalog)
    # The tables were saved before, so their checks mustn't be what the user sees.
    validate_hardware_profiles(catalog.load("hardware_profiles"))


def test_a_missing_shard_is_found_at_the_join(tmp_path, manifest):
    chosen = parameters(tmp_path, shard={"index": 0, "count": 2})
    outcomes = {name: dict(made) for one in profile_models(manifest, {}, chosen) for name, made in one.items()}
    assert [name.partition("/")[0] for name in outcomes] == ["tiny"]
    kept = {name: partial(dict, made) for name, made in outcomes.items()}
    table, failures = join_hardware_profiles(manifest, kept, parameters(tmp_path))
    with pytest.raises(Unreached, match="no job has come to 1 models: absent"):
        check_hardware_profiles(table, failures, parameters(tmp_path))
    # What an earlier array measured in another way doesn't stand for a task of this one.
    other = parameters(tmp_path, batch_sizes=(1, 64))
    table, failures = join_hardware_profiles(manifest, kept, other)
    with pytest.raises(Unreached, match="no job has come to 2 models: tiny, absent"):
        check_hardware_profiles(table, failures, other)


def test_named_models_alone_are_measured_and_earlier_profiles_stay(tmp_path, manifest):
    save_tiny_model(tmp_path / "models" / "other")
    manifest = pd.concat([manifest, pd.DataFrame([{"model_id": "other", "loader": "timm", "source": "models/other"}])])
    chosen = HardwareProfilingParameters.model_validate(parameters(tmp_path).model_dump() | {"models": "other, tiny"})
    assert chosen.models == ("other", "tiny")
    one = chosen.model_copy(update={"models": ("other",)})
    measured = dict(item for chunk in profile_models(manifest, {}, one) for item in chunk.items())
    assert {key.rpartition("/")[0] for key in measured} == {"other"}
    earlier = {"tiny/cpu_x": {"rows": [{"model_id": "tiny"}], "error": "", "hint": ""}}
    outcomes = {key: (lambda value=value: value) for key, value in (measured | earlier).items()}
    table, failures = join_hardware_profiles(manifest, outcomes, one)
    assert set(table["model_id"]) == {"other", "tiny"}
    check_hardware_profiles(table, failures, one)
    with pytest.raises(ConfigurationError, match=r"weights_only is no model .* has a network .those of"):
        list(profile_models(manifest, {}, chosen.model_copy(update={"models": ("weights_only",)})))
