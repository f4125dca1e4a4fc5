"""Learning from cells of several protocols, on simulated models whose truth is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from thesis_rec.base.files import load_arrays, save_arrays
from thesis_rec.knowledge.covariance import Covariance, standardised
from thesis_rec.knowledge.posterior import Cell, Scale
from thesis_rec.knowledge.protocols import (
    ANY,
    COLUMNS,
    NEW_KINDS,
    OWN,
    Domain,
    Protocol,
    ProtocolKnowledge,
    extend,
    fit_protocols,
    learn_domains,
    tasks_of,
)


def _world(models: int = 24, tasks: int = 14, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Cells under two protocols, descriptions, and each model's strength; every family is as strong as its corpus."""
    generator = np.random.default_rng(seed)
    corpus = generator.integers(0, 4, models)
    strength = 1.5 * (corpus - 1.5) + 0.4 * generator.normal(size=models)
    loading = generator.normal(size=models)
    rows = []
    for protocol, level, spread in (("linear_probe", 0.5, 0.5), ("zero_shot", -0.5, 0.8)):
        for task in range(tasks):
            factor = generator.normal()
            z = strength + 0.6 * loading * factor + 0.2 * generator.normal(size=models)
            values = Scale(0.1).value(level + 0.5 * generator.normal() + spread * z)
            rows += [(f"m{k:02d}", f"d{task}", protocol, "s", float(values[k]), np.nan) for k in range(models)]
    cells = pd.DataFrame(rows, columns=["model_id", "dataset_id", "protocol", "source", "value", "spread"])
    descriptions = pd.DataFrame(
        {
            "kind": "contrastive",
            "family": [f"f{k % 6}" for k in range(models)],
            "corpus": [f"c{one}" for one in corpus],
            "n_parameters": 1e8,
            "resolution": 224,
            "imagenet": np.nan,
        },
        index=[f"m{k:02d}" for k in range(models)],
    )
    return cells, descriptions[COLUMNS], strength


CLASSES = {f"d{task}": 10 for task in range(14)}


def test_protocols_are_one_gaussian_by_dense_algebra() -> None:
    """Level and spread of each protocol are its own; of a dataset's factors another protocol keeps a part."""
    generator = np.random.default_rng(5)
    covariance = Covariance(generator.normal(size=4), generator.normal(size=(4, 2)), generator.uniform(0.1, 0.5, 4))
    one = Protocol((0.3, 0.2), (0.7, 0.04), generator.normal(size=4), 9)
    other = Protocol((-0.5, 0.6), (0.4, 0.01), generator.normal(size=4), 9)
    names = [f"m{k}" for k in range(4)]
    known = ProtocolKnowledge(names, covariance, {"one": one, "other": other}, 0.6, {})
    belief = known.posterior(names, "one", 10)
    view = belief.views["other"]

    def expected(part: Protocol) -> tuple[np.ndarray, np.ndarray]:
        shape, slope = covariance.mean + part.offset, part.spread[0]
        common = slope**2 * (covariance.factor @ covariance.factor.T + np.diag(covariance.own))
        return part.level[0] + slope * shape, part.level[1] + part.spread[1] * np.outer(shape, shape) + common

    for mean, factor, own, part in (
        (belief.mean, belief.factor, belief.own, one),
        (view.mean, view.factor, view.own, other),
    ):
        np.testing.assert_allclose(mean, expected(part)[0])
        np.testing.assert_allclose(factor @ factor.T + np.diag(own), expected(part)[1])
    shared = 0.6 * one.spread[0] * other.spread[0] * covariance.factor @ covariance.factor.T
    np.testing.assert_allclose(belief.factor @ view.factor.T, shared)


def test_a_protocol_is_as_uncertain_as_a_new_task_of_it() -> None:
    """Levels' sample variance, and the error of their mean on top."""
    cells, descriptions, _ = _world()
    known = fit_protocols(cells, CLASSES, descriptions)
    _, _, values, _ = tasks_of(cells, CLASSES)
    _, level, spread = standardised(values)
    for place, protocol in enumerate(("linear_probe", "zero_shot")):
        for found, all_tasks in ((known.protocols[protocol].level, level), (known.protocols[protocol].spread, spread)):
            mine = all_tasks[14 * place : 14 * (place + 1)]
            assert found == pytest.approx((mine.mean(), mine.var(ddof=1) * (1 + 1 / 14)))


