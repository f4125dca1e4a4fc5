from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.fabricated import DEVICE, N_MODELS, fabricated_bundle, fabricated_posterior, tokens_of
from tests.world import selection
from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.tables import TaskTokens
from thesis_rec.hardware.fingerprint import MEASURED_RATES
from thesis_rec.knowledge.posterior import SCORE, Cell
from thesis_rec.recommendation.answer import COLUMNS, load_line
from thesis_rec.recommendation.asking import _rests_on, believed, recommend_for
from thesis_rec.recommendation.candidates import IMAGE_TEXT_TYPES, resolve_device
from thesis_rec.recommendation.neighbours import dataset_map, nearest_datasets
from thesis_rec.recommendation.request import Request


def ask(request=None, bundle=None, **arguments):
    bundle = bundle or fabricated_bundle()
    new = tokens_of("mine", 3)
    belief = fabricated_posterior(bundle, new)
    return recommend_for(bundle, new, request or Request(device=DEVICE), posterior=belief, **arguments)


def test_without_limits_all_models_are_ranked_by_score():
    found = ask()
    assert list(found.table.columns) == list(COLUMNS)
    assert len(found.table) == N_MODELS
    assert found.table["score"].is_monotonic_decreasing
    assert found.table["rank"].tolist() == list(range(1, N_MODELS + 1))
    assert found.excluded.empty
    assert found.relaxations == []
    assert len(found.top) == 10
    low, high = fabricated_posterior(fabricated_bundle(), tokens_of("mine", 3)).interval(0.9)
    assert sorted(found.table["value_low"]) == pytest.approx(sorted(low))
    assert sorted(found.table["value_high"]) == pytest.approx(sorted(high))
    # Nothing is believed to lie below chance, which is 1 in 4.
    assert found.table["value_low"].min() >= 0.25


def test_limits_change_the_list_and_are_named():
    free, limited = ask(), ask(Request(max_latency_ms=2.0, device=DEVICE))
    assert limited.table["latency_ms"].max() <= 2.0
    assert limited.table["model_id"].iloc[0] != free.table["model_id"].iloc[0]
    assert set(limited.excluded["limits"]) == {"max_latency_ms"}
    assert len(limited.table) + len(limited.excluded) == N_MODELS
    both = ask(Request(max_parameters=1e5, licences=("mit",), device=DEVICE))
    assert both.table["n_parameters"].max() <= 1e5
    assert set(both.table["licence"]) == {"MIT"}


def test_images_that_nothing_known_is_like_are_told():
    bundle = fabricated_bundle()
    like, unlike = bundle.tokens["d0"], tokens_of("mine", 99)

    def told(tokens):
        found = recommend_for(bundle, tokens, Request(device=DEVICE))
        return [note for note in found.notes if note.startswith("nothing similar is known: ")]

    nearest = nearest_datasets(unlike, bundle.tokens, bundle.datasets).iloc[0]
    (note,) = told(unlike)
    assert f"{nearest['dataset_id']}, the nearest known dataset, is" in note
    assert f"less like your images ({nearest['similarity']:.2f})" in note
    assert told(replace(like, dataset_id="mine")) == []


def test_every_interval_holds_what_is_expected():
    for level in (0.01, 0.3, 0.9):
        table = ask(Request(level=level, device=DEVICE)).table
        assert (table["value_low"] <= table["predicted_value"]).all()
        assert (table["predicted_value"] <= table["value_high"]).all()


def test_an_impossible_limit_tells_what_to_relax():
    found = ask(Request(max_latency_ms=0.001, device=DEVICE))
    assert found.table.empty
    fastest = fabricated_bundle().profiles.query("batch_size == 1")["latency_ms_p50"].min()
    value = found.relaxations[0].changes["max_latency_ms"]
    assert fastest <= value <= fastest * 1.1
    relaxed = ask(Request(max_latency_ms=value, device=DEVICE))
    assert relaxed.table["model_id"].tolist() == found.relaxations[0].model_ids


