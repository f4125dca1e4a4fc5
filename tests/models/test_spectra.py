"""What weights show against random ones: independent references, and what must not count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, kurtosis

from thesis_rec.base.errors import ItemError
from thesis_rec.models.checkpoint_reader import TensorInfo, read_state
from thesis_rec.models.model_extraction import vector_and_spectra
from thesis_rec.models.spectra import (
    COLOUR,
    COMPARED,
    GROUPS,
    MATRIX,
    NAMES,
    SPATIAL,
    VECTOR,
    comparison_scales,
    describe,
    matrix_shape,
    tensor_numbers,
)


def info(name: str, *shape: int) -> TensorInfo:
    return TensorInfo(name, shape, "F32", lambda: np.zeros(0, np.uint8))


def numbers(weights: np.ndarray, name: str = "layer1.weight") -> dict[str, float]:
    return tensor_numbers(info(name, *weights.shape), weights.astype(np.float32).ravel())


def residual_state(seed: int, width: int = 12) -> dict[str, torch.Tensor]:
    """conv1 -> bn1 -> layer1.0.conv1 -> bn -> layer1.0.conv2 -> fc, all with values that no initialiser gives."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}

    def add(name: str, *shape: int) -> None:
        spread = 1 + torch.rand(shape[0], generator=generator).reshape(-1, *[1] * (len(shape) - 1))
        state[name] = torch.randn(shape, generator=generator) * spread

    add("conv1.weight", width, 3, 5, 5)
    for norm in ("bn1", "layer1.0.bn1", "layer2.0.bn1"):
        for last in ("weight", "bias", "running_mean"):
            add(f"{norm}.{last}", width)
        state[f"{norm}.running_var"] = torch.rand(width, generator=generator) + 0.1
    add("layer1.0.conv1.weight", width, width, 3, 3)
    add("layer2.0.conv1.weight", width, width, 3, 3)
    add("fc.weight", 7, width)
    add("fc.bias", 7)
    return state


def spectra(state: dict[str, torch.Tensor]) -> dict[str, float]:
    return dict(zip(NAMES, vector_and_spectra(read_state(state, "m"), threads=1)[1].tolist(), strict=True))


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (24, 8, 3, 3), (32, 3, 7, 7), (16, 1, 5, 5)])
def test_a_random_matrix_of_any_shape_shows_nothing(shape):
    found = [numbers(np.random.default_rng(seed).standard_normal(shape) * 0.3) for seed in range(20)]
    expected = {*MATRIX} | ({*SPATIAL} if len(shape) == 4 else set()) | ({*COLOUR} if shape[1] == 3 else set())
    assert set(found[0]) == expected
    for name in expected - {"scale"}:
        values = np.array([one[name] for one in found])
        # Zero on average, to within what twenty draws and a reference of a few draws tell.
        assert abs(values.mean()) < 3 * values.std() + 0.02, name
    fan_in = int(np.prod(shape[1:]))
    np.testing.assert_allclose(np.mean([one["scale"] for one in found]), np.log(0.3 * np.sqrt(fan_in)), atol=0.05)


def test_numbers_agree_with_scipy_and_an_svd():
    rng = np.random.default_rng(0)
    weights = (rng.standard_normal((30, 50)) * np.linspace(0.2, 3, 30)[:, None]).astype(np.float32)
    plain = rng.standard_normal((30, 50)).astype(np.float32)
    ours, reference = numbers(weights), numbers(plain)

    def shares(matrix):
        squares = np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2
        return squares / squares.sum()

    # The random expectation drops out of differences.
    a, b = shares(weights), shares(plain)
    assert ours["entropy"] - reference["entropy"] == pytest.approx(entropy(a) - entropy(b), abs=1e-4)
    assert ours["largest"] - reference["largest"] == pytest.approx(np.log(a[0] / b[0]), abs=1e-4)
    participation = np.log((b**2).sum() / (a**2).sum())
    assert ours["participation"] - reference["participation"] == pytest.approx(participation, abs=1e-4)

    def alignment(matrix):
        unit = matrix.astype(np.float64) / np.linalg.norm(matrix, axis=1, keepdims=True)
        squares = ((unit @ unit.T) ** 2)[~np.eye(len(matrix), dtype=bool)]
        return np.log(squares.mean() * matrix.shape[1] + 0.05)

    for name, one, other in (("row", weights, plain), ("column", weights.T, plain.T)):
        difference = ours[f"{name}_alignment"] - reference[f"{name}_alignment"]
        assert difference == pytest.approx(alignment(one) - alignment(other), abs=1e-3)
    # Moments about zero, as weights have: scipy's are about the mean.
    both = [kurtosis(np.concatenate([m.ravel(), -m.ravel()]), fisher=False) for m in (weights, plain)]
    assert ours["kurtosis"] - reference["kurtosis"] == pytest.approx(np.log(both[0] / both[1]), abs=1e-3)


