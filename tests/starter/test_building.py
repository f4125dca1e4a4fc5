import json
import logging
import time
import zipfile
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

from tests.contracts import (
    validate_dataset_manifest,
    validate_hardware_profiles,
    validate_model_manifest,
    validate_performance_records,
    validate_transferability_scores,
)
from tests.starter.committed import as_backbone, committed_model, truth_value
from thesis_rec.base.errors import ItemError
from thesis_rec.models.loaders import load_backbone
from thesis_rec.models.model_extraction import open_model
from thesis_rec.starter import sides
from thesis_rec.starter.adopting import adopt_zoo
from thesis_rec.starter.archives import export_bundle, import_bundle
from thesis_rec.starter.assembling import assemble
from thesis_rec.starter.building import STAGES, expect_images, run_stage, validate_build
from thesis_rec.starter.clip import ClipSettings
from thesis_rec.starter.measuring import tasks_to_measure, tasks_to_tune
from thesis_rec.starter.painter import Painter
from thesis_rec.starter.plan import Sizes, make_plan
from thesis_rec.starter.provenance import (
    Provenance,
    rebuild_model,
    verify_files,
)
from thesis_rec.starter.settings import BuildSettings, ProfileRecipe
from thesis_rec.starter.tables import compact_scores, recipe_row
from thesis_rec.starter.workshop import ENVIRONMENT, Workshop, ZooBuild
from thesis_rec.tasks import BASE_TASKS
from thesis_rec.truth.settings import FineTuneRecipe, ProbeRecipe, TruthSettings

SIZES = Sizes(
    models=3, tasks=3, added_tasks=2, references=1, subtasks=300, added_subtasks=60, max_steps=2,
    images_per_class=8, train_per_class=8, test_per_class=4, fine_tuned_models=1, fine_tuned_tasks=1,
    repeated_tasks=1, repeats=2,
)  # fmt: skip
SETTINGS = BuildSettings(
    clip=ClipSettings(
        embed_dim=16, width=32, layers=1, text_width=16, text_layers=1, steps=2, batch=8, images_per_class=8
    ),
    truth=TruthSettings(linear_probe=ProbeRecipe(shots=4, draws=2), score_images=8, batch_size=64, source="starter"),
    fine_tune=FineTuneRecipe(steps=1, batch=8),
    profiles=ProfileRecipe(precisions=("fp32",), batch_sizes=(1,), seconds_per_cell=0.01),
)


@pytest.fixture(scope="module")
def plan():
    return make_plan(0, SIZES)


@pytest.fixture(scope="module")
def built(plan, tmp_path_factory):
    root = tmp_path_factory.mktemp("zoo")
    shop = Workshop(root / "work")
    with Painter() as shop.painter:
        expect_images(STAGES, plan, shop, SETTINGS)
        failures = [failure for stage in STAGES for failure in run_stage(stage, plan, shop, SETTINGS)]
    assert failures == []
    assemble(plan, shop, SETTINGS, root / "zoo")
    return shop, root / "zoo"


def test_the_whole_plan_is_as_large_as_promised():
    whole = make_plan()
    assert len(whole.recipes) >= 256
    assert len(whole.base_tasks) >= 120
    assert len(whole.base_tasks) + len(whole.subtasks) >= 2000
    assert not set(whole.base_tasks) & set(whole.reference_tasks)
    models, cells = whole.fine_tuned()
    assert len(set(models)) == 48
    assert len({m.split("_")[0] for m in models}) >= 10
    assert len({task for task, _ in cells}) == 60
    assert len([seed for _, seed in cells if seed]) >= 12
    assert sum(r.steps for r in whole.recipes) < 250_000


def test_budgets_can_be_scaled():
    usual, longer = (make_plan(0, Sizes(budget_factor=factor)) for factor in (1.0, 2.5))
    assert [round(2.5 * r.steps) for r in usual.recipes] == [r.steps for r in longer.recipes]
    assert len({r.model_id for r in longer.recipes}) == len(longer.recipes)


def test_nothing_is_trained_on_the_second_generation():
    whole = make_plan()
    added = set(sides.evaluation_tasks(2))
    assert set(whole.base_tasks) >= added
    assert not added & {task for recipe in whole.recipes for task in recipe.source.tasks}
    assert not added & {task for task, _ in whole.fine_tuned()[1]}
    assert not added & {*whole.clip_tasks, *whole.reference_tasks}
    first, second = whole.generation(1), whole.generation(2)
    assert len(first) + len(second) == len(whole.measured())
    assert [task.dataset_id for task in first if task.draws] == whole.first_base_tasks()


