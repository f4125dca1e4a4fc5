"""The autoencoder: shapes, normalisation, size, learning."""

import numpy as np
import pytest
import torch

from thesis_rec.base.errors import ItemError
from thesis_rec.models.auto_encoder import AutoEncoder, autoencoder_input, encoder_half


@pytest.mark.parametrize("activation", ["gelu", "relu", "leaky_relu"])
def test_shapes_and_gradients(activation):
    network = AutoEncoder(40, (16, 8), 6, activation, dropout=0.1)
    reconstruction, code = network(torch.randn(3, 40))
    assert reconstruction.shape == (3, 40)
    assert code.shape == (3, 6)
    reconstruction.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_the_shipped_encoder_half_is_small_enough():
    state = AutoEncoder().state_dict()
    size = sum(t.numel() * 2 for name, t in state.items() if not name.startswith("decoder"))
    assert size <= 2.2 * 2**20


def test_normalisation_standardises_the_vectors_it_was_fitted_on():
    vectors = torch.randn(200, 10) * torch.arange(1, 11) + 3
    network = AutoEncoder(10, (8,), 4)
    network.fit_normalisation(vectors)
    normalised = network.normalise(vectors)
    torch.testing.assert_close(normalised.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.std(0, correction=0), torch.ones(10), atol=1e-3, rtol=0)


def test_a_position_that_never_varied_cannot_explode():
    vectors = torch.randn(50, 10)
    vectors[:, 4:] = 0
    network = AutoEncoder(10, (8,), 4)
    network.fit_normalisation(vectors)
    other = torch.randn(1, 10) * 5
    assert network.normalise(other).abs().max() <= 10
    assert network.encode(other).isfinite().all()


def test_the_normalisation_travels_with_the_weights():
    network = AutoEncoder(10, (8,), 4)
    network.fit_normalisation(torch.randn(20, 10) + 5)
    copy = AutoEncoder(10, (8,), 4)
    copy.load_state_dict(network.state_dict())
    vector = torch.randn(2, 10)
    assert torch.equal(copy.eval().encode(vector), network.eval().encode(vector))


def test_it_learns_data_of_low_rank():
    torch.manual_seed(0)
    vectors = torch.randn(128, 3) @ torch.randn(3, 30)
    network = AutoEncoder(30, (16,), 4)
    network.fit_normalisation(vectors)
    target = network.normalise(vectors)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(150):
        loss = (network(target)[0] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1 * target.square().mean().item()


def test_what_is_read_of_a_model():
    vector = {"parameters": np.float32([1, 2]), "spectra": np.float32([np.nan, 3])}
    assert autoencoder_input(vector, "kmeans", "m").tolist() == [1, 2]
    assert autoencoder_input(vector, "spectra", "m").tolist() == [0, 3]
    assert autoencoder_input(vector, "both", "m").tolist() == [1, 2, 0, 3]
    with pytest.raises(ItemError, match="without spectra") as caught:
        autoencoder_input({"parameters": np.float32([1, 2])}, "both", "the model")
    assert caught.value.item == "the model"


def test_the_encoder_half_says_what_it_reads():
    config = {"n_inputs": 2, "hidden": [3], "n_code": 2}
    checkpoint = {"config": config, "network": AutoEncoder(**config).state_dict(), "input": "spectra"}
    assert encoder_half(checkpoint)["input"] == "spectra"
