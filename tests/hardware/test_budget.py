from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from thesis_rec.hardware.budget import (
    MOST_VALUES,
    Budget,
    closest_relaxations,
    excesses,
    feasible,
    pareto_front,
    unknown_figures,
    unknown_values,
)


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model_id": ["small", "middle", "large", "unmeasured"],
            "latency_ms_safe": [1.0, 4.0, 9.0, np.nan],
            "throughput_safe": [1000.0, 250.0, 111.0, np.nan],
            "memory_mb_safe": [10.0, 20.0, 200.0, np.nan],
            "n_parameters": [1e4, 1e5, 1e6, 1e5],
            "licence": ["MIT", "apache-2.0", "unknown", "mit"],
            "family": ["resnet", "vit", "vit", "resnet"],
        }
    )


def test_no_limit_lets_everything_in():
    mask, reasons = feasible(table(), Budget())
    assert mask.all()
    assert reasons.eq("").all()
    assert excesses(table(), Budget()).shape[1] == 0


def test_each_limit_excludes_and_is_named():
    mask, reasons = feasible(table(), Budget(max_latency_ms=4, max_memory_mb=15))
    assert mask.tolist() == [True, False, False, False]
    assert reasons.tolist() == ["", "max_memory_mb", "max_latency_ms, max_memory_mb", "max_latency_ms, max_memory_mb"]
    assert feasible(table(), Budget(min_throughput=200))[0].tolist() == [True, True, False, False]
    assert feasible(table(), Budget(max_parameters=1e5))[0].tolist() == [True, True, False, True]
    assert feasible(table(), Budget(licences=("mit",)))[0].tolist() == [True, False, False, True]
    assert feasible(table(), Budget(families=("ViT",)))[0].tolist() == [False, True, True, False]


def test_relaxing_one_limit_is_enough():
    found = closest_relaxations(table(), Budget(max_latency_ms=0.5, licences=("mit",)))
    assert found[0].changes == {"max_latency_ms": 1.0}
    assert found[0].model_ids == ["small"]
    assert found[0].factor == pytest.approx(2.0)
    assert str(found[0]) == "--max-latency-ms 1 (then small fits)"


@pytest.mark.parametrize(
    ("limit", "asked", "advised"), [("max_latency_ms", 0.5, 1.24), ("min_throughput", 2000.0, 987.0)]
)
def test_advice_has_three_digits_and_the_model_keeps_it(limit, asked, advised):
    models = table().head(1).assign(latency_ms_safe=1.23123, throughput_safe=987.654)
    (only,) = closest_relaxations(models, Budget(**{limit: asked}))
    assert only.changes == {limit: advised}
    assert feasible(models, Budget(**only.changes))[0].all()


def test_a_rule_is_relaxed_to_what_the_fitting_models_have():
    found = closest_relaxations(table(), Budget(max_latency_ms=5, licences=("bsd-3",)))
    assert found[-1].changes == {"licences": ("MIT", "apache-2.0")}
    assert found[-1].model_ids == ["small", "middle"]
    assert "--licence MIT --licence apache-2.0" in str(found[-1])


def test_several_limits_are_relaxed_together_when_one_is_not_enough():
    found = closest_relaxations(table(), Budget(max_latency_ms=0.1, max_parameters=1e3))
    assert [relaxation.changes for relaxation in found] == [{"max_latency_ms": 1.0, "max_parameters": 10000.0}]
    assert found[0].factor == pytest.approx(10.0)


def test_nothing_can_be_relaxed_when_nothing_is_known():
    unknown = table().iloc[[3]].assign(n_parameters=np.nan)
    assert closest_relaxations(unknown, Budget(max_latency_ms=1)) == []