def test_the_encoder_never_sees_unknown_families():
    whole = make_plan()
    assert len(whole.clip_tasks) > 100
    assert not {BASE_TASKS[task].family for task in whole.clip_tasks} & set(sides.UNKNOWN_TASK_FAMILIES)


def test_the_tables_meet_their_contracts(built, plan):
    _, zoo = built
    records = pd.read_parquet(zoo / "performance_records.parquet")
    models = pd.read_csv(zoo / "model_manifest.csv", dtype="string", keep_default_na=False)
    datasets = pd.read_csv(zoo / "dataset_manifest.csv", dtype="string", keep_default_na=False)
    scores = pd.read_parquet(zoo / "transferability_scores.parquet")
    validate_performance_records(records)
    validate_transferability_scores(scores)
    validate_model_manifest(models)
    validate_dataset_manifest(datasets)
    validate_hardware_profiles(pd.read_parquet(zoo / "hardware_profiles.parquet"))
    probes = records[records["protocol"] == "linear_probe"]
    assert len(probes) == 3 * (5 * 2 + len(plan.subtasks))
    assert set(probes.loc[probes["seed"] == -1, "dataset_id"]) == {task.dataset_id for task in plan.subtasks}
    assert len(records[records["protocol"] == "fine_tune"]) == 2
    assert set(models["licence"]) == {"MIT"}
    assert len(datasets) == 5 + len(plan.subtasks)
    with np.load(zoo / "model_responses.npz", allow_pickle=False) as file:
        assert file["responses"].shape == (3, len(file["names"]))
        assert file["responses"].dtype == np.float16
        assert set(file["model_ids"]) == set(models["model_id"])
    sides = json.loads((zoo / "sides.json").read_text())
    assert set(sides) >= {"dataset_families", "dataset_ids", "model_families", "model_ids"}


def test_every_model_loads_as_a_backbone(built):
    from thesis_rec.models.model_manifest import read_manifest

    _, zoo = built
    rows, failures = read_manifest(pd.read_csv(zoo / "model_manifest.csv", dtype="string", keep_default_na=False))
    assert not failures
    for row in rows:
        backbone = load_backbone(row, zoo)
        assert backbone.preparation.mean == (0.5, 0.5, 0.5)
        assert backbone.input_size == 32


def test_what_is_there_is_not_made_again(built, plan, caplog):
    shop, _ = built
    before = {path: path.stat().st_mtime_ns for path in shop.folder.rglob("*") if path.is_file()}
    with caplog.at_level(logging.ERROR):
        for stage in STAGES:
            assert run_stage(stage, plan, shop, SETTINGS) == []
    assert before == {path: path.stat().st_mtime_ns for path in shop.folder.rglob("*") if path.is_file()}


def test_a_changed_checkpoint_is_measured_again(built, plan, tmp_path):
    shop, _ = built
    import_bundle(export_bundle(shop.folder, tmp_path / "pieces"), tmp_path / "work")
    copy = Workshop(tmp_path / "work", images=shop.images)
    model_id = plan.recipes[0].model_id
    card = copy.folder / "training" / f"{model_id}.json"
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "weights_sha256": "other"}))
    done = next(copy.folder.glob(f"truth-*/{model_id}.json"))
    before = done.stat().st_mtime_ns
    run_stage("truth", plan, copy, SETTINGS)
    assert done.stat().st_mtime_ns > before
    card.unlink()
    assert model_id not in copy.trained(plan)


def test_a_bundle_carries_everything_in_small_pieces(built, plan, tmp_path):
    shop, _ = built
    pieces = export_bundle(shop.folder, tmp_path / "pieces", piece=200_000)
    assert len(pieces) > 1
    count = import_bundle(pieces, tmp_path / "work")
    original = {p.relative_to(shop.folder): p.read_bytes() for p in shop.folder.rglob("*") if p.is_file()}
    copied = {p.relative_to(tmp_path / "work"): p.read_bytes() for p in (tmp_path / "work").rglob("*") if p.is_file()}
    assert copied == original
    assert count == len(original)
    assert Workshop(tmp_path / "work").trained(plan) == shop.trained(plan)