def test_leading_values_of_large_matrices_are_those_of_the_svd():
    rng = np.random.default_rng(1)
    spikes = rng.standard_normal((600, 20)) @ rng.standard_normal((20, 700)) * 0.3
    weights = (rng.standard_normal((600, 700)) + spikes).astype(np.float32)
    ours = numbers(weights)
    plain = numbers(rng.standard_normal((600, 700)))
    squares = np.linalg.svd(weights, compute_uv=False) ** 2
    edge = (np.sqrt(600) + np.sqrt(700)) ** 2 / (600 * 700)
    assert ours["largest"] - plain["largest"] == pytest.approx(np.log(squares[0] / squares.sum() / edge), abs=0.05)
    assert ours["top_eighth"] > plain["top_eighth"] + 0.3
    assert numbers(weights) == ours


def test_learned_structure_moves_the_numbers_it_should():
    rng = np.random.default_rng(2)
    low_rank = rng.standard_normal((40, 3)) @ rng.standard_normal((3, 60)) + 0.1 * rng.standard_normal((40, 60))
    found = numbers(low_rank)
    assert found["entropy"] < -1
    assert found["largest"] > 0.5
    assert found["row_alignment"] > 0.5
    smooth = rng.standard_normal((16, 3, 1, 1)) * np.ones((1, 1, 5, 5)) + 0.1 * rng.standard_normal((16, 3, 5, 5))
    found = numbers(smooth)
    assert found["mean_tap"] > 2
    assert found["smoothness"] < -2
    assert found["high_frequencies"] < -2
    grey = rng.standard_normal((16, 1, 5, 5)) * np.ones((1, 3, 1, 1)) + 0.1 * rng.standard_normal((16, 3, 5, 5))
    assert numbers(grey)["grey"] > 0.9
    assert numbers(grey)["colour_entropy"] < -0.8
    heavy = rng.standard_t(3, (40, 60))
    assert numbers(heavy)["kurtosis"] > 0.3


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_order_and_signs_of_hidden_units_do_not_count(seed):
    state = residual_state(seed)
    rng = np.random.default_rng(seed)
    changed = dict(state)
    pairs = [("conv1", "bn1", "layer1.0.conv1"), ("layer1.0.conv1", "layer1.0.bn1", "layer2.0.conv1"),
             ("layer2.0.conv1", "layer2.0.bn1", "fc")]  # fmt: skip
    for layer, norm, following in pairs:
        width = len(state[f"{norm}.weight"])
        order = torch.from_numpy(rng.permutation(width))
        sign = torch.from_numpy(rng.choice([-1.0, 1.0], width).astype(np.float32))
        weight = changed[f"{layer}.weight"]
        changed[f"{layer}.weight"] = (weight * sign.reshape(-1, *[1] * (weight.ndim - 1)))[order]
        for last in ("weight", "bias", "running_mean", "running_var"):
            changed[f"{norm}.{last}"] = changed[f"{norm}.{last}"][order]
        # A flipped unit has its shift and running mean flipped, and what reads it undoes the flip.
        for last in ("bias", "running_mean"):
            changed[f"{norm}.{last}"] = changed[f"{norm}.{last}"] * sign[order]
        weight = changed[f"{following}.weight"]
        changed[f"{following}.weight"] = (weight * sign.reshape(1, -1, *[1] * (weight.ndim - 2)))[:, order]
    before, after = spectra(state), spectra(changed)
    assert not torch.equal(state["conv1.weight"], changed["conv1.weight"])
    for name in NAMES:
        np.testing.assert_allclose(after[name], before[name], atol=2e-3, rtol=1e-3, err_msg=name)


@pytest.mark.parametrize(("half", "most"), [(torch.float16, 0.02), (torch.bfloat16, 0.05)])
def test_half_precision_changes_little(half, most):
    state = residual_state(0, width=32)
    single = spectra(state)
    rounded = spectra({name: tensor.to(half) for name, tensor in state.items()})
    # The share of values below a tenth of the mean is a count: one value more or less is a whole step.
    for name in NAMES:
        step = 1 / 32 if name.endswith("small") else 0.0
        np.testing.assert_allclose(rounded[name], single[name], atol=most + step, err_msg=name)


