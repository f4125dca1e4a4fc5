from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from tests.fabricated import DEVICE, fabricated_bundle, fabricated_posterior, tokens_of
from tests.models import tiny_models
from tests.models.states import save_sharded, small_state
from tests.truth.small_tasks import backbone, task_images
from thesis_rec.base.errors import ItemError
from thesis_rec.hardware.fingerprint import present_device
from thesis_rec.knowledge.posterior import Cell, View
from thesis_rec.models import model_sources
from thesis_rec.recommendation import trying
from thesis_rec.recommendation.asking import recommend_for
from thesis_rec.recommendation.bundle import PublishedBeliefs
from thesis_rec.recommendation.request import Asked, Request, image_row
from thesis_rec.recommendation.trying import (
    MB_PER_SECOND,
    REPEATED_NOISE,
    SCORE_IMAGES,
    costs_of,
    measured_before,
    measurer,
    noise_of_try,
    read_tries,
    score_models,
    store_try,
    try_models,
)


def recommendation(bundle=None, **wishes):
    bundle, new = bundle or fabricated_bundle(), tokens_of("mine", 3)
    belief = fabricated_posterior(bundle, new)
    return recommend_for(bundle, new, Request(device=DEVICE, **wishes), posterior=belief), belief


def _tries(tmp_path, count, probe, bundle=None):
    """Try ``count`` models, or for no time at all; ``probe`` is a function or the value that all models reach."""
    bundle = bundle or fabricated_bundle()
    wishes = {"probe_seconds": 1e-9} if count is None else {"probe": count}
    found, belief = recommendation(bundle, **wishes)
    value = probe if callable(probe) else lambda model: probe
    return answered(found, bundle, *try_models(found, bundle, asked(tmp_path), belief, probe=value))


def answered(found, bundle, belief, notes):
    """The answer after tries, and what is believed then."""
    after = recommend_for(bundle, tokens_of("mine", 3), found.options, posterior=belief)
    return replace(after, notes=tuple(notes)), belief


def asked(tmp_path):
    return Asked(image_row(tmp_path), tokens_of("mine", 3), 40)


def test_a_try_is_as_exact_as_its_test_images_are_many():
    """The binomial's standard deviation; near 0 and 1 that of a value of which a twentieth isn't sure."""
    assert noise_of_try(0.5, 100) == pytest.approx(0.05)
    assert noise_of_try(0.8, 400) == pytest.approx(0.02)
    assert noise_of_try(1.0, 500) == noise_of_try(0.0, 500) == pytest.approx(0.01)
    assert noise_of_try(0.5, 0) == REPEATED_NOISE < 0.05


def test_time_that_is_left_is_used(tmp_path):
    bundle = fabricated_bundle()
    found, belief = recommendation(bundle, probe_seconds=3600)
    after, _ = try_models(found, bundle, asked(tmp_path), belief, probe=lambda model: 0.5)
    assert sorted(after.tried) == sorted(found.table["model_id"])


def test_offline_what_is_on_this_machine_is_scored(tmp_path, monkeypatch):
    bundle = fabricated_bundle()
    found, belief = recommendation(bundle, score=3, offline=True)
    ranked = found.table["model_id"].tolist()
    there, seen = {*ranked[1:4], ranked[6]}, []
    monkeypatch.setattr(type(bundle), "on_this_machine", lambda self: there)
    monkeypatch.setattr(trying, "_probe_images", lambda row, n: (task_images("mine", 2), []))
    monkeypatch.setattr(trying, "score_models", lambda models, *_: dict.fromkeys(seen.extend(models) or ()))
    _, notes = try_models(found, bundle, asked(tmp_path), belief)
    assert seen == ranked[1:4]
    assert f"Offline: {len(ranked) - 4} models that aren't on this machine were not tried." in notes