def test_bad_bundles_are_refused(tmp_path):
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"no archive")
    with pytest.raises(ItemError, match="damaged"):
        import_bundle([bad], tmp_path / "work")
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("../outside.txt", "x")
    with pytest.raises(ItemError, match="leads out"):
        import_bundle([bad], tmp_path / "work")
    assert not (tmp_path / "outside.txt").exists()


def test_after_the_deadline_nothing_is_begun(plan, tmp_path):
    shop = Workshop(tmp_path, deadline=time.monotonic() - 1)
    for stage in STAGES:
        assert run_stage(stage, plan, shop, SETTINGS) == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ItemError, match="No trained model"):
        assemble(plan, shop, SETTINGS, tmp_path / "zoo")
    with pytest.raises(ValueError, match="unknown stage"):
        run_stage("dinner", plan, shop, SETTINGS)


def test_a_diverged_or_unreadable_model_is_a_failure_and_the_others_go_on(plan, tmp_path, monkeypatch, built):
    shop, _ = built
    import_bundle(export_bundle(shop.folder, tmp_path / "pieces"), tmp_path / "work")
    copy = Workshop(tmp_path / "work", images=shop.images)
    victim = plan.recipes[1].model_id
    for done in copy.folder.glob("truth-*/*.json"):
        done.unlink()
    for file in copy.model_folder(victim).glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:100])
    failures = run_stage("truth", plan, copy, SETTINGS)
    assert [failure.item for failure in failures] == [victim]
    done = [path.stem for path in copy.folder.glob("truth-*/*.json") if path.name != ENVIRONMENT]
    assert sorted(done) == sorted(2 * [recipe.model_id for recipe in plan.recipes if recipe.model_id != victim])

    from thesis_rec.starter import pretraining

    broken = Workshop(tmp_path / "broken")
    real = pretraining.train_recipes

    def diverging(recipes, *args):
        for recipe, module, outcome in real(recipes, *args):
            if recipe.model_id == victim:
                next(module.parameters()).data.fill_(float("nan"))
            yield recipe, module, outcome

    monkeypatch.setattr(pretraining, "train_recipes", diverging)
    failures = run_stage("models", plan, broken, SETTINGS)
    assert [failure.item for failure in failures] == [victim]
    assert len(broken.trained(plan)) == 2


def test_a_finished_zoo_is_adopted_and_assembled_to_the_same_bytes(built, plan, tmp_path):
    _, zoo = built
    shop = Workshop(tmp_path / "work")
    assert adopt_zoo(zoo, plan, shop, SETTINGS) == len(plan.recipes)
    assert tasks_to_measure(plan, shop, SETTINGS.truth) == []
    assert tasks_to_tune(plan, shop, SETTINGS.fine_tune) == []
    before = Provenance.read(zoo).content
    after = assemble(plan, shop, SETTINGS, tmp_path / "zoo")
    assert after["files"] == before["files"]
    for name in ("versions", "device", "models", "unknown", "clip"):
        assert json.loads(json.dumps(after[name])) == before[name]
    for one, other in zip(after["truth"]["generations"], before["truth"]["generations"], strict=True):
        assert one["seconds"] == pytest.approx(other["seconds"], abs=0.002)


def test_a_zoo_of_the_first_generation_is_only_measured_on_the_second(built, plan, tmp_path):
    _, zoo = built
    first = make_plan(0, SIZES.model_copy(update={"added_tasks": 0, "added_subtasks": 0}))
    shop = Workshop(tmp_path / "first")
    adopt_zoo(zoo, first, shop, SETTINGS)
    old = assemble(first, shop, SETTINGS, tmp_path / "old")
    assert [part["generation"] for part in old["truth"]["generations"]] == [1]
    shop = Workshop(tmp_path / "second")
    adopt_zoo(tmp_path / "old", plan, shop, SETTINGS)
    missing = tasks_to_measure(plan, shop, SETTINGS.truth)
    assert missing
    assert {sides.generation(task) for task in missing} == {2}
    assert run_stage("truth", plan, shop, SETTINGS) == []
    assert assemble(plan, shop, SETTINGS, tmp_path / "new")["files"] == Provenance.read(zoo).content["files"] | {
        "transferability_scores.parquet": mock.ANY  # Holds seconds.
    }


