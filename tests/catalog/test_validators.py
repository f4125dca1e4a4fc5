"""Validators: each takes what its contract describes and refuses each way of breaking it."""

import numpy as np
import pandas as pd
import pytest

from tests import contracts as c
from thesis_rec.catalog import validators as v


def records(**changes):
    row = {
        "model_id": "m", "dataset_id": "d", "protocol": "linear_probe", "metric": "accuracy", "value": 0.5, "seed": 0,
        "n_train": 160, "source": "starter",
    }  # fmt: skip
    return pd.DataFrame([{**row, **changes}])


def splits(**changes):
    row = {"kind": "model", "id": "m", "id2": "", "known": True, "role": "train", "fold": 0, "seed": 0}
    return pd.DataFrame([{**row, **changes}])


def rankings(**changes):
    row = {
        "dataset_id": "d", "model_id": "m", "quadrant": "Q1", "score": 1.0, "rank": 1, "predicted_value": 0.5,
        "predicted_std": np.nan, "method": "random", "seed": 0,
    }  # fmt: skip
    return pd.DataFrame([{**row, **changes}])


def profile(**changes):
    row = dict.fromkeys(c.columns("hardware_profiles"), 1.0)
    row |= {"model_id": "m", "device": "cpu", "precision": "fp32", "source": "x"}
    return pd.DataFrame([{**row, **changes}])


def shard(**changes):
    features = np.zeros((2, 3, 4), np.float16)
    features[..., 0] = 1
    payload = {
        "features": features, "class_ids": np.arange(3), "class_names": np.array(["a", "b", "c"]),
        "n_images": np.array(9), "encoder_id": np.array("clip"),
    }  # fmt: skip
    return {**payload, **changes}


def spectra(**changes):
    numbers = np.array([[0.5, np.nan, 1.0], [0.1, 0.2, 0.3]], np.float32)
    return {"spectra": numbers, "model_ids": np.array(["m", "n"]), "names": np.array(["a", "b", "c"]), **changes}


def embeddings(**changes):
    frame = pd.DataFrame({"model_id": ["a", "b"], "e000": np.float32([1, 2])})
    return frame.assign(**changes)


VECTOR = np.ones(8192, np.float32)
METRICS = {
    "quadrants": {"Q1": {"random": {"tau": {"mean": 0.1, "low": 0.0, "high": 0.2, "n": 3}}}},
    "paired": {}, "noise_ceiling": {}, "cost_seconds": {},
}  # fmt: skip

GOOD = [
    (c.validate_model_manifest, pd.DataFrame([dict.fromkeys(c.columns("model_manifest"), "x")])),
    (c.validate_dataset_manifest, pd.DataFrame([dict.fromkeys(c.columns("dataset_manifest"), "")])),
    (c.validate_performance_records, records()),
    (c.validate_performance_records, records(protocol="imported:transfergraph", n_train=np.nan)),
    (c.validate_performance_records, records(seed=-1)),
    (v.validate_model_vector, {"parameters": VECTOR}),
    (v.validate_model_spectra, spectra()),
    (v.validate_token_shard, shard()),
    (v.validate_model_embeddings, embeddings()),
    (c.validate_performance, records().assign(std=0.1)),
    (c.validate_transferability_scores, records(value=np.nan).assign(method="LEEP", seconds=0.1)),
    (c.validate_splits, splits()),
    (c.validate_splits, splits(known=False, role="test")),
    (c.validate_hardware_profiles, profile(macs=np.nan)),
    (v.validate_checkpoint, {"weights": {}, "history": [1.0]}),
    (v.validate_checkpoint, {"selected": "similarity_transformer"}),
    (c.validate_rankings, rankings()),
    (v.validate_evaluation_metrics, METRICS),
    (c.validate_recommendation, pd.DataFrame({"model_id": ["a"], "rank": [1]})),
    (c.validate_extraction_failures, pd.DataFrame(columns=["model_id", "error", "hint"])),
    (c.validate_dataset_failures, pd.DataFrame({"dataset_id": ["d"], "error": ["e"], "hint": [""]})),
    (v.validate_failure_record, {"error": "", "hint": ""}),
    (v.Table().validate, pd.DataFrame()),
    (v.validate_json, {"a": [1, np.float32(2)]}),
    (v.validate_dictionary, {"a": 1}),
    (v.validate_text, "<html>"),
    (v.validate_figure, {"data": [], "layout": {}}),
    (v.validate_figure, {"loss": b"png", "lazy": lambda: None}),
]  # fmt: skip