def test_names_and_shapes_give_the_roles():
    state = residual_state(3)
    found = spectra(state)
    stem, head = state["conv1.weight"].numpy(), state["fc.weight"].numpy()
    body = [numbers(state[f"layer{i}.0.conv1.weight"].numpy()) for i in (1, 2)]
    assert found["stem.grey"] == pytest.approx(numbers(stem)["grey"], abs=1e-5)
    assert found["head.entropy"] == pytest.approx(numbers(head)["entropy"], abs=1e-5)
    assert found["body.mean.entropy"] == pytest.approx(np.mean([one["entropy"] for one in body]), abs=1e-5)
    assert found["body.first.entropy"] == pytest.approx(body[0]["entropy"], abs=1e-5)
    assert found["body.middle.entropy"] == pytest.approx(body[1]["entropy"], abs=1e-5)
    assert np.isnan(found["body.last.entropy"])
    means = [
        np.sqrt(np.square(state[f"{norm}.running_mean"].numpy()).mean())
        for norm in ("bn1", "layer1.0.bn1", "layer2.0.bn1")
    ]
    assert found["running_mean.mean.size"] == pytest.approx(np.mean(np.log(means)), abs=1e-3)
    assert found["size.classes"] == pytest.approx(np.log(7))
    learned = sum(tensor.numel() for name, tensor in state.items() if "running" not in name)
    assert found["size.parameters"] == pytest.approx(np.log(learned), abs=1e-5)


def test_what_a_model_lacks_is_missing_and_zeros_have_no_spectrum():
    generator = torch.Generator().manual_seed(0)
    state = {"blocks.0.mlp.weight": torch.randn(8, 8, generator=generator), "blocks.1.mlp.weight": torch.zeros(8, 8),
             "scale": torch.ones(())}  # fmt: skip
    found = spectra(state)
    assert np.isnan(found["stem.grey"])
    assert np.isnan(found["running_mean.mean.size"])
    assert np.isnan(found["size.classes"])
    assert found["body.least.scale"] == pytest.approx(np.log(1e-6))
    assert not np.isinf(list(found.values())).any()
    assert set(tensor_numbers(info("n.weight", 4), np.ones(4, np.float32))) == set(VECTOR)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((), None),
        ((5,), None),
        ((5, 1, 1), None),
        ((1, 64, 48), (64, 48)),
        ((8, 3, 2, 2), (8, 3, 2, 2)),
        ((1, 9), None),
    ],
)
def test_shapes_of_matrices(shape, expected):
    assert matrix_shape(shape) == expected


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads_gives_the_same(threads):
    reader = read_state(residual_state(5), "m")
    vector, found = vector_and_spectra(reader, threads=threads)
    first, same = vector_and_spectra(reader, threads=1)
    np.testing.assert_array_equal(vector, first)
    np.testing.assert_array_equal(found, same)
    assert found.dtype == np.float32
    direct = [tensor_numbers(tensor, tensor.values()) for tensor in reader.tensors]
    np.testing.assert_array_equal(describe(reader.tensors, direct), found)


def test_values_that_are_not_finite_are_named():
    state = residual_state(0)
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ItemError, match=r"layer1\.0\.conv1\.weight holds NaN or infinite"):
        vector_and_spectra(read_state(state, "m"))


def test_every_number_is_in_one_group():
    assert len(set(NAMES)) == len(NAMES)
    for name in NAMES:
        assert sum(name.startswith(begins) for begins in GROUPS.values()) == 1, name


def test_groups_count_alike_in_a_comparison_and_norms_do_not():
    from thesis_rec.knowledge.kernels import Kernel

    rng = np.random.default_rng(0)
    table = rng.standard_normal((300, len(NAMES)))
    scaled = (table - table.mean(0)) / table.std(0)
    kernel = Kernel.fit(table, 1.0, comparison_scales())
    expected = 0.0
    for group in COMPARED:
        columns = [i for i, name in enumerate(NAMES) if name.startswith(GROUPS[group])]
        expected += np.square(scaled[3, columns] - scaled[11, columns]).mean()
    assert -np.log(kernel.gram[3, 11]) * kernel.width == pytest.approx(expected)
    moved = table[:1].copy()
    moved[:, [i for i, name in enumerate(NAMES) if name.startswith(GROUPS["norms and biases"])]] += 100
    assert kernel(moved)[0, 0] == pytest.approx(1.0)


def test_large_tensors_are_compared_by_a_sample():
    generator = np.random.default_rng(4)
    weights = generator.standard_normal((2100, 2200)).astype(np.float32)
    found = numbers(weights)
    assert abs(found["entropy"]) < 0.01
    assert abs(found["largest"]) < 0.05
    assert numbers(weights) == found