def test_untried_models_are_ranked_and_tries_sharpen() -> None:
    cells, descriptions, _ = _world()
    out = cells["dataset_id"] == "d0"
    knowledge = fit_protocols(cells[~out], CLASSES, descriptions)
    truth = cells[out & (cells["protocol"] == "linear_probe")].set_index("model_id")["value"]
    prior = knowledge.posterior(list(truth.index), "linear_probe", 10)
    before = kendalltau(truth, prior.mean).statistic
    assert before > 0.6
    tried = [Cell(model, float(truth[model])) for model in truth.index[:8]]
    after = prior.given(tried)
    rest = slice(8, None)
    assert np.abs(after.value() - truth)[rest].mean() < 0.7 * np.abs(prior.value() - truth)[rest].mean()
    low, high = prior.interval(0.9)
    assert ((low <= truth) & (truth <= high)).mean() > 0.7
    assert np.all(after.std[rest] < prior.std[rest])


def test_another_protocol_on_the_same_images_informs() -> None:
    cells, descriptions, _ = _world()
    generator = np.random.default_rng(5)
    # The same factor under both protocols: what zero-shot shows of a dataset holds for its probes.
    loading = generator.normal(size=24)
    rows = []
    for task in range(14):
        factor = generator.choice([-1.5, 1.5]) + 0.3 * generator.normal()
        for protocol in ("linear_probe", "zero_shot"):
            values = Scale(0.1).value(0.5 * loading * factor + 0.1 * generator.normal(size=24))
            rows += [(f"m{k:02d}", f"d{task}", protocol, "s", float(values[k]), np.nan) for k in range(24)]
    cells = pd.DataFrame(rows, columns=cells.columns)
    out = cells["dataset_id"] == "d0"
    knowledge = fit_protocols(cells[~out], CLASSES, descriptions)
    assert knowledge.kept > 0.9
    truth = cells[out].pivot_table(index="model_id", columns="protocol", values="value")
    prior = knowledge.posterior(list(truth.index), "linear_probe", 10)
    shown = [Cell(model, float(truth["zero_shot"][model]), protocol="zero_shot") for model in truth.index]
    before = np.abs(prior.value() - truth["linear_probe"]).mean()
    after = np.abs(prior.given(shown).value() - truth["linear_probe"]).mean()
    assert after < 0.7 * before


def test_a_protocol_that_tells_nothing_of_another_is_not_taken_for_it() -> None:
    cells, descriptions, _ = _world(tasks=60)
    knowledge = fit_protocols(cells, {f"d{task}": 10 for task in range(60)}, descriptions)
    assert knowledge.kept < 0.3


def test_a_model_without_cells_follows_its_description_with_a_wider_interval() -> None:
    cells, descriptions, _ = _world()
    weak, strong = descriptions.loc[["m00"]].copy(), descriptions.loc[["m00"]].copy()
    weak.index, strong.index = ["weak"], ["strong"]
    weak["corpus"], strong["corpus"], weak["family"], strong["family"] = "c0", "c3", "new", "new"
    knowledge = fit_protocols(cells, CLASSES, pd.concat([descriptions, weak, strong]))
    prior = knowledge.posterior(["weak", "strong", "m00", "nobody"], "linear_probe", 10)
    assert prior.model_ids == ["weak", "strong", "m00"]
    assert prior.mean[1] > prior.mean[0] + 0.3
    assert prior.std[:2].min() > prior.std[2]
    assert knowledge.figures("strong") == 0
    assert knowledge.figures("m00") == 28
    parts = [knowledge.figures("m00", protocol) for protocol in knowledge.protocols]
    assert sum(parts) == 28
    assert min(parts) > 0