BAD = [
    (c.validate_model_manifest, pd.DataFrame({"model_id": ["m"]}), "missing columns: loader"),
    (c.validate_model_manifest, pd.DataFrame(columns=c.columns("model_manifest")), "no rows"),
    (c.validate_dataset_manifest, pd.DataFrame(columns=c.columns("dataset_manifest")), "no rows"),
    (c.validate_dataset_manifest, [1], "expected a table"),
    (c.validate_performance_records, records(value=1.5), r"within \[0, 1\]"),
    (c.validate_performance_records, records(value=np.nan), "no value"),
    (c.validate_performance_records, records(value="0.5"), "numeric"),
    (c.validate_performance_records, records(protocol="guess"), "unknown values"),
    (c.validate_performance_records, records(metric="error"), "unknown values .*error.*; known: accuracy, top1, proxy"),
    (c.validate_performance_records, records(model_id=" "), "empty in 1 rows"),
    (c.validate_performance_records, pd.concat([records(), records()]), "repeat"),
    # One row among good ones is enough.
    (c.validate_performance_records, pd.concat([records(model_id="n"), records(value=np.nan)]), "no value in 1 rows"),
    (c.validate_performance_records, pd.concat([records(model_id="n"), records(value=1.5)]), "1 rows don't"),
    (c.validate_performance_records, pd.concat([records(), records(model_id="")]), "empty in 1 rows"),
    (c.validate_performance_records, pd.concat([records(model_id="n"), records(metric="error")]), "unknown values"),
    (c.validate_splits, pd.concat([splits(id="n"), splits(known=False)]), "used for training"),
    (v.validate_model_spectra, spectra(names=np.array(["a"])), r"\(2, 3\) for 2 models and 1 names"),
    (v.validate_model_spectra, spectra(model_ids=np.array(["m", "m"])), "repeat a model"),
    (v.validate_model_spectra, spectra(spectra=np.array([[1, 2, 3], [4, np.inf, 6]])), "infinite"),
    (v.validate_model_vector, {"parameters": VECTOR[:5]}, "8192"),
    (v.validate_model_vector, {"parameters": VECTOR.astype(np.float64)}, "float32"),
    (v.validate_model_vector, {"parameters": VECTOR * np.nan}, "finite"),
    (v.validate_model_vector, {"parameters": VECTOR * 0}, "zero"),
    (v.validate_model_vector, 3, "an object with parameters"),
    (v.validate_dictionary, [], "dictionary"),
    (v.validate_token_shard, shard(features=np.ones((2, 3, 4), np.float32)), "normalised"),
    (v.validate_token_shard, shard(features=np.ones((3, 4), np.float32)), "3 dimensions"),
    (v.validate_token_shard, shard(features=np.ones((2, 3, 4))), "float16 or"),
    (v.validate_token_shard, shard(features=np.ones((0, 3, 4), np.float32)), "empty"),
    (v.validate_token_shard, shard(class_ids=np.arange(2)), "2 entries for 3"),
    (v.validate_token_shard, shard(n_images=0), "positive"),
    (v.validate_token_shard, {"features": shard()["features"]}, "missing keys: class_ids"),
    (v.validate_model_embeddings, embeddings(model_id=["a", "a"]), "repeat"),
    (v.validate_model_embeddings, embeddings(e000=[1.0, 2.0]), "float32"),
    (v.validate_model_embeddings, embeddings(e000=np.float32([1, np.inf])), "finite"),
    (v.validate_model_embeddings, pd.DataFrame({"model_id": ["a"]}), "no columns"),
    (c.validate_performance, records().assign(std=-1.0), "std"),
    (c.validate_transferability_scores, records(), "missing columns: method"),
    (c.validate_splits, splits(known=False), "used for training"),
    (c.validate_splits, splits(known="maybe"), "unknown values .*maybe"),
    (c.validate_splits, splits(kind="cells"), "kind"),
    (c.validate_hardware_profiles, profile(latency_ms_p50=-1.0), "latency_ms_p50"),
    (c.validate_hardware_profiles, profile(batch_size=0), "batch_size"),
    (v.validate_checkpoint, {}, "non-empty"),
    (v.validate_checkpoint, {1: 2}, "strings"),
    (c.validate_rankings, rankings(rank=0), "rank"),
    (c.validate_rankings, rankings(quadrant="Q5"), "quadrant"),
    (v.validate_evaluation_metrics, [], "object"),
    (v.validate_evaluation_metrics, {}, "missing keys"),
    (c.validate_recommendation, pd.DataFrame({"model_id": ["a", "a"]}), "repeat"),
    (c.validate_dataset_failures, pd.DataFrame({"dataset_id": []}), "missing columns: error"),
    (c.validate_extraction_failures, pd.DataFrame({"error": [], "hint": []}), "missing columns: model_id"),
    (v.validate_failure_record, {"error": ""}, "hint"),
    (v.Table().validate, pd.DataFrame([[1, 2]], columns=["a", "a"]), "twice"),
    (v.validate_json, {"a": object()}, "JSON"),
    (v.validate_text, " ", "non-empty"),
    (v.validate_figure, {}, "no figures"),
    (v.validate_figure, {"a": 1}, "expected a figure"),
]  # fmt: skip


@pytest.mark.parametrize(("validator", "data"), GOOD)
def test_contract_is_accepted(validator, data):
    assert any(validator(data) is accepted for accepted in (None, data))


@pytest.mark.parametrize(("validator", "data", "message"), BAD)
def test_breach_is_refused_with_its_reason(validator, data, message):
    with pytest.raises(ValueError, match=message):
        validator(data)


def test_checkpoint_tensors_must_be_finite():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=r"\['members'\]\[0\]\['w'\]"):
        v.validate_checkpoint({"members": [{"w": torch.tensor([float("nan")])}]})
    v.validate_checkpoint({"members": [{"w": torch.ones(2), "n": torch.arange(2)}]})


def test_figures_of_the_plotting_libraries():
    class Figure:
        def savefig(self):
            """Matplotlib's."""

    v.validate_figure(Figure())