# A busy machine is no error.
@given(
    st.floats(0.01, 100), st.floats(0.01, 1e5), st.floats(0.01, 1e4), st.floats(1, 1e8),
)  # fmt: skip
def test_the_relaxed_budget_lets_the_named_models_in(latency, throughput, memory, parameters):
    budget = Budget(max_latency_ms=latency, min_throughput=throughput, max_memory_mb=memory, max_parameters=parameters)
    figures = table()
    if feasible(figures, budget)[0].any():
        return
    found = closest_relaxations(figures, budget)
    assert found
    for relaxation in found:
        changed = Budget(**{**budget.limits, **relaxation.changes})
        mask, _ = feasible(figures, changed)
        assert set(relaxation.model_ids) <= set(figures["model_id"][mask])


def test_impossible_limits_are_refused():
    with pytest.raises(ValidationError, match=r"max_latency_ms\n.*greater than 0"):
        Budget(max_latency_ms=-1)
    with pytest.raises(ValidationError, match="batch_size"):
        Budget(batch_size=0)
    assert not Budget(max_parameters=5).needs_clock
    assert Budget(max_memory_mb=5).needs_clock


def test_a_slip_of_the_pen_is_told_with_the_known_values():
    table = pd.DataFrame({"licence": ["mit", "MIT", "Apache-2.0"], "family": ["ResNet", "ResNet", "ViT"]})
    found = unknown_values(table, Budget(families=("resnett", "vit"), licences=("gpl",)))
    assert found == [
        "no model has the licence 'gpl'. Known are mit, apache-2.0.",
        "no model has the family 'resnett'. Did you mean resnet? Known are resnet, vit.",
    ]
    assert unknown_values(table, Budget(families=("RESNET",))) == []
    # A part of names, or more than a name, is nearer than what is spelled alike.
    table = pd.DataFrame({"family": ["clip_vit", "clip_vit", "clip_resnet", "blip", "vit"], "licence": "mit"})
    part, more = unknown_values(table, Budget(families=("clip", "ViT-B")))
    assert "Did you mean clip_vit or clip_resnet? Known" in part
    assert "Did you mean vit? Known" in more


def test_a_limit_that_nothing_can_be_held_against_is_a_note():
    table = pd.DataFrame({"memory_mb_safe": [np.nan, np.nan], "latency_ms_safe": [np.nan, 3.0]})
    (note,) = unknown_figures(table, Budget(max_memory_mb=600, max_latency_ms=5))
    assert note.startswith("--max-memory-mb 600 can't be checked: no such figure of any model is known here")
    assert unknown_figures(table.iloc[:0], Budget(max_memory_mb=600)) == []


points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25)


# A busy machine is no error.
@given(points)
def test_front_is_what_no_point_dominates(found):
    cost = np.array([c for c, _ in found], dtype=float)
    value = np.array([v for _, v in found], dtype=float)
    expected = [
        not any((c2 <= c and v2 >= v) and (c2 < c or v2 > v) for c2, v2 in found) for c, v in found
    ]  # fmt: skip
    assert pareto_front(cost, value).tolist() == expected


def test_unknown_figures_are_never_on_the_front():
    assert pareto_front([1.0, np.nan, 3.0], [0.1, 0.9, np.nan]).tolist() == [True, False, False]


@pytest.mark.parametrize("count", [3, MOST_VALUES, MOST_VALUES + 1, 40])
def test_a_rule_goes_away_where_too_many_values_would_have_to_be_named(count):
    models = pd.DataFrame({"model_id": [f"m{i}" for i in range(count)], "family": [f"f{i}" for i in range(count)]})
    (only,) = closest_relaxations(models.assign(licence="mit"), Budget(families=("typo",)))
    assert only.changes == {"families": tuple(sorted(models["family"])) if count <= MOST_VALUES else ()}
    assert str(only).startswith("--family f0 --family f1" if count <= MOST_VALUES else "no --family (then m0")


@pytest.mark.parametrize("given", ["mit bsd-3", "mit, bsd-3", ["mit", "bsd-3"], ("mit", "bsd-3")])
def test_words_are_given_as_a_text_or_one_by_one(given):
    assert Budget(licences=given).licences == ("mit", "bsd-3")
    assert Budget(families=given).families == ("mit", "bsd-3")