def test_models_that_share_nothing_with_others_are_set_against_their_description() -> None:
    cells, descriptions, _ = _world()
    generator = np.random.default_rng(9)
    apart = descriptions.iloc[:6].copy()
    apart.index = [f"x{k}" for k in range(6)]
    apart["corpus"] = "c0"
    apart["family"] = "other"
    rows = [
        (f"x{k}", f"d{task}", "fine_tune", "s", 0.8 + 0.02 * k + 0.001 * generator.normal(), np.nan)
        for k in range(6)
        for task in range(8)
    ]
    more = pd.concat([cells, pd.DataFrame(rows, columns=cells.columns)])
    knowledge = fit_protocols(more, CLASSES, pd.concat([descriptions, apart]))
    rows_of = [knowledge.model_ids.index(f"x{k}") for k in range(6)]
    # Their order is that of their own cells; their level that of their corpus, not the average.
    assert kendalltau(range(6), knowledge.covariance.mean[rows_of]).statistic > 0.99
    assert knowledge.covariance.mean[rows_of].mean() < 0
    prior = knowledge.posterior(["x0", "x5", "m00"], "fine_tune", 10)
    assert prior.value()[1] > prior.value()[0] > 0.6
    # What their cells spread, over what their descriptions and each model alone make expected.
    described = knowledge.covariance.own[:24].mean()
    values = Scale(0.1).latent(0.8 + 0.02 * np.arange(6))
    assert knowledge.protocols["fine_tune"].spread[0] == pytest.approx(values.std() / np.sqrt(described), rel=0.1)


def test_what_a_model_scores_beyond_the_mean_under_a_protocol_is_its_offset_there() -> None:
    """In spreads of a task, nearly all of it after fourteen datasets."""
    cells, descriptions, _ = _world()
    plain = fit_protocols(cells, CLASSES, descriptions)
    zero_shot, lifted = cells["protocol"] == "zero_shot", cells["model_id"] == "m03"
    scale = Scale(0.1)
    cells.loc[zero_shot & lifted, "value"] = scale.value(scale.latent(cells["value"][zero_shot & lifted]) + 0.8)
    known = fit_protocols(cells, CLASSES, descriptions)
    offsets = {
        name: known.protocols[name].offset[known.row_of["m03"]] - plain.protocols[name].offset[plain.row_of["m03"]]
        for name in known.protocols
    }
    lift = 0.8 / known.protocols["zero_shot"].spread[0]
    assert offsets["zero_shot"] - offsets["linear_probe"] == pytest.approx(lift * 14 / (14 + 4), rel=0.1)
    # The mean of both protocols takes up some of it.
    assert offsets["zero_shot"] > 0.1 > -0.1 > offsets["linear_probe"]


def test_domains_are_told_in_spreads_of_a_task() -> None:
    """Half the spread of all tasks leaves what sets a domain apart as it is."""
    cells, descriptions, datasets = _two_domains()
    scale = Scale(0.1)
    closer = cells.assign(value=scale.value(0.5 + (scale.latent(cells["value"]) - 0.5) / 2))
    one, other = (
        learn_domains(fit_protocols(table, datasets["classes"], descriptions), table, datasets, descriptions["kind"])
        for table in (cells, closer)
    )
    assert other.protocols["linear_probe"].spread[0] == pytest.approx(0.5 * one.protocols["linear_probe"].spread[0])
    for domain in "ab":
        offsets = (known.domains["linear_probe", domain].offset for known in (one, other))
        np.testing.assert_allclose(*offsets, atol=1e-6)


def test_higher_imagenet_accuracy_is_expected_to_do_better_on_either_side_of_a_half() -> None:
    accuracy = np.array([0.2, 0.3, 0.4, 0.6, 0.7, 0.8])
    logit = np.log(accuracy / (1 - accuracy))
    names, new = [f"m{k}" for k in range(6)], ["low", "high"]
    table = pd.DataFrame({"kind": "k", "imagenet": [*accuracy, 0.35, 0.65]}, index=[*names, *new])
    known = Covariance(logit, np.zeros((6, 1)), np.full(6, 0.01))
    low, high = extend(names, known, np.full(6, 20), new, table).mean
    assert low < -0.3 < 0.3 < high


def test_models_that_are_described_alike_err_together() -> None:
    """What stays open of two models of one description is common to both but for what a model has for itself."""
    names, new = [f"m{k}" for k in range(6)], ["one", "twin"]
    table = pd.DataFrame({"kind": "k", "family": [*names, "new", "new"], "corpus": "c"}, index=[*names, *new])
    table = table.assign(n_parameters=1e8, resolution=224, imagenet=0.7)
    mean = np.linspace(-1, 1, 6)
    known = Covariance(mean, np.full((6, 1), 0.5), np.full(6, 0.01))
    found = extend(names, known, np.full(6, 20), new, table)
    variance = mean.var() + 0.25
    shared = found.factor[:, 1:] @ found.factor[:, 1:].T
    np.testing.assert_allclose(shared, found.open.mean() - OWN * variance, rtol=1e-6)
    np.testing.assert_allclose(found.own, 0.01 + OWN * variance, rtol=1e-6)


