"""An autoencoder of model vectors: 8192 summarised weights to a code of 512 numbers and back."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thesis_rec.base.errors import ItemError

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}
#: Arrays of a model's partition that an autoencoder reads, by its kind of input.
READ = {"kmeans": ("parameters",), "spectra": ("spectra",), "both": ("parameters", "spectra")}


class AutoEncoder(nn.Module):
    """Symmetric multi-layer autoencoder with a linear code.

    Inputs are standardised by the buffers ``mean`` and ``scale``, which belong to the network, so that an encoder can't
    be used with the statistics of another zoo. Position i of a vector means something else in every architecture;
    what is shared is learned by the hidden layers, not assumed.

    Args:
        n_inputs: Length of a model vector.
        hidden: Widths of the encoder's hidden layers; the decoder has them in reverse.
        n_code: Length of the code.
        activation: ``gelu``, ``relu`` or ``leaky_relu``.
        dropout: Probability of dropping a hidden unit in training.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self,
        n_inputs: int = 8192,
        hidden: Sequence[int] = (128,),
        n_code: int = 512,
        activation: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [n_inputs, *hidden, n_code]
        self.encoder = _layers(widths, activation, dropout)
        self.decoder = _layers(widths[::-1], activation, dropout)
        self.register_buffer("mean", torch.zeros(n_inputs))
        self.register_buffer("scale", torch.ones(n_inputs))

    def fit_normalisation(self, vectors: Tensor) -> None:
        """Take mean and scale from the (N, n_inputs) raw vectors of known models."""
        self.mean.copy_(vectors.mean(0))
        scale = vectors.std(0, correction=0)
        # A position that hardly varies (padding) would turn its first non-zero value into a huge one.
        self.scale.copy_(scale.clamp(min=float(scale.mean()) * 1e-3 + 1e-12))

    def normalise(self, vectors: Tensor) -> Tensor:
        """(B, n_inputs) raw vectors, standardised and clipped to ±10 scales, so that outliers can't dominate."""
        return ((vectors - self.mean) / self.scale).clamp(-10.0, 10.0)

    def encode(self, vectors: Tensor) -> Tensor:
        """(B, n_inputs) raw vectors to (B, n_code) codes."""
        return self.encoder(self.normalise(vectors))

    def forward(self, normalised: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n_inputs) standardised vectors to their reconstruction and code."""
        code = self.encoder(normalised)
        return self.decoder(code), code


def _layers(widths: Sequence[int], activation: str, dropout: float) -> nn.Sequential:
    """Linear layers with activation and dropout between them, none after the last."""
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        parts += [nn.Linear(inputs, outputs), ACTIVATIONS[activation](), nn.Dropout(dropout)]
    return nn.Sequential(*parts[:-2])


def autoencoder_input(vector: Mapping[str, Any], kind: str, item: str) -> NDArray[np.float32]:
    """What an autoencoder reads of a model.

    Args:
        vector: A partition of ``model_vectors``.
        kind: ``kmeans`` (8192 centroids), ``spectra`` (numbers against random weights) or ``both``.
        item: Name of the model for error messages.

    Raises:
        ItemError: If the spectra are asked for and the partition, made by another program, lacks them.
    """
    if "spectra" in READ[kind] and "spectra" not in vector:
        hint = "Extract it by `kedro run --pipelines=model_extraction`, or set autoencoder.input to kmeans."
        raise ItemError(item, "Its vector comes without spectra.", hint)
    # A number that a model lacks is 0, as for random weights.
    return np.concatenate([np.nan_to_num(np.asarray(vector[name], dtype=np.float32)) for name in READ[kind]])


def encoder_half(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What embeds new models and no more: the configuration and the encoder in half precision, without the decoder.

    Args:
        checkpoint: An autoencoder checkpoint with ``config`` and ``network``.
    """
    kept = {name: tensor for name, tensor in checkpoint["network"].items() if not name.startswith("decoder")}
    half = {name: tensor.half() for name, tensor in kept.items()}
    # A scale below half precision's smallest number would become zero; the network divides by it.
    half["scale"] = kept["scale"].clamp(min=torch.finfo(torch.float16).tiny).half()
    return {"config": dict(checkpoint["config"]), "network": half, "input": checkpoint.get("input", "kmeans")}


@torch.inference_mode()
def embed_vectors(checkpoint: Mapping[str, Any], vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Codes of model vectors.

    Args:
        checkpoint: An autoencoder checkpoint, whole or as :func:`encoder_half` made it.
        vectors: (K, n_inputs) raw model vectors.

    Returns:
        (K, n_code) float32.
    """
    network = AutoEncoder(**checkpoint["config"])
    network.decoder = nn.Sequential()
    kept = {name: tensor.float() for name, tensor in checkpoint["network"].items() if not name.startswith("decoder")}
    network.load_state_dict(kept)
    return network.eval().encode(torch.from_numpy(np.asarray(vectors, np.float32))).numpy()