def test_own_measurements_of_the_images_count_as_tries(tmp_path):
    cells = pd.DataFrame(
        [("m00", "mine", 0.9), ("m01", "mine", 0.8), ("m02", "other", 0.7), ("elsewhere", "mine", 0.6)],
        columns=["model_id", "dataset_id", "value"],
    )
    rows = pd.DataFrame({"dataset_id": ["mine", "other"], "source": [str(tmp_path), "/somewhere"]})
    learned = replace(fabricated_bundle(), performance=cells, datasets=rows)
    published = replace(learned, knowledge=PublishedBeliefs(learned.knowledge, twins={"elsewhere": "m05"}))
    found, notes = measured_before(published, asked(tmp_path), [Cell("m01", 0.5, 0.1)])
    assert found == [Cell("m00", 0.9, REPEATED_NOISE), Cell("m05", 0.6, REPEATED_NOISE)]
    assert notes == [
        "Your own measurements of 2 models on these images count as tries (measure again if they changed)."
    ]
    # So they do where images are looked at, but never those of a task that is drawn, whatever its name.
    found, notes = measured_before(learned, asked(tmp_path), [])
    assert [cell.model_id for cell in found] == ["m00", "m01"]
    assert "Your own measurements of 2 models on these images count as tries (measure again if they changed)." in notes
    drawn = pd.DataFrame({"dataset_id": [tmp_path.name], "source": [str(tmp_path)], "loader": ["generated"]})
    shipped = replace(learned, datasets=drawn, performance=cells.assign(dataset_id=tmp_path.name))
    assert measured_before(shipped, asked(tmp_path), []) == ([], [])
    # By their name where no dataset is listed with these images, but not where another one has the name.
    named = replace(published, datasets=rows.iloc[1:], performance=cells.assign(dataset_id=tmp_path.name))
    assert [cell.model_id for cell in measured_before(named, asked(tmp_path), [])[0]] == ["m00", "m01", "m02", "m05"]
    taken = replace(named, datasets=rows.assign(dataset_id=["mine", tmp_path.name], source="/somewhere"))
    assert measured_before(taken, asked(tmp_path), []) == (
        [], [f"Your own measurements are of other images ({tmp_path.name}): they don't count here."],
    )  # fmt: skip
    # Other images have come into their folder: those of other classes are other images.
    for classes, count in ((4, 2), (5, 0)):
        encoded = replace(learned, tokens=learned.tokens | {"mine": tokens_of("mine", 3, classes=classes)})
        found, notes = measured_before(encoded, asked(tmp_path), [])
        assert len(found) == count
        assert any("mine are of another number of classes than there is now" in note for note in notes) == (not count)
    # A name that the zoo doesn't list isn't passed over in silence.
    mistyped = replace(published, performance=cells.iloc[:1].assign(model_id="mOO"))
    none, (note,) = measured_before(mistyped, asked(tmp_path), [])
    assert not none
    assert note == "Measurements of mOO don't count: the zoo starter has no such models."


def test_images_with_nothing_to_test_on_are_a_note_and_the_answer_stays(tmp_path):
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), colour).save(tmp_path / name / "only.png")
    found, belief = recommendation(probe=2)
    same, (note,) = try_models(found, fabricated_bundle(), asked(tmp_path), belief)
    assert same is belief
    assert note.startswith("No candidate could be tried: ")
    assert "no images in the split 'test'" in note


def test_folders_and_npz_files_are_recognised(tmp_path):
    assert image_row(tmp_path).loader == "folder"
    np.savez(tmp_path / "x.npz", images=np.zeros(1))
    row = image_row(tmp_path / "x.npz")
    assert (row.loader, row.dataset_id) == ("npz", "x")
    with pytest.raises(ItemError, match="no such folder or file"):
        image_row(tmp_path / "absent")
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ItemError, match="neither a folder nor an NPZ"):
        image_row(tmp_path / "a.txt")


def test_probing_finds_the_best_model_the_prior_missed(tmp_path, caplog):
    caplog.set_level("INFO", logger="thesis_rec")
    table = recommendation()[0].table
    truth = dict(zip(table["model_id"], table["predicted_value"], strict=True))
    # One model is far better than predicted.
    truth["m00"] = 0.97
    sharper, belief = _tries(tmp_path, len(truth), truth.get)
    assert sharper.table["model_id"].iloc[0] == "m00"
    assert {cell.model_id: cell.value for cell in belief.cells} == truth
    assert sharper.table["rank"].tolist() == list(range(1, len(truth) + 1))
    steps = [message for message in caplog.messages if message.startswith("tried ")]
    assert len(steps) == len(truth)
    assert "best so far m00" in steps[-1]
    assert sharper.notes[-1].startswith("Trying took ")


