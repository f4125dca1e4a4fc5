"""The layout of the vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.states import parameter_vector, small_state
from thesis_rec.base.errors import ItemError
from thesis_rec.base.tables import VECTOR_LENGTH
from thesis_rec.models.checkpoint_reader import read_state
from thesis_rec.models.kmeans import kmeans_1d


def test_last_layers_come_first_and_the_rest_is_zero():
    state = small_state()
    reader = read_state(state, "m")
    each = VECTOR_LENGTH // len(reader.tensors)
    assert each == VECTOR_LENGTH // 11
    vector = parameter_vector(reader)
    assert vector.shape == (VECTOR_LENGTH,)
    assert vector.dtype == np.float32
    head = state["fc.weight"].numpy().ravel()  # 320 values, fewer than 744: all of them, descending
    np.testing.assert_array_equal(vector[:320], np.sort(head)[::-1])
    np.testing.assert_array_equal(vector[320:330], np.sort(state["fc.bias"].numpy())[::-1])
    block = state["layer10.0.weight"].numpy().ravel()  # 2304 values: 744 centroids
    np.testing.assert_array_equal(vector[330 : 330 + each], kmeans_1d(block, each))
    used = sum(min(each, tensor.size) for tensor in reader.tensors)
    assert vector[:used].all()
    assert not vector[used:].any()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(threads):
    state = {
        f"layer{i}.weight": torch.randn(5 + 977 * i, generator=torch.Generator().manual_seed(i)) for i in range(40)
    }
    reader = read_state(state, "m")
    np.testing.assert_array_equal(parameter_vector(reader, threads=threads), parameter_vector(reader, threads=1))


def test_of_more_tensors_than_places_the_last_are_kept_by_their_means():
    state = {f"layer{i}.weight": torch.tensor([float(i), float(i + 1)]) for i in range(1, 13)}
    vector = parameter_vector(read_state(state, "m"), length=5)
    np.testing.assert_allclose(vector, [12.5, 11.5, 10.5, 9.5, 8.5])


def test_a_single_tensor_fills_the_vector():
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    vector = parameter_vector(read_state({"w": values}, "m"))
    assert (np.diff(vector) <= 0).all()
    assert vector.all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("threads", [1, 2])
def test_values_that_are_not_finite_are_named(bad, threads):
    state = small_state()
    state["layer2.0.weight"][3, 2] = bad
    with pytest.raises(ItemError, match=r"layer2\.0\.weight holds NaN or infinite") as caught:
        parameter_vector(read_state(state, "the model"), threads=threads)
    assert caught.value.item == "the model"


def test_float64_beyond_float32_is_infinite():
    with pytest.raises(ItemError, match="NaN or infinite"):
        parameter_vector(read_state({"w": torch.tensor([1e300, 1.0], dtype=torch.float64)}, "m"))