def test_stored_knowledge_answers_the_same(tmp_path: Path) -> None:
    cells, descriptions, _ = _world()
    knowledge = fit_protocols(cells, CLASSES, descriptions)
    save_arrays(tmp_path / "knowledge.npz", knowledge.arrays())
    again = ProtocolKnowledge.from_arrays(load_arrays(tmp_path / "knowledge.npz"))
    first, second = (one.posterior(["m03", "m01"], "zero_shot", 10) for one in (knowledge, again))
    np.testing.assert_allclose(first.value(), second.value(), atol=1e-5)
    with pytest.raises(KeyError):
        ProtocolKnowledge.from_arrays({"a": np.zeros(2)})


def test_tasks_of_few_models_are_left_out_and_errors_are_carried_along() -> None:
    cells, _, _ = _world(tasks=2)
    cells.loc[0, "spread"] = 0.01
    few = cells.assign(dataset_id="d9").iloc[:4]
    tasks, _, values, errors = tasks_of(pd.concat([cells, few]), CLASSES)
    assert "d9" not in set(tasks["dataset_id"])
    row = tasks.index[(tasks["dataset_id"] == "d0") & (tasks["protocol"] == "linear_probe")][0]
    assert errors[row, 0] == pytest.approx(0.01 * Scale(0.1).slope(cells["value"][0]))
    assert np.isnan(errors[row, 1])
    assert np.isfinite(values[row, 1])
    with pytest.raises(ValueError, match="no task"):
        fit_protocols(few, CLASSES, pd.DataFrame(columns=COLUMNS))


def _two_domains(per_domain: int = 12) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Cells, descriptions and datasets: half of the models do better on domain a, the others on domain b."""
    _, descriptions, _ = _world()
    generator = np.random.default_rng(3)
    likes = np.where(np.arange(24) % 2, 1.0, -1.0)
    strength, rows, datasets = generator.normal(size=24), [], {}
    for task in range(2 * per_domain):
        domain = "ab"[task % 2]
        datasets[f"d{task}"] = {"classes": 10, "domain": domain, "images": f"d{task}"}
        z = strength + 0.7 * (1 if domain == "a" else -1) * likes + 0.5 * generator.normal(size=24)
        values = Scale(0.1).value(0.5 + 0.5 * z)
        rows += [(f"m{k:02d}", f"d{task}", "linear_probe", "s", float(values[k]), np.nan) for k in range(24)]
    columns = ["model_id", "dataset_id", "protocol", "source", "value", "spread"]
    return pd.DataFrame(rows, columns=columns), descriptions, pd.DataFrame(datasets).T


def test_a_domain_that_is_told_ranks_its_left_out_datasets_better() -> None:
    cells, descriptions, datasets = _two_domains()
    gains = []
    for out in ("d0", "d1", "d2", "d3"):
        rest = cells[cells["dataset_id"] != out]
        known = learn_domains(
            fit_protocols(rest, datasets["classes"], descriptions), rest, datasets, descriptions["kind"]
        )
        assert known.domains["linear_probe", datasets.loc[out, "domain"]].n_datasets == 11
        truth = cells[cells["dataset_id"] == out].set_index("model_id")["value"]
        told, untold, unheard_of = (
            known.posterior(list(truth.index), "linear_probe", 10, domain)
            for domain in (datasets.loc[out, "domain"], None, "c")
        )
        gains.append(kendalltau(truth, told.mean).statistic - kendalltau(truth, untold.mean).statistic)
        np.testing.assert_array_equal(unheard_of.mean, untold.mean)
    assert min(gains) > 0.05


def test_what_sets_a_domain_apart_is_shrunk_by_the_number_of_its_images() -> None:
    """Without factors an offset is what is left of its datasets, summed, over their number and fifteen more."""
    cells, descriptions, datasets = _two_domains(3)
    datasets["images"] = ["x", "d1", "x", "d3", "d4", "d5"]
    known = fit_protocols(cells, datasets["classes"], descriptions)
    flat = Covariance(known.covariance.mean, np.zeros((24, 1)), known.covariance.own)
    # Level and spread of a task that may be anything are its regression on what is expected of the models.
    wide = Protocol((0.0, 1e9), (1.0, 1e9), known.protocols["linear_probe"].offset, 6)
    counts = {"linear_probe": np.full(24, 6)}
    plain = ProtocolKnowledge(known.model_ids, flat, {"linear_probe": wide}, 0.0, counts)
    found = learn_domains(plain, cells, datasets, descriptions["kind"]).domains["linear_probe", "a"]
    tasks, _, values, _ = tasks_of(cells, datasets["classes"])
    expected = flat.mean + wide.offset
    design = np.column_stack([np.ones(24), expected]) / np.sqrt(flat.own)[:, None]
    left = {}
    for dataset, row in zip(tasks["dataset_id"], values, strict=True):
        weights = np.linalg.lstsq(design, row / np.sqrt(flat.own), rcond=None)[0]
        left[dataset] = row - weights[0] - weights[1] * expected
    alike = (left["d0"] + left["d2"]) / 2
    np.testing.assert_allclose(found.offset, (alike + left["d4"]) / (2 + 15), atol=1e-6)
    assert found.n_datasets == 2


def _sure(models: int) -> np.ndarray:
    return np.zeros((models, len(NEW_KINDS)))


def test_stored_domains_are_laid_over_the_models_that_are_known() -> None:
    cells, descriptions, _ = _world()
    known = fit_protocols(cells, CLASSES, descriptions)
    offset = np.arange(24) / 24
    told = ProtocolKnowledge(**{**vars(known), "domains": {("zero_shot", "text"): Domain(offset, 3, _sure(24))}})
    arrays = told.domain_arrays()
    again = known.with_domains(arrays).domains["zero_shot", "text"]
    assert again.n_datasets == 3
    np.testing.assert_allclose(again.offset, offset, atol=1e-3)
    fewer = {**arrays, "model_ids": arrays["model_ids"][1:]}
    fewer |= {name: arrays[name][:, 1:] for name in ("offsets", "doubts")}
    offsets = dict(zip(known.model_ids, known.with_domains(fewer).domains["zero_shot", "text"].offset, strict=True))
    assert offsets[known.model_ids[0]] == 0
    assert offsets[known.model_ids[5]] == pytest.approx(5 / 24, abs=1e-3)


def _a_new_kind() -> tuple[ProtocolKnowledge, list[str], list[str]]:
    """Models of two kinds that were measured, and of a third and of none that anybody named that weren't."""
    cells, descriptions, datasets = _two_domains()
    names = list(descriptions.index[:24])
    kinds = pd.Series(["contrastive"] * 8 + ["captioning"] * 8 + ["supervised"] * 6 + [None] * 2, index=names)
    new = names[16:]
    rest = cells[~cells["model_id"].isin(new)]
    descriptions = descriptions.assign(kind=kinds)
    known = fit_protocols(rest, datasets["classes"], descriptions)
    return learn_domains(known, rest, datasets, kinds), new[:6], new[6:]


