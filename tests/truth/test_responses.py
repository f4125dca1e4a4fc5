"""Responses against plain computations."""

from __future__ import annotations

import numpy as np

from thesis_rec.truth.responses import overlay_responses, reference_tasks, response_names


def test_names_have_the_documented_order() -> None:
    names = response_names(reference_tasks({"a": 3, "b": 4}, subtasks=2))
    mixed = ["reference_0000/subtask_probe", "reference_0001/subtask_probe"]
    assert names == ["a/linear_probe", "b/linear_probe", *mixed]
    assert response_names(reference_tasks({})) == []


def responses(ids: list[str], value: float, names: list[str]) -> dict[str, np.ndarray]:
    matrix = np.full((len(ids), len(names)), value, dtype=np.float32)
    return {"responses": matrix, "model_ids": np.array(ids), "names": np.array(names)}


def test_the_last_responses_of_a_model_count_and_other_banks_are_left_out(caplog) -> None:
    bank = ["x/linear_probe", "y/subtask_probe"]
    zoo, own = responses(["a", "b"], 0.0, bank), responses(["b", "c"], 1.0, bank)
    joined = overlay_responses([zoo, own])
    assert dict(zip(joined["model_ids"].tolist(), joined["responses"][:, 0].tolist(), strict=True)) == {
        "a": 0.0,
        "b": 1.0,
        "c": 1.0,
    }
    assert joined["names"].tolist() == bank
    for other in (["x/linear_probe", "z/subtask_probe"], bank[:1]):
        assert overlay_responses([zoo, responses(["d"], 1.0, other)])["model_ids"].tolist() == ["a", "b"]
    assert caplog.text.count("another reference bank") == 2


def test_of_earlier_responses_the_probes_count(caplog) -> None:
    bank = ["x/linear_probe", "y/subtask_probe"]
    earlier = {
        "responses": np.array([[0.1, 0.2, 0.3, 0.4]]),
        "model_ids": np.array(["a"]),
        "names": np.array(["x/alignment", bank[0], "geometry/000", bank[1]]),
    }
    joined = overlay_responses([earlier, responses(["b"], 1.0, bank)])
    np.testing.assert_allclose(joined["responses"], [[0.2, 0.4], [1.0, 1.0]])
    assert joined["names"].tolist() == bank
    assert not caplog.text


def test_no_responses_at_all_are_an_empty_answer() -> None:
    assert overlay_responses([]) == {}
    assert overlay_responses([responses([], 0.0, [])]) == {}