def test_the_nearest_dataset_is_the_one_it_was_drawn_from():
    bundle = fabricated_bundle()
    source = bundle.tokens["d3"]
    new = TaskTokens("mine", source.features[:2], source.class_names, 10, "fabricated")
    nearest = nearest_datasets(new, bundle.tokens, bundle.datasets)
    assert nearest["dataset_id"].iloc[0] == "d3"
    assert nearest["similarity"].iloc[0] > 0.95
    assert nearest["similarity"].is_monotonic_decreasing
    assert nearest["domain"].eq("shapes").all()
    subset = selection([(source, 0), (source, 2)], "subset")
    assert nearest_datasets(subset, bundle.tokens, bundle.datasets)["dataset_id"].iloc[0] == "d3"
    places = dataset_map(new, bundle.tokens, bundle.datasets).set_index("dataset_id")
    distance = np.hypot(*(places[["x", "y"]] - places.loc["mine", ["x", "y"]]).astype(float).to_numpy().T)
    assert places.index[np.argsort(distance)[1]] == "d3"
    assert places["kind"].tolist() == ["known"] * 6 + ["new"]


def test_similarity_is_the_mean_of_best_matches():
    def one(name, rows):
        features = np.array(rows, dtype=np.float32)[None]
        return TaskTokens(name, features, [str(i) for i in range(len(rows))], 1, "e")

    known = {"a": one("a", [[1, 0], [-1, 0]]), "b": one("b", [[0, 1], [0, -1]])}
    about = pd.DataFrame({"dataset_id": ["a"], "domain": ["shapes"]})
    nearest = nearest_datasets(one("n", [[0, 1], [1, 0], [-1, 0]]), known, about).set_index("dataset_id")
    assert nearest["domain"].fillna("").to_dict() == {"a": "shapes", "b": ""}
    found = nearest["similarity"]
    # Centred on the mean of all known classes, which is zero here: forward (0 + 1 + 1) / 3, backward (1 + 1) / 2.
    assert found["a"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["b"] == pytest.approx((1 / 3 + (1 + 0) / 2) / 2)


def test_reasons_name_measurements_or_the_most_similar_model():
    found = ask().table.set_index("model_id")["reason"]
    bundle = fabricated_bundle()
    nearest = nearest_datasets(tokens_of("mine", 3), bundle.tokens, bundle.datasets)["dataset_id"].iloc[0]
    value = bundle.performance.query(f"model_id == 'm00' and dataset_id == '{nearest}'")["value"].iloc[0]
    assert f"it reached {value:.2f} (place " in found["m00"]
    assert f"of 20) on {nearest}" in found["m00"]
    # The last four were never measured.
    assert found["m23"].startswith("It was never measured nearby; m")
    nothing = ask(bundle=replace(bundle, performance=bundle.performance.iloc[:0]))
    assert "prediction alone" in nothing.table["reason"].iloc[0]


def test_zero_shot_ranks_only_models_with_a_text_encoder():
    bundle = fabricated_bundle()
    manifest = bundle.manifest.copy()
    manifest.loc[3, "loader"] = "open_clip"
    manifest.loc[5, ["loader", "family"]] = ["transformers", "siglip"]
    manifest.loc[7, ["loader", "family"]] = ["transformers", "dinov2"]
    manifest.loc[9, "family"] = "siglip"  # the image half alone, as timm has it
    given = replace(bundle, manifest=manifest)
    found = ask(Request(protocol="zero_shot", device=DEVICE), given)
    assert set(found.table["model_id"]) == {"m03", "m05"}
    assert found.table["rank"].tolist() == [1, 2]
    assert found.excluded["limits"].eq("protocol").all()
    assert len(found.excluded) == N_MODELS - 2
    assert f"{N_MODELS - 2} models have no text encoder" in found.notes[0]
    assert len(ask(bundle=given).table) == N_MODELS
    # What no limit excludes isn't let in by relaxing one.
    none = ask(Request(protocol="zero_shot", device=DEVICE, max_latency_ms=0.001), given)
    assert none.table.empty
    assert set().union(*(one.model_ids for one in none.relaxations)) <= {"m03", "m05"}
    nobody = ask(Request(protocol="zero_shot", device=DEVICE, max_latency_ms=0.001), bundle)
    assert nobody.table.empty
    assert nobody.relaxations == []
    assert len(nobody.excluded) == N_MODELS


def test_the_types_with_a_text_encoder_are_those_that_transformers_lists():
    from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES as LISTED

    assert set(LISTED) == IMAGE_TEXT_TYPES


def test_a_predicted_cost_is_the_same_whatever_is_asked_of_the_model():
    bundle = fabricated_bundle()
    manifest = bundle.manifest.assign(loader=["open_clip"] * 4 + ["timm"] * (N_MODELS - 4))
    # Its counts are known and its speed isn't.
    profiles = bundle.profiles.copy()
    profiles.loc[profiles["model_id"] == "m03", ["latency_ms_p50", "latency_ms_p95"]] = np.nan
    given = replace(bundle, manifest=manifest, profiles=profiles)
    costs = [
        ask(Request(protocol=protocol, device=DEVICE), given).table.set_index("model_id").loc["m03"]
        for protocol in ("linear_probe", "zero_shot")
    ]
    assert costs[0]["basis"] == costs[1]["basis"] == "predicted"
    assert costs[0]["latency_ms"] == costs[1]["latency_ms"]


def test_a_first_choice_that_this_machine_can_t_hold_is_told_of(monkeypatch):
    needed = ask().table["memory_mb"]
    here = {"request": Request(), "here": DEVICE}
    monkeypatch.setattr("thesis_rec.recommendation.candidates.memory_mb", lambda kind: float(needed.max()))
    assert ask(**here).notes == ()
    monkeypatch.setattr("thesis_rec.recommendation.candidates.memory_mb", lambda kind: float(needed.min()) / 2)
    (note,) = ask(**here).notes
    assert note.startswith(f"{N_MODELS} of these models, the first one among them, need more memory")
    # Of another machine nobody knows, and a limit says what is allowed.
    assert ask(Request(device=DEVICE), here="cpu_other").notes == ()
    assert ask(Request(max_memory_mb=1e9), here=DEVICE).notes == ()


def test_the_download_is_of_whole_files():
    bundle = fabricated_bundle()
    manifest = bundle.manifest.assign(source="hf-hub:somebody/" + bundle.manifest["model_id"], bytes="")
    manifest.loc[0, "bytes"] = str(3 * 2**20)
    manifest.loc[1, "source"] = "folder"
    # What is counted of these two are their image halves.
    manifest.loc[2, "loader"] = "open_clip"
    manifest.loc[3, ["loader", "family"]] = ["transformers", "siglip"]
    found = ask(bundle=replace(bundle, manifest=manifest)).table.set_index("model_id")["download_mb"]
    assert found[["m00", "m01"]].tolist() == [3, 0]
    assert found[["m02", "m03"]].isna().all()
    assert found["m04"] == pytest.approx(4 * bundle.models.n_parameters[4] / 2**20)


def test_a_model_whose_weights_nobody_counted_keeps_no_limit_on_them():
    bundle = fabricated_bundle()
    counts = bundle.models.n_parameters.copy()
    counts[2] = 0
    given = replace(bundle, models=replace(bundle.models, n_parameters=counts))
    assert ask(Request(device=DEVICE), given).table.set_index("model_id")["n_parameters"].isna()["m02"]
    found = ask(Request(max_parameters=1e12, device=DEVICE), given)
    assert found.excluded.to_dict("records") == [{"model_id": "m02", "limits": "max_parameters"}]


def test_devices_are_named_by_a_part():
    profiles = pd.DataFrame({"device": ["cpu_x", "cuda_nvidia-h200_sm90", "cuda_nvidia-h100_sm90"]})
    assert resolve_device("h200", profiles) == "cuda_nvidia-h200_sm90"
    assert resolve_device("here", profiles, "cpu_y") == "cpu_y"
    assert resolve_device("RTX 4090", profiles) == "cuda_rtx4090"
    assert resolve_device("NVIDIA H200", profiles) == "cuda_nvidia-h200_sm90"
    with pytest.raises(ConfigurationError, match="fits several devices"):
        resolve_device("cuda", profiles)
    with pytest.raises(ConfigurationError, match=r"no device that was measured.*cpu_x"):
        resolve_device("tpu", profiles)


def test_candidates_are_measured_here_best_first_until_enough_fit():
    bundle = fabricated_bundle()
    truth = bundle.profiles.query("batch_size == 1").set_index("model_id")["latency_ms_p50"] * 3
    asked = []

    def measure(model_id):
        asked.append(model_id)
        if model_id == "m05":
            return None
        row = bundle.profiles.query(f"model_id == '{model_id}' and batch_size == 1")
        return row.assign(device="here_id", latency_ms_p50=truth[model_id], latency_ms_p50_high=truth[model_id])

    margin = 1.05
    found = ask(Request(max_latency_ms=8.0, top=3), bundle, measure=measure, here="here_id")
    top = found.top
    assert top["basis"].eq("measured").all()
    assert (truth[top["model_id"]] <= 8.0).all()
    # Nothing better than the last of the three fits.
    order = ask().table["model_id"].tolist()
    better = order[: order.index(top["model_id"].iloc[-1]) + 1]
    assert [m for m in better if margin * truth[m] <= 8.0 and m != "m05"] == top["model_id"].tolist()
    assert len(asked) < N_MODELS
    assert "measured on this machine" in found.notes[0]
    assert found.device == "here_id"


def test_a_better_candidate_that_others_measurements_let_hope_is_measured_too():
    bundle = fabricated_bundle()
    truth = bundle.profiles.query("batch_size == 1").set_index("model_id")["latency_ms_p50"] / 50
    asked = []

    def measure(model_id):
        asked.append(model_id)
        row = bundle.profiles.query(f"model_id == '{model_id}' and batch_size == 1")
        return row.assign(device="here_id", latency_ms_p50=truth[model_id], latency_ms_p50_high=truth[model_id])

    found = ask(Request(max_latency_ms=0.3, top=1), bundle, measure=measure, here="here_id")
    # The best was without hope before this machine was known to be that fast.
    order = ask().table["model_id"].tolist()
    assert found.top["basis"].tolist() == ["measured"]
    assert order.index(asked[0]) > order.index(found.top["model_id"].iloc[0])


@pytest.mark.parametrize(("limit", "measured"), [(0.0, 1), (2.5, 4), (100.0, 5)])
def test_importing_libraries_for_the_first_candidate_is_no_part_of_the_time_for_measuring(monkeypatch, limit, measured):
    bundle, clock, asked = fabricated_bundle(), [0.0], []
    monkeypatch.setattr("thesis_rec.recommendation.candidates.time.monotonic", lambda: clock[0])

    def measure(model_id):
        clock[0] += 1.0 if asked else 60.0
        asked.append(model_id)
        return bundle.profiles.query(f"model_id == '{model_id}' and batch_size == 1").assign(device="here_id")

    found = ask(Request(max_latency_ms=1e6, top=5, measure_seconds=limit), bundle, measure=measure, here="here_id")
    assert len(asked) == measured
    assert any("time for measuring was up" in note for note in found.notes) == (measured < 5)


def test_an_impossible_limit_is_checked_by_measuring_the_cheapest():
    bundle = fabricated_bundle()
    asked = []

    def measure(model_id):
        asked.append(model_id)
        row = bundle.profiles.query(f"model_id == '{model_id}' and batch_size == 1")
        return row.assign(device="here_id")

    found = ask(Request(max_latency_ms=1e-4), bundle, measure=measure, here="here_id")
    assert found.table.empty
    assert len(asked) == 3
    fastest = bundle.profiles.query("batch_size == 1")["latency_ms_p50"].min()
    assert found.relaxations[0].changes["max_latency_ms"] >= fastest


def test_measuring_stops_when_time_is_up():
    def measure(model_id):
        return fabricated_bundle().profiles.query(f"model_id == '{model_id}'").assign(device="here_id")

    found = ask(Request(max_latency_ms=5.0, measure_seconds=0.0), measure=measure, here="here_id")
    assert "1 candidate was measured" in found.notes[0]
    assert "time for measuring was up" in found.notes[1]


def test_the_answer_is_json():
    found = ask(Request(max_latency_ms=2.0, licences=("MIT",), device=DEVICE))
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document["models"][0]["rank"] == 1
    assert document["budget"]["licences"] == ["MIT"]
    assert document["asked"] == {"protocol": "linear_probe", "domain": None, "level": 0.9}
    assert document["sources"] == {"knowledge": "starter", "embeddings": "starter"}
    assert set(document["models"][0]) == set(COLUMNS)
    assert document["models"][0]["probed_value"] is None
    nothing = ask(Request(max_latency_ms=1e-4, device=DEVICE)).to_dict()
    assert nothing["relaxations"][0]["text"].startswith("--max-latency-ms")


def test_what_can_t_be_answered_says_why():
    bundle = fabricated_bundle()
    other = replace(tokens_of("mine", 1), encoder_id="another")
    with pytest.raises(ConfigurationError, match="encoded by another, the known datasets by fabricated"):
        recommend_for(bundle, other, Request(device=DEVICE))
    empty = replace(bundle, models=bundle.models.select([]))
    with pytest.raises(ConfigurationError, match="model_extraction"):
        recommend_for(empty, tokens_of("mine", 1), Request(device=DEVICE))


@pytest.mark.parametrize(
    ("loader", "source", "expected"),
    [
        ("timm", "hf-hub:timm/resnet18.a1_in1k", 'timm.create_model("hf-hub:timm/resnet18.a1_in1k", pretrained=True)'),
        ("transformers", "hf-hub:org/name", 'transformers.AutoModel.from_pretrained("org/name")'),
        ("open_clip", "hf-hub:org/name", 'open_clip.create_model_and_transforms("hf-hub:org/name")'),
        ("transformers", "models/a", 'transformers.AutoModel.from_pretrained("/zoo/models/a")'),
        ("timm", "/mine/b", 'timm.create_model("local-dir:/mine/b", pretrained=True)'),
        ("local", "x.pt", ""),
    ],
)
def test_the_first_choice_comes_with_its_line_of_code(loader, source, expected):
    assert load_line({"loader": loader, "source": source}, Path("/zoo")) == expected


def test_every_real_image_text_model_is_loaded_by_open_clip_s_own_names(project_dir):
    """Repositories without a configuration, such as CoCa's, can't be loaded by their names on the hub."""
    from open_clip.pretrained import get_pretrained_cfg

    manifest = pd.read_csv(project_dir / "data/01_raw/hub/model_manifest.csv", dtype=str, keep_default_na=False)
    rows = manifest[manifest["loader"] == "open_clip"].to_dict("records")
    for row in rows:
        line = load_line(row, Path())
        name, tag = re.fullmatch(r'open_clip.create_model_and_transforms\("(.+)", pretrained="(.+)"\)', line).groups()
        assert f"hf-hub:{get_pretrained_cfg(name, tag)['hf_hub'].rstrip('/')}" == row["source"]
    assert len(rows) > 100


def test_every_real_model_of_timm_is_loaded_by_a_name_that_timm_lists(project_dir):
    """Of others' repositories, such as ``jienengchen/ViTamin-S``, timm knows by its own names how to read weights."""
    import timm

    manifest = pd.read_csv(project_dir / "data/01_raw/hub/model_manifest.csv", dtype=str, keep_default_na=False)
    rows = manifest[(manifest["loader"] == "timm") & manifest["model_id"].str.startswith("timm/")].to_dict("records")
    named = [re.fullmatch(r'timm.create_model\("(.+)", pretrained=True\)', load_line(row, Path()))[1] for row in rows]
    assert {name.removeprefix("hf-hub:timm/") for name in named} <= set(timm.list_models(pretrained=True))
    assert len(rows) > 500


def test_every_column_is_documented(project_dir):
    page = (project_dir / "docs" / "data-contracts.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, flags=re.M))
    for name in COLUMNS:
        assert rows.get(name), name
    for name in ask().to_dict():
        assert f"`{name}`" in page, name


def test_a_model_of_another_resolution_could_be_any_and_says_so():
    bundle = fabricated_bundle()
    measured = list(bundle.knowledge.model_ids)
    model = next(m for m in bundle.models.model_ids if m not in {*measured, *bundle.from_afar})
    sizes = ["512" if m == model else "224" for m in bundle.manifest["model_id"]]
    far = replace(bundle, manifest=bundle.manifest.assign(input_size=sizes))
    new = tokens_of("mine", 3)
    table = recommend_for(far, new, Request(device=DEVICE)).table.set_index("model_id")
    assert table.loc[model, "reason"].startswith("Nothing like it is known: it sees images of 512 pixels")
    belief, before = believed(far, new), believed(bundle, new)
    row, known = belief.model_ids.index(model), np.isin(belief.model_ids, measured)
    assert belief.mean[row] == pytest.approx(before.mean[known].mean())
    assert belief.std[row] ** 2 == pytest.approx(np.square(before.std[known]).mean() + before.mean[known].var())
    np.testing.assert_array_equal(belief.mean[known], before.mean[known])


@pytest.mark.parametrize(
    ("wishes", "hint"),
    [
        # Published of it are large batches in half precision alone; the rest was an H200's, without a word.
        ({"device": "RTX 4090"}, "Known of it is fp16 with 64 images per call or more."),
        ({"device": "RTX 4090", "precision": "fp16", "batch_size": 64}, None),
        ({"device": DEVICE}, None),
        ({"device": DEVICE, "precision": "bf16"}, "most like it, and up to 4 times as long has to keep a limit."),
    ],
)
def test_whose_figures_are_another_device_s_is_told(wishes, hint):
    told = [note for note in ask(Request(**wishes)).notes if note.startswith("Hardly anything is known of ")]
    assert len(told) == (hint is not None)
    assert all(note.endswith(hint) for note in told)


def test_a_processor_that_nobody_measured_is_told_by_its_rate(monkeypatch):
    monkeypatch.setattr("thesis_rec.recommendation.candidates.processor_rate", lambda device: 1000.0)
    measured = next(iter(MEASURED_RATES))
    bundle = fabricated_bundle()
    known = replace(bundle, profiles=bundle.profiles.assign(device=measured))
    limits = Request(max_latency_ms=4.0)
    told, untold = (ask(limits, given, here="cpu_mine_4c4t_torch2.11") for given in (known, bundle))
    assert len(told.table) > len(untold.table)
    assert set(untold.table["model_id"]) < set(told.table["model_id"])
    assert any("1000 GFLOP/s" in note and "--measure" in note for note in told.notes)
    assert not any("GFLOP/s" in note for note in untold.notes)
    # Nothing is held against a clock, or what was measured is.
    assert not ask(Request(), known, here="cpu_mine_4c4t_torch2.11").notes
    assert not ask(limits, known, here=measured).notes
    # Rates are of fp32.
    halves = ask(Request(max_latency_ms=4.0, precision="bf16"), known, here="cpu_mine_4c4t_torch2.11").notes
    assert not any("GFLOP/s" in note for note in halves)
    # Another machine's rate isn't this one's.
    assert not ask(Request(max_latency_ms=4.0, device=measured), known, here="cpu_mine_4c4t_torch2.11").notes


@pytest.mark.parametrize(
    ("losses", "times", "expected"),
    [
        # The fastest of those that are nearly as good, not the best of them.
        ([0.0, 0.004, 0.0099, 0.02], [100.0, 50.0, 20.0, 1.0], 2),
        ([0.0, 0.02, 0.03, 0.04], [100.0, 1.0, 1.0, 1.0], None),
        ([0.0, 0.001, 0.002, 0.003], [100.0, 51.0, 60.0, np.nan], None),
        ([0.0, 0.001, 0.002, 0.003], [np.nan, 1.0, 1.0, 1.0], None),
    ],
)
def test_a_much_cheaper_model_that_is_nearly_as_good_is_named(losses, times, expected):
    found = ask()
    table = found.table.head(4).assign(predicted_value=0.8 - np.array(losses), latency_ms=times)
    cheaper = replace(found, table=table).nearly_as_good
    assert (cheaper and cheaper["model_id"]) == (None if expected is None else table["model_id"][expected])


def test_where_nothing_fits_nothing_is_nearly_as_good():
    assert ask(Request(max_latency_ms=0.001, device=DEVICE)).nearly_as_good is None


def test_what_was_tried_and_what_was_scored_is_counted_apart():
    cells = [Cell("a", 0.5), Cell("b", 1.2, 0.1, SCORE), Cell("a", 0.6), Cell("c", 0.2, 0.1, SCORE), Cell("d", 0.4)]
    assert _rests_on("Known.", Request(), cells, "tried") == "Known. 2 candidates were tried. 2 were scored by LogME."
    assert _rests_on("Known.", Request(), cells[:1], "tried") == "Known. 1 candidate was tried."