def test_a_try_narrows_its_interval_and_the_budget_stops(tmp_path):
    before = recommendation()[0].table.set_index("model_id")["predicted_std"]
    sharper, belief = _tries(tmp_path, 2, 0.5)
    names = [cell.model_id for cell in belief.cells]
    assert len(names) == 2
    after = sharper.table.set_index("model_id")["predicted_std"]
    assert (after[names] < before[names]).all()
    assert sharper.table["value_high"].le(1).all()
    none, same = _tries(tmp_path, None, 0.5)
    assert not same.cells
    assert none.table["model_id"].tolist() == recommendation()[0].table["model_id"].tolist()


def test_a_try_is_a_linear_probe_whatever_is_predicted(tmp_path):
    bundle = fabricated_bundle()
    bundle = replace(bundle, manifest=bundle.manifest.assign(loader="open_clip"))
    found, belief = recommendation(bundle, probe=3, protocol="zero_shot")
    # Probes lie far above what is predicted, and tell of it through what both have in common.
    probes = View(belief.mean + 3, belief.factor, belief.own, belief.scale)
    with_probes = replace(belief, views={"linear_probe": probes})
    tried = try_models(found, bundle, asked(tmp_path), with_probes, probe=lambda model: 0.97)
    told, after = answered(found, bundle, *tried)
    names = [cell.model_id for cell in after.cells]
    assert len(set(names)) == 3
    assert {cell.protocol for cell in after.cells} == {"linear_probe"}
    expected = replace(belief, views={"linear_probe": probes}).given(
        [Cell(name, 0.97, cell.noise, "linear_probe") for name, cell in zip(names, after.cells, strict=True)]
    )
    values = dict(zip(expected.model_ids, expected.value(), strict=True))
    assert told.table.set_index("model_id")["predicted_value"].to_dict() == pytest.approx(values)
    assert max(values[name] for name in names) < 0.96


def test_a_try_costs_its_download_and_its_passes():
    table = pd.DataFrame({"model_id": ["a", "b", "c"], "download_mb": [100.0, 0.0, np.nan], "latency_ms": [1.0, 1, 10]})
    costs = costs_of(table, 1000)
    assert costs["a"] - costs["b"] == pytest.approx(100 / MB_PER_SECOND)
    # What nobody counted costs as much as the dearest.
    assert costs["c"] - costs["a"] == pytest.approx(9.0)