def test_models_of_another_recipe_are_not_adopted(built, tmp_path):
    _, zoo = built
    other = make_plan(0, SIZES.model_copy(update={"max_steps": 3}))
    shop = Workshop(tmp_path / "work")
    trained = [recipe for recipe in other.recipes if recipe.steps]
    assert adopt_zoo(zoo, other, shop, SETTINGS) == len(other.recipes) - len(trained)


def test_hashes_are_verified_on_load(built, plan, tmp_path):
    import shutil

    _, zoo = built
    record = Provenance.read(zoo).content
    assert verify_files(zoo) == len(record["files"])
    copy = tmp_path / "zoo"
    shutil.copytree(zoo, copy)
    victim = next((copy / "models").glob("*/*.safetensors"))
    changed = bytearray(victim.read_bytes())
    changed[-1] ^= 1
    victim.write_bytes(changed)
    name = victim.relative_to(copy).as_posix()
    with pytest.raises(ItemError, match=name):
        verify_files(copy)
    with pytest.raises(ItemError, match=name):
        committed_model(victim.parent.name, Provenance.read(copy), copy)
    row = recipe_row(next(recipe for recipe in plan.recipes if recipe.model_id == victim.parent.name))
    with pytest.raises(ItemError, match=name):
        load_backbone(row, copy)
    with pytest.raises(ItemError, match=name):
        open_model(row, copy)
    victim.unlink()
    with pytest.raises(ItemError, match="missing"):
        verify_files(copy, [f"models/{victim.parent.name}"])
    with pytest.raises(ItemError, match="not recorded"):
        verify_files(copy, ["models/nobody"])
    with pytest.raises(ItemError, match="no such model"):
        Provenance.read(zoo).recipe("nobody")
    (copy / "PROVENANCE.json").write_text("{")
    with pytest.raises(ItemError, match="not JSON"):
        Provenance.read(copy)
    with pytest.raises(ItemError, match="no provenance"):
        Provenance.read(tmp_path)


def test_a_model_and_its_truth_are_rebuilt_from_the_record(built, plan):
    shop, zoo = built
    provenance = Provenance.read(zoo)
    for recipe in plan.recipes[:2]:
        committed = committed_model(recipe.model_id, provenance, zoo)
        rebuilt = rebuild_model(recipe.model_id, provenance)
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found, expected = rebuilt(images), committed(images)
        # Half precision is all that differs on the same device.
        np.testing.assert_allclose(found, expected, atol=0.02 * float(expected.abs().max()) + 1e-3)
        task = plan.base_tasks[0]
        tasks = {task.dataset_id: task for task in plan.measured()}
        names = provenance.class_names(recipe.model_id)
        value = truth_value(as_backbone(committed, recipe.model_id, names), task, shop.images, tasks, SETTINGS.truth)
        records = pd.read_parquet(zoo / "performance_records.parquet")
        chosen = records[(records["model_id"] == recipe.model_id) & (records["dataset_id"] == task)]
        stored = chosen.loc[chosen["protocol"] == "linear_probe", "value"].mean()
        assert value == pytest.approx(stored, abs=0.01)


def test_images_drawn_by_processes_are_the_same():
    task = "shapes_filled"
    with Painter(2) as painter:
        painter.expect("pretrain", [task], 2)
        many = painter.pretraining([task], 2)[task]
    one = Painter().pretraining([task], 2)[task]
    np.testing.assert_array_equal(many[0], one[0])
    np.testing.assert_array_equal(many[1], one[1])
    assert many[2] == one[2]


def test_scores_keep_three_digits_and_gaps():
    table = pd.DataFrame(
        {
            "model_id": ["a", "b"],
            "dataset_id": "d",
            "method": "leep",
            "value": [-1.234567, np.nan],
            "seconds": [0.0, 0.0123456],
            "source": "s",
        }
    )
    found = compact_scores(table)
    assert found["value"][0] == pytest.approx(-1.23)
    assert np.isnan(found["value"][1])
    assert found["seconds"].tolist() == pytest.approx([0.0, 0.01])


def test_only_builds_pass_between_stages(plan):
    validate_build(ZooBuild(plan, Workshop(None), SETTINGS))
    with pytest.raises(ValueError, match="plan"):
        validate_build("nothing")