def test_models_of_a_kind_that_was_never_measured_are_expected_lower_and_less_surely() -> None:
    told, supervised, unnamed = _a_new_kind()
    plain = ProtocolKnowledge(**{**vars(told), "domains": {}})
    with_, without = (known.posterior(known.model_ids, "linear_probe", 10) for known in (told, plain))
    rows = {name: [told.model_ids.index(one) for one in names] for name, names in (("s", supervised), ("u", unnamed))}
    slope = told.protocols["linear_probe"].spread[0]
    lower, deviation = NEW_KINDS["supervised"]
    np.testing.assert_allclose((with_.mean - without.mean)[rows["s"]], slope * lower)
    widened = np.square(with_.std[rows["s"]]) - np.square(without.std[rows["s"]])
    # The unknown spread of the dataset multiplies the lower mean; beside it stands the kind's own doubt.
    assert (widened >= 0.99 * (slope * deviation) ** 2).all()
    np.testing.assert_allclose(with_.mean[rows["u"]], without.mean[rows["u"]])
    # It is shared: a try of one tells of the others of its kind, and of nobody else.
    one = supervised[0]
    high = float(with_.scale.value(with_.mean[rows["s"][0]] + 1.0))
    moved = with_.given([Cell(one, high)]).mean - with_.mean
    before = (
        without.given([Cell(one, float(without.scale.value(without.mean[rows["s"][0]] + 1.0)))]).mean - without.mean
    )
    assert (moved[rows["s"][1:]] > before[rows["s"][1:]] + 0.1).all()
    # Nor of models of another new kind.
    domain = told.domains["linear_probe", ANY]
    another = domain.doubt.copy()
    another[rows["s"][0]] = np.roll(another[rows["s"][0]], 1)
    apart = replace(told, domains={**told.domains, ("linear_probe", ANY): replace(domain, doubt=another)})
    alone = apart.posterior(told.model_ids, "linear_probe", 10)
    moved = alone.given([Cell(one, high)]).mean - alone.mean
    assert (moved[rows["s"][1:]] < before[rows["s"][1:]] + 0.05).all()
    again = plain.with_domains(told.domain_arrays()).posterior(told.model_ids, "linear_probe", 10)
    np.testing.assert_allclose(again.mean, with_.mean, atol=2e-3)
    np.testing.assert_allclose(again.std, with_.std, atol=2e-3)