@pytest.mark.parametrize("told", ["asked", "variable", "unreachable"])
def test_offline_only_what_is_here_is_tried(tmp_path, monkeypatch, told):
    """Tries went to models that couldn't be fetched where nobody asked for --offline."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", told == "variable")
    monkeypatch.setattr(model_sources, "hub_answers", lambda: told == "asked")
    monkeypatch.setattr(trying, "_probe_images", lambda row, n: (task_images("mine", 3), []))
    monkeypatch.setattr(trying, "linear_prober", lambda *_: lambda model: 0.5)
    bundle = fabricated_bundle()
    manifest = bundle.manifest.assign(source=[f"hf-hub:org/{m}" for m in bundle.manifest["model_id"]])
    tiny_models.fill_hub_cache(tmp_path / "hub", "org/m07", save_sharded(small_state(), tmp_path / "m07"))
    bundle = replace(bundle, manifest=manifest, hub_cache=str(tmp_path))
    assert bundle.on_this_machine() == {"m07"}
    found, belief = recommendation(bundle, probe=3, offline=told == "asked")
    # Nor is anything of it left to download.
    sizes = found.table.set_index("model_id")["download_mb"]
    assert sizes["m07"] == 0
    assert (sizes.drop("m07") > 0).all()
    belief, notes = try_models(found, bundle, asked(tmp_path), belief)
    assert [cell.model_id for cell in belief.cells] == ["m07"]
    assert any(note.startswith("Offline: 23 models") for note in notes)


def test_an_interrupt_keeps_what_was_learned(tmp_path):
    calls = []

    def probe(model_id):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(model_id)
        return 0.9

    sharper, belief = _tries(tmp_path, 9, probe)
    assert [cell.model_id for cell in belief.cells] == calls
    assert any("interrupted" in note for note in sharper.notes)


def test_a_model_that_can_t_be_run_is_passed_over(tmp_path, caplog):
    caplog.set_level("INFO", logger="thesis_rec")
    best = recommendation()[0].table["model_id"].iloc[0]

    def probe(model_id):
        if model_id == best:
            raise ItemError(model_id, "is damaged.", "")
        return 0.6

    sharper, belief = _tries(tmp_path, 4, probe, fabricated_bundle())
    assert f"tried {best}: failed; best so far" in next(m for m in caplog.messages if m.startswith("tried "))
    assert len(belief.cells) == 3
    assert f"{best} couldn't be tried: is damaged." in sharper.notes


def test_bare_weights_cost_no_try(tmp_path):
    bundle = fabricated_bundle()
    best = recommendation(bundle)[0].table["model_id"].iloc[0]
    loaders = np.where(bundle.manifest["model_id"] == best, "local", bundle.manifest["loader"])
    sharper, belief = _tries(tmp_path, 3, 0.6, replace(bundle, manifest=bundle.manifest.assign(loader=loaders)))
    assert len(belief.cells) == 3
    assert best not in [cell.model_id for cell in belief.cells]
    assert any(note.startswith(f"{best} can't be tried: ") for note in sharper.notes)


def test_a_try_is_kept_for_later_requests_on_the_same_images(tmp_path):
    bundle = replace(fabricated_bundle(), tries=tmp_path / "deep" / "tries.csv")
    _, belief = _tries(tmp_path, 2, 0.7, bundle)
    kept, _ = read_tries(bundle.tries, asked(tmp_path), bundle.weights_of)
    assert [(cell.model_id, cell.value) for cell in kept] == [(cell.model_id, cell.value) for cell in belief.cells]
    assert kept[0].noise == pytest.approx(belief.cells[0].noise, abs=1e-6)
    (tmp_path / "added.png").write_bytes(b"another image")
    assert read_tries(bundle.tries, asked(tmp_path), bundle.weights_of) == ([], [])

    # Whatever happens to them in the meantime, tries are of the images that were asked about.
    def probe(model_id):
        (tmp_path / "later.png").write_bytes(b"written while a model is tried")
        return 0.7

    bundle = replace(bundle, tries=tmp_path / "changed.csv")
    _tries(tmp_path, 2, probe, bundle)
    assert read_tries(bundle.tries, asked(tmp_path), bundle.weights_of) == ([], [])
    # A file that can't be written is a note; the try counts all the same.
    (tmp_path / "file").write_text("")
    found, belief = _tries(tmp_path, 1, 0.7, replace(bundle, tries=tmp_path / "file" / "tries.csv"))
    assert len(belief.cells) == 1
    assert any("couldn't be kept" in note for note in found.notes)


def test_a_try_of_weights_that_were_replaced_since_does_not_count(tmp_path):
    images, root = tmp_path / "images", tmp_path / "zoo"
    images.mkdir()
    bundle = replace(fabricated_bundle(), tries=tmp_path / "tries.csv", models_root=root)
    for model in bundle.models.model_ids:
        (root / "models" / model).mkdir(parents=True)
        (root / "models" / model / "model.safetensors").write_bytes(b"first")
    _, belief = _tries(images, 2, 0.7, bundle)
    changed, same = (cell.model_id for cell in belief.cells)
    assert len(read_tries(bundle.tries, asked(images), bundle.weights_of)[0]) == 2
    (root / "models" / changed / "model.safetensors").write_bytes(b"trained again")
    (cell,), (note,) = read_tries(bundle.tries, asked(images), bundle.weights_of)
    assert cell.model_id == same
    assert note.startswith(f"Earlier tries of {changed} were of other weights")
    # Nothing is said of models that the zoo no longer lists.
    fewer = replace(bundle, manifest=bundle.manifest[bundle.manifest["model_id"] != changed])
    assert read_tries(fewer.tries, asked(images), fewer.weights_of) == ([cell], [])
    # A model of the hub is told by its revision.
    hub = bundle.manifest.assign(source="hf-hub:a/b")
    at = [replace(bundle, manifest=hub.assign(revision=name), tries=tmp_path / "hub.csv") for name in ("v1", "v2")]
    _tries(images, 1, 0.7, at[0])
    assert [len(read_tries(one.tries, asked(images), one.weights_of)[0]) for one in at] == [1, 0]


def test_requests_that_try_at_the_same_time_keep_all_tries(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    bundle = replace(fabricated_bundle(), tries=tmp_path / "tries.csv")
    cells = [Cell(model, 0.5, 0.1) for model in bundle.models.model_ids]
    with ThreadPoolExecutor(8) as pool:
        assert not [
            note for notes in pool.map(lambda cell: store_try(bundle, "a", cell, 9, 1.0), cells) for note in notes
        ]
    assert set(pd.read_csv(bundle.tries)["model_id"]) == set(bundle.models.model_ids)


@pytest.mark.parametrize("content", ["", "images,model\na,b\n", 'images,model_id\n"a', "\x00\xff"])
def test_a_damaged_file_of_tries_is_a_note_and_stays_as_it_is(tmp_path, content):
    bundle = replace(fabricated_bundle(), tries=tmp_path / "tries.csv")
    bundle.tries.write_bytes(content.encode("latin-1"))
    cells, (note,) = read_tries(bundle.tries, asked(tmp_path), bundle.weights_of)
    assert cells == []
    assert note.startswith(f"{bundle.tries} can't be read (")
    found, belief = _tries(tmp_path, 1, 0.7, bundle)
    assert len(belief.cells) == 1
    assert any("couldn't be kept" in line for line in found.notes)
    assert bundle.tries.read_bytes() == content.encode("latin-1")


def test_a_try_without_a_usable_value_is_named_and_the_others_count(tmp_path):
    bundle = replace(fabricated_bundle(), tries=tmp_path / "deep" / "tries.csv")
    _tries(tmp_path, 3, 0.7, bundle)
    table = pd.read_csv(bundle.tries, dtype=str)
    table.loc[0, "value"] = ""
    table.loc[1, "noise"] = "nan"
    table.to_csv(bundle.tries, index=False)
    before = bundle.tries.read_text()
    (cell,), (note,) = read_tries(bundle.tries, asked(tmp_path), bundle.weights_of)
    assert cell.model_id == table["model_id"][2]
    assert f"{table['model_id'][0]}, {table['model_id'][1]}" in note
    # What is added changes nothing of what is there.
    _tries(tmp_path, 1, 0.7, bundle)
    assert bundle.tries.read_text().startswith(before)


def test_models_that_can_t_be_loaded_are_not_measured(tmp_path, caplog):
    bundle = replace(fabricated_bundle(), models_root=tmp_path)
    measure = measurer(bundle, Request(), "cpu")
    assert measure("m00") is None
    assert measure("no such model") is None
    assert "m00 can't be measured here" in caplog.text


def test_models_of_the_hub_are_measured_without_their_weights_where_that_is_asked_for(monkeypatch, caplog):
    import timm

    bundle = fabricated_bundle()
    rows = bundle.manifest.head(3).assign(
        model_id=["timm/test_resnet.r160_in1k", "timm/no_such_net.in1k", "somebody/net"],
        loader=["timm", "timm", "transformers"],
        source=["hf-hub:timm/test_resnet.r160_in1k", "hf-hub:timm/no_such_net.in1k", "hf-hub:somebody/net"],
    )
    bundle = replace(bundle, manifest=pd.concat([bundle.manifest, rows]))
    fetched = []

    def load(row, *_):
        fetched.append(row.model_id)
        raise OSError("no network")

    monkeypatch.setattr("thesis_rec.models.loaders.load_backbone", load)
    assert measurer(bundle, Request(), "cpu")("timm/test_resnet.r160_in1k") is None
    measure = measurer(bundle, Request(measure=True), "cpu")
    measured = measure("timm/test_resnet.r160_in1k")
    network = timm.create_model("test_resnet")
    assert measured["n_parameters"].iloc[0] == sum(weight.numel() for weight in network.parameters())
    assert measured["latency_ms_p50"].iloc[0] > 0
    assert not fetched
    # What the library doesn't make from a name needs its files, which nobody asked to download; that is no failure.
    assert measure("timm/no_such_net.in1k") is None
    assert measure("somebody/net") is None
    assert not fetched
    assert "can't be measured" not in caplog.text


def test_the_present_device_has_a_name():
    device, name = present_device()
    assert name.startswith(device)


def save_images(folder, n_classes=3, n=12, size=20):
    rng = np.random.default_rng(0)
    for c in range(n_classes):
        (folder / f"class_{c}").mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(0, 80, (size, size, 3)).astype(np.uint8)
            pixels[..., c % 3] += 120
            Image.fromarray(pixels).save(folder / f"class_{c}" / f"{i}.png")
    return folder


def test_a_linear_probe_of_a_real_model_on_real_files(tmp_path, monkeypatch):
    import torch

    from tests.pipelines.hardware_profiling.test_hardware_profiling_pipeline import save_tiny_model
    from thesis_rec.recommendation.request import _sample
    from thesis_rec.recommendation.trying import PROBE_DRAWS, _probe_images, linear_prober, model_loader
    from thesis_rec.truth import cells
    from thesis_rec.truth.linear_probe import probe_accuracies

    torch.manual_seed(0)
    save_tiny_model(tmp_path / "models" / "m00", width=48)
    bundle = replace(fabricated_bundle(), models_root=tmp_path, hub_cache=str(tmp_path))
    row = image_row(save_images(tmp_path / "images"))
    images, told = _probe_images(row, 3)
    assert not told
    solved = []
    monkeypatch.setattr(cells, "probe_accuracies", lambda *given: solved.append(probe_accuracies(*given)) or solved[-1])
    value = linear_prober(images, "cpu", model_loader(bundle, "cpu"))("m00")
    assert solved[0].shape == (1, PROBE_DRAWS)
    assert value == pytest.approx(float(solved[0].mean()))
    # The classes are three colours: any network separates them.
    assert value > 0.8
    measured = measurer(bundle, Request(batch_size=2), "cpu")("m00")
    assert measured["batch_size"].tolist() == [2]
    assert measured["latency_ms_p50"].iloc[0] > 0

    from pathlib import Path

    from tests.images.opening import open_split

    sample = _sample(open_split(row, "train", Path()), 0, [])
    assert len(sample) == 12
    assert {name for _, name in sample} == {"class_0", "class_1", "class_2"}


@pytest.mark.parametrize(("n_classes", "of_each"), [(3, 60), (50, 54), (110, 24), (200, 24)])
def test_of_many_classes_a_try_sees_fewer_images_of_each(tmp_path, n_classes, of_each):
    """Those of a hundred classes fit into memory only as thumbnails, which tell small networks' worth alone."""
    from thesis_rec.recommendation.trying import _probe_images

    labels = np.repeat(np.arange(n_classes), 64)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4, 3), dtype=np.uint8)
    arrays = {"train_images": pixels, "train_labels": labels, "test_images": pixels, "test_labels": labels}
    np.savez(tmp_path / "d.npz", **arrays)
    images, _ = _probe_images(image_row(tmp_path / "d.npz"), n_classes)
    assert np.bincount(images.train_labels).tolist() == [of_each] * n_classes
    assert np.bincount(images.test_labels).tolist() == [of_each] * n_classes


def test_a_score_sees_some_training_images_and_tells_models_apart():
    images = task_images("mine", 3, per_class=SCORE_IMAGES + 9)
    sees, blind, seen = backbone(), backbone(), []

    def of_no_image(batch):
        seen.append(len(batch))
        return torch.randn(len(batch), 8, generator=torch.Generator().manual_seed(len(seen)))

    models = {"sees": sees, "blind": replace(blind, features=of_no_image)}

    def load(model):
        if model not in models:
            raise ItemError(model, "is damaged.", "")
        return models[model]

    notes = []
    found = score_models(["sees", "gone", "blind"], images, "cpu", load, notes)
    assert list(found) == ["sees", "blind"]
    assert found["sees"] > found["blind"]
    assert sum(seen) == 3 * SCORE_IMAGES
    assert notes == ["gone couldn't be scored: is damaged."]


def test_an_interrupt_keeps_the_scores_until_then():
    def load(model):
        if model == "second":
            raise KeyboardInterrupt
        return backbone()

    notes = []
    assert list(score_models(["first", "second", "third"], task_images("mine", 2), "cpu", load, notes)) == ["first"]
    assert "interrupted" in notes[0]
