from collections import Counter
from itertools import pairwise

import pytest

from thesis_rec.starter.architectures import ARCHITECTURES, FAMILIES
from thesis_rec.starter.recipes import BUDGETS, ModelRecipe, default_sources, model_recipes

FAMILY_TASKS = {f"family{i}": [f"f{i}t{j}" for j in range(4)] for i in range(15)}
FOREIGN = ["u0", "u1", "u2"]


@pytest.fixture(scope="module")
def recipes():
    return model_recipes(FAMILY_TASKS, FOREIGN)


def test_the_zoo_is_large_and_crossed(recipes):
    assert len(recipes) >= 264
    assert len({r.model_id for r in recipes}) == len(recipes)
    sources = Counter(r.source.name for r in recipes)
    assert len(sources) >= 20
    assert min(sources.values()) >= 4
    for source in sources:
        assert len({r.family for r in recipes if r.source.name == source}) >= 4
    assert {r.steps for r in recipes} == {0, *BUDGETS}
    per_family = Counter(r.family for r in recipes)
    assert set(per_family) == set(FAMILIES)
    assert len(set(per_family.values())) == 1
    for family in FAMILIES:
        own = [r for r in recipes if r.family == family]
        assert sum(r.source.objective == "none" for r in own) == 1
        assert sum(r.source.objective in ("rotate", "contrast") for r in own) == 2
        assert sum(not r.source.known for r in own) == 3
        assert len({r.weight_decay for r in own}) == len({r.label_smoothing for r in own}) == 2
        assert {r.augment for r in own} == {True, False}


def test_recipes_are_the_same_every_time_and_go_through_json(recipes):
    assert model_recipes(FAMILY_TASKS, FOREIGN) == recipes
    assert model_recipes(FAMILY_TASKS, FOREIGN, seed=1) != recipes
    for recipe in recipes[::20]:
        assert ModelRecipe.from_dict(recipe.as_dict()) == recipe
        assert recipe.model_id == f"{recipe.architecture}__{recipe.source.name}__{recipe.steps}"
        assert recipe.architecture in ARCHITECTURES


def test_mixtures_span_families(recipes):
    mixtures = {r.source for r in recipes if r.source.objective == "classify" and len(r.source.tasks) > 1}
    assert len(mixtures) == 9
    for source in mixtures:
        families = [task.split("t")[0] for task in source.tasks]
        assert len(set(families)) == len(families) >= 2
        assert source.known


def test_real_sources_respect_the_sides():
    from thesis_rec.starter import sides

    families, unknown = default_sources()
    tasks = [task for members in families.values() for task in members]
    assert not set(tasks) & set(sides.REFERENCE_TASKS)
    assert not set(families) & {"digits", *sides.UNKNOWN_TASK_FAMILIES, *sides.ADDED_TASK_FAMILIES}
    for recipe in model_recipes():
        inside = set(recipe.source.tasks) <= set(tasks)
        assert inside == recipe.source.known
        assert recipe.source.known or set(recipe.source.tasks) <= set(unknown)
        assert set(recipe.model_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")


def test_budgets_rise():
    assert all(low < high for low, high in pairwise(BUDGETS))
