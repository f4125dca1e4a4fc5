"""``kedro recommend`` in a project of its own: real encoder, real ranker, real models, real images."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

import thesis_rec
from tests.fabricated import fabricated_bundle, learned
from tests.pipelines.hardware_profiling.test_hardware_profiling_pipeline import save_tiny_model
from tests.recommendation.test_assembly import own_artefacts
from tests.recommendation.test_trying import save_images
from thesis_rec.base.errors import ConfigurationError
from thesis_rec.base.files import load_arrays
from thesis_rec.commands.artefacts import load_bundle, load_context
from thesis_rec.commands.bundle import bundle
from thesis_rec.knowledge.protocols import ProtocolKnowledge
from thesis_rec.models.model_extraction import extract_models
from thesis_rec.models.model_manifest import read_manifest
from thesis_rec.recommendation.bundle import NEEDED, read_bundle, write_bundle


@pytest.fixture(scope="module")
def project(tmp_path_factory, project_dir):
    from thesis_rec.base.tables import TaskTokens
    from thesis_rec.images.encoders import EncoderConfig, load_encoder

    root = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(project_dir / name, root / name)
    shutil.copytree(project_dir / "conf", root / "conf")
    place = root / "conf" / "base" / "globals.yml"
    settings = yaml.safe_load(place.read_text())
    settings |= {"starter_root": str(root / "starter"), "data_root": str(root / "data")}
    settings["zoos"]["starter"]["encoder"] = {"kind": "timm", "source": str(root / "starter" / "encoder")}
    place.write_text(yaml.safe_dump(settings))
    # The package is installed; Kedro only wants the folder.
    (root / "src").mkdir()
    starter = root / "starter"
    save_tiny_model(starter / "encoder", width=48)
    encoder = load_encoder(EncoderConfig(kind="timm", source=str(starter / "encoder")))
    rng = np.random.default_rng(0)
    tokens = {}
    for i in range(6):
        pixels = rng.integers(0, 255, (4, 1, 1, 3)) + rng.integers(-20, 20, (8, 4, 32, 32, 3))
        features = encoder.encode(pixels.clip(0, 255).astype(np.uint8).reshape(-1, 32, 32, 3)).reshape(8, 4, -1)
        tokens[f"d{i}"] = TaskTokens(f"d{i}", features, list("abcd"), 32, encoder.encoder_id)
    bundle = fabricated_bundle()
    knowledge = learned(bundle.models, tokens, bundle.performance)
    bundle = replace(bundle, tokens=tokens, knowledge=knowledge)
    write_bundle(bundle, starter / "bundle")
    for model_id in bundle.models.model_ids[:4]:
        save_tiny_model(starter / "models" / model_id)
    bundle.manifest.to_csv(starter / "model_manifest.csv", index=False)
    columns = ["dataset_id", "loader", "source", "image_column", "label_column", "splits", "domain", "group", "parent",
               "class_subset"]  # fmt: skip
    manifest = pd.DataFrame({"dataset_id": list(tokens), "loader": "generated", "source": list(tokens)})
    manifest.reindex(columns=columns).fillna("").assign(domain="shapes", group="structured").to_csv(
        starter / "dataset_manifest.csv", index=False
    )
    bundle.profiles.to_parquet(starter / "hardware_profiles.parquet")
    return root


def kedro(project, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "kedro", *map(str, arguments)], cwd=project, capture_output=True, text=True, check=False
    )


def test_the_command_answers_before_anything_was_run(project):
    images = save_images(project / "mine")
    done = kedro(
        project, "recommend", images, "--zoo", "starter", "--max-latency-ms", 1000, "--top", 4, "--format", "json"
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["dataset"]["classes"] == 3
    assert answer["sources"]["knowledge"] == "starter"
    # The four models that can be loaded were measured here; the others are predictions.
    measured = {model["model_id"] for model in answer["models"] if model["basis"] == "measured"}
    assert measured <= {"m00", "m01", "m02", "m03"}
    assert any("measured on this machine" in note for note in answer["notes"])
    assert not (project / "data").exists()


def test_no_program_reads_an_answer_behind_a_message_of_kedro_s(project):
    (project / "deep").mkdir()
    done = kedro(project / "deep", "recommend", project / "mine", "--format", "json")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"change to {project}, or set KEDRO_LOGGING_CONFIG={project}" in done.stderr


def test_python_gives_the_answer_too(project, monkeypatch):
    monkeypatch.chdir(project / "mine")
    found = thesis_rec.recommend(project / "mine", zoo="starter", max_parameters=3e5, top=3, probe=1)
    assert len(found.top) == 3
    assert found.options.limits == {"max_parameters": 3e5}
    # Only four models are really there; a candidate that isn't is passed over with a note.
    assert found.table["probed_value"].notna().sum() + sum("couldn't be tried" in n for n in found.notes) >= 1
    with pytest.raises(TypeError, match="'colour'"):
        thesis_rec.recommend(project / "mine", colour="blue")


def test_the_catalog_keeps_the_answer(project, monkeypatch):
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from thesis_rec.pipelines.recommendation.nodes import RecommendationParameters, recommend_models

    monkeypatch.chdir(project)
    bundle = load_bundle(project, zoo="starter")
    bootstrap_project(project)
    with KedroSession.create(project_path=project) as session:
        context = session.load_context()
        # Kedro has validated the parameters already where the pipelines were loaded before.
        given = RecommendationParameters.model_validate(context.params["recommendation"])
        answers = recommend_models(bundle, given.model_copy(update={"dataset": "d2", "measure": False}))
        names = ("recommendation", "recommendation_answer", "recommendation_report")
        for name, data in zip(names, answers, strict=True):
            context.catalog.save(name, data)
    document = json.loads((project / "data" / "07_model_output" / "recommendation.json").read_text())
    assert document["dataset"]["dataset_id"] == "d2"
    assert "Which model for" in (project / "data" / "08_reporting" / "recommendation.html").read_text()
    assert len(pd.read_parquet(project / "data" / "07_model_output" / "recommendation.parquet")) == 24


def test_what_runs_learned_is_bundled_whatever_zoo_answers_by_default(project, tmp_path):
    with pytest.raises(ConfigurationError, match="Run `kedro run` first"):
        bundle.main([str(tmp_path / "small")], obj=SimpleNamespace(project_path=project), standalone_mode=False)
    shipped = load_bundle(project, zoo="starter")
    artefacts = own_artefacts(shipped, performance=shipped.performance.assign(protocol="linear_probe"))
    catalog = load_context(project, None).catalog
    try:
        for name in NEEDED:
            data = artefacts[name]
            if isinstance(data, pd.DataFrame):
                data.columns = data.columns.map(lambda name: f"e{name:03d}" if isinstance(name, int) else name)
            catalog.save(name, data)
        bundle.main([str(tmp_path / "small")], obj=SimpleNamespace(project_path=project), standalone_mode=False)
    finally:
        for layer in ("03_primary", "04_feature", "06_models"):
            shutil.rmtree(project / "data" / layer, ignore_errors=True)
    made = read_bundle(tmp_path / "small")
    assert made.models.model_ids == shipped.models.model_ids
    assert made.knowledge.dataset_ids == shipped.knowledge.dataset_ids


def test_weights_that_changed_since_they_were_read_are_told(project):
    listed = pd.read_csv(project / "starter" / "model_manifest.csv", dtype=str, keep_default_na=False)
    kept, trained, moved, gone = (project / "own" / name for name in ("kept", "trained", "moved", "gone"))
    rows = []
    for seed, folder in enumerate((kept, trained, moved, gone)):
        save_tiny_model(folder, seed=seed)
        rows.append(listed.head(1).assign(model_id=folder.name, source=str(folder)))
    pd.concat([listed, *rows]).to_csv(project / "changing.csv", index=False)
    local = project / "conf" / "local" / "globals.yml"
    local.parent.mkdir(exist_ok=True)
    before = local.read_text() if local.is_file() else ""
    local.write_text(yaml.safe_dump({"zoos": {"starter": {"model_manifest": str(project / "changing.csv")}}}))
    outcomes = project / "data" / "08_reporting" / "extraction_outcomes"
    outcomes.mkdir(parents=True, exist_ok=True)
    for _, told in extract_models(read_manifest(pd.concat(rows))[0], project, None, {}, {}):
        for name, outcome in told.items():
            (outcomes / f"{name}.json").write_text(json.dumps(outcome))
    try:
        assert not [note for note in load_bundle(project, zoo="starter").notes if "weights of" in note]
        shutil.rmtree(trained)
        save_tiny_model(trained, seed=9)
        shutil.copytree(moved, project / "copy")
        shutil.rmtree(moved)
        (project / "copy").rename(moved)
        shutil.rmtree(gone)
        bundle = load_bundle(project, zoo="starter")
        (told,) = (note for note in bundle.notes if "weights of" in note)
        assert told.startswith("The weights of trained changed since they were read: ")
        assert any(note.startswith("Left out: gone (") for note in bundle.notes)
        assert bundle.manifest["model_id"].isin(["kept", "trained", "moved", "gone"]).sum() == 3
        (outcomes / "moved.json").unlink()
        notes = load_bundle(project, zoo="starter").notes
        assert any(note.startswith("The weights of moved weren't read yet") for note in notes)
    finally:
        shutil.rmtree(outcomes)
        local.write_text(before)


@pytest.mark.parametrize("table", ["model_manifest", "dataset_manifest"])
def test_a_manifest_without_its_columns_is_refused_in_a_line(project, table, tmp_path):
    text = (project / "starter" / f"{table}.csv").read_text()
    (tmp_path / "saved.csv").write_text(text.replace("_id,", ",", 1))
    local = project / "conf" / "local" / "globals.yml"
    local.parent.mkdir(exist_ok=True)
    local.write_text(yaml.safe_dump({"zoos": {"starter": {table: str(tmp_path / "saved.csv")}}}))
    try:
        with pytest.raises(ConfigurationError, match=f"Your own {table} can't be used: missing columns: "):
            load_bundle(project, zoo="starter")
    finally:
        local.unlink()


def test_a_user_s_own_model_is_a_candidate_in_the_default_zoo(project, project_dir):
    shutil.copytree(project_dir / "data" / "01_raw" / "hub", project / "data" / "01_raw" / "hub")
    listed = pd.read_csv(project / "starter" / "model_manifest.csv", dtype=str, keep_default_na=False)
    own = listed.head(1).assign(model_id="my_model", source=str(project / "starter" / "models" / "m00"))
    gone = own.assign(model_id="gone", source="my_modle")
    broken = own.assign(model_id="broken")
    outcomes = project / "data" / "08_reporting" / "extraction_outcomes"
    outcomes.mkdir(parents=True, exist_ok=True)
    (outcomes / "broken.json").write_text(json.dumps({"error": "It is cut off.", "hint": "Save it again."}))
    other = listed.head(1).assign(source=str(project / "starter" / "models" / "m01"))
    pd.concat([listed, own, gone, broken, other]).to_csv(project / "mine.csv", index=False)
    local = project / "conf" / "local" / "globals.yml"
    local.parent.mkdir(exist_ok=True)
    local.write_text(yaml.safe_dump({"zoos": {"starter": {"model_manifest": str(project / "mine.csv")}}}))
    images = project / "mine" if (project / "mine").is_dir() else save_images(project / "mine")
    found = thesis_rec.recommend(images, project=project, measure=False)
    table = found.table.set_index("model_id")
    assert found.zoo == "hub"
    assert "m00" not in table.index
    # With a mistyped path, or weights that can't be read, it would be as good as any other, and stood among the first.
    assert not table.index.isin(["gone", "broken"]).any()
    assert "Left out of your own models: m00 (others are called so). Rename yours." in found.notes
    (told,) = (note for note in found.notes if note.startswith("Left out: gone ("))
    assert told.endswith(" isn't there), broken (It is cut off).")
    # Figures of another protocol, or of a network's own head, aren't passed off as linear probes.
    published = ProtocolKnowledge.from_arrays(
        load_arrays(project / "data" / "01_raw" / "hub" / "bundle" / "knowledge.npz")
    )
    probed = {model for model in table.index if published.figures(model, "linear_probe")}
    by_probes = table["reason"].str.contains("published linear probes of it, against")
    assert set(table.index[by_probes]) == probed
    assert len(probed) >= 30
    assert table["reason"].str.contains("No linear probes of it were published: its ImageNet accuracy").sum() >= 150
    counts = {model: published.figures(model, "zero_shot") for model in table.index if model not in probed}
    prompted = next(model for model, count in counts.items() if count)
    why = f"No linear probes of it were published: its {counts[prompted]} zero-shot accuracies put it here."
    assert table.loc[prompted, "reason"] == why
    all_probed = sum(published.figures(model, "linear_probe") > 0 for model in published.model_ids)
    all_known = sum(published.figures(model) > 0 for model in published.model_ids)
    assert f"linear probes of {all_probed} models on " in found.rests_on
    assert f"other figures of {all_known - all_probed} more" in found.rests_on
    assert "learned from lvd1689m" in table.loc["timm/vit_base_patch16_dinov3.lvd1689m", "reason"]
    # Nothing was published of it: it could be as any other model, and says so.
    mine = table.loc["my_model"]
    assert mine["reason"].startswith("Nothing like it is known")
    assert mine["value_high"] - mine["value_low"] > (table["value_high"] - table["value_low"]).median()
    assert mine["download_mb"] == 0
    assert "not looked at" in found.rests_on
    told = thesis_rec.recommend(images, project=project, measure=False, domain="medical")
    assert "2 of the domain medical weighing more" in told.rests_on
    assert told.table["model_id"].tolist() != found.table["model_id"].tolist()
    assert " domain " not in found.rests_on
    nothing = thesis_rec.recommend(images, project=project, measure=False, domain="text")
    assert "none of them text" in nothing.rests_on
    assert nothing.table["model_id"].tolist() == found.table["model_id"].tolist()
    # Records of one's own on these images move what is believed of the models and of those that are like them.
    names = ["facebook/dinov2-base", "facebook/dinov2-small", "open_clip/ViT-B-32.openai"]
    records = pd.DataFrame({"model_id": names, "value": [0.97, 0.96, 0.7], "dataset_id": images.name, "seed": 0})
    records = records.assign(protocol="linear_probe", metric="accuracy", n_train=100, source="my lab")
    tuned = records.assign(protocol="fine_tune", value=0.5)
    pd.concat([records, tuned]).to_parquet(project / "mine.parquet")
    before = local.read_text()
    local.write_text(yaml.safe_dump({"zoos": {"hub": {"performance_records": str(project / "mine.parquet")}}}))
    moved = thesis_rec.recommend(images, project=project, measure=False)
    # What a run refuses, an answer doesn't leave out in silence.
    records.assign(value=100 * records["value"]).to_parquet(project / "mine.parquet")
    with pytest.raises(ConfigurationError, match=r"performance_records.*'value' must lie within \[0, 1\].*97"):
        thesis_rec.recommend(images, project=project, measure=False)
    # Runs learn from another zoo's records, whatever their protocol: nothing is said of them.
    tuned.to_parquet(project / "mine.parquet")
    local.write_text(yaml.safe_dump({"zoos": {"starter": {"performance_records": str(project / "mine.parquet")}}}))
    toys = thesis_rec.recommend(images, project=project, zoo="starter", measure=False)
    assert not [note for note in toys.notes if "performance_records" in note]
    local.write_text(before)
    measured = moved.table.set_index("model_id")["probed_value"].dropna().to_dict()
    assert measured == dict(zip(names, records["value"], strict=True))
    assert "dinov" in moved.table["model_id"].iloc[0]
    assert any("own measurements of 3 models on these images count" in note for note in moved.notes)
    assert "Your own performance_records of fine_tune don't count: tries are of linear_probe." in moved.notes
    with pytest.raises(ConfigurationError, match="looks at the images"):
        thesis_rec.recommend(images, project=project, zoo="starter", domain="medical")
    with pytest.raises(ConfigurationError, match=r"'medcal'.*'medical'.*'textures'"):
        thesis_rec.recommend(images, project=project, domain="medcal")
    (project / "data" / "01_raw" / "hub" / "domains.npz").unlink()
    with pytest.raises(ConfigurationError, match=r"domains\.npz is missing"):
        thesis_rec.recommend(images, project=project, domain="medical")
    tried = thesis_rec.recommend(
        images, project=project, families=(own["family"].iloc[0],), probe=1, offline=True, measure=False
    )
    assert tried.table.set_index("model_id")["probed_value"].notna().sum() == 1
    again = thesis_rec.recommend(images, project=project, measure=False).table.set_index("model_id")
    # The try is kept: a later request on the same images uses it.
    assert again.loc["my_model", "probed_value"] == pytest.approx(
        tried.table.set_index("model_id").loc["my_model", "probed_value"], abs=1e-5
    )
    # Something is known of it now, and trying it tells no more.
    assert again.loc["my_model", "reason"].startswith("A linear probe on these images reached ")
    assert "Nothing like it is known" not in again.loc["my_model", "reason"]
    other = thesis_rec.recommend(images, project=project, measure=False, protocol="zero_shot")
    assert other.rests_on.endswith("1 candidate was tried, by linear probes.")
    # Whoever has no text encoder, one's own model among them, can't do zero-shot.
    listed_there = pd.read_csv(project / "data" / "01_raw" / "hub" / "model_manifest.csv").set_index("model_id")
    loaders = listed_there.loc[other.table["model_id"], "loader"]
    assert set(loaders) == {"open_clip", "transformers"}
    assert "my_model" in set(other.excluded["model_id"])
    assert len(other.table) + len(other.excluded) == len(found.table)
    assert "published zero-shot accuracies of it" in other.table["reason"].iloc[0]
    # What was read, by the zoo's name; published knowledge has neither embeddings nor tokens.
    told = {"knowledge", "hardware profiles", "listed under another name", "built by no library"}
    assert set(found.sources) == told
    assert {found.sources[name] for name in ("knowledge", "hardware profiles")} == {"hub"}
    local.write_text(yaml.safe_dump({"zoos": {"starter": {"model_manifest": "data/none.csv"}}}))
    with pytest.raises(
        ConfigurationError, match=r"data/none\.csv doesn't exist. Correct zoos\.starter\.model_manifest"
    ):
        thesis_rec.recommend(images, project=project, measure=False)
    local.write_text("zoo: starter\n")
    assert thesis_rec.recommend(images, project=project, measure=False, max_parameters=3e5).zoo == "starter"
    local.unlink()