def test_where_one_kind_alone_was_measured_kinds_are_not_compared() -> None:
    cells, descriptions, datasets = _two_domains()
    kinds = pd.Series("contrastive", index=descriptions.index[:16]).reindex(descriptions.index, fill_value="supervised")
    rest = cells[cells["model_id"].isin(descriptions.index[:16])]
    known = fit_protocols(rest, datasets["classes"], descriptions.assign(kind=kinds))
    assert ("linear_probe", ANY) not in learn_domains(known, rest, datasets, kinds).domains


def _prompts(failed: float, protocol: str = "zero_shot") -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Thirty datasets of one domain; on some of them prompts fail the best models, which lie ``failed`` spreads low."""
    generator = np.random.default_rng(0)
    z = np.linspace(-1, 1, 20) + 0.3 * generator.normal(size=(30, 20))
    z[:8, 17:] = -failed
    values, names = Scale(0.1).value(0.5 * z), [f"m{k:02d}" for k in range(20)]
    rows = [(name, f"d{t}", protocol, "s", values[t, k], np.nan) for t in range(30) for k, name in enumerate(names)]
    datasets = pd.DataFrame({"classes": 10, "domain": "a", "images": [f"d{t}" for t in range(30)]})
    cells = pd.DataFrame(rows, columns=["model_id", "dataset_id", "protocol", "source", "value", "spread"])
    return cells, pd.DataFrame(index=names, columns=COLUMNS), datasets.set_axis(datasets["images"])


def test_how_far_prompts_fail_is_not_held_against_models() -> None:
    """However low the failed values lie; where nothing is drawn in, they cost those models more the lower they lie."""
    means = {}
    for failed in (2.0, 4.0, 8.0):
        cells, descriptions, datasets = _prompts(failed)
        plain = fit_protocols(cells, datasets["classes"], descriptions)
        for name, known in (
            ("plain", plain),
            ("drawn in", learn_domains(plain, cells, datasets, descriptions["kind"])),
        ):
            mean = known.posterior(list(descriptions.index), "zero_shot", 10).mean
            means[name, failed] = ((mean - mean[:17].mean()) / mean[:17].std())[17:]
    np.testing.assert_allclose(means["drawn in", 8.0], means["drawn in", 4.0], atol=1e-3)
    assert (means["plain", 8.0] < means["plain", 2.0] - 0.05).all()
    assert (means["drawn in", 8.0] > means["plain", 8.0] + 0.05).all()


def test_low_values_of_linear_probes_count_as_they_are() -> None:
    cells, descriptions, datasets = _prompts(4.0, "linear_probe")
    known = learn_domains(
        fit_protocols(cells, datasets["classes"], descriptions), cells, datasets, descriptions["kind"]
    )
    assert set(known.domains) == {("linear_probe", "a")}


def test_what_holds_of_any_images_holds_where_a_domain_is_told_and_where_not() -> None:
    cells, descriptions, _ = _world()
    known = fit_protocols(cells, CLASSES, descriptions)
    any_images, told = np.linspace(0, 1, 24), np.linspace(1, 3, 24) ** 2
    domains = {
        ("zero_shot", ANY): Domain(any_images, 9, _sure(len(any_images))),
        ("zero_shot", "text"): Domain(told, 3, _sure(len(told))),
    }
    both = ProtocolKnowledge(**{**vars(known), "domains": domains})
    plain, unheard_of, text = (
        belief.posterior(known.model_ids, "zero_shot", 10, domain).mean
        for belief, domain in ((known, None), (both, "satellite"), (both, "text"))
    )
    slope = known.protocols["zero_shot"].spread[0]
    np.testing.assert_allclose(unheard_of - plain, slope * any_images)
    np.testing.assert_allclose(text - plain, slope * (any_images + told))
