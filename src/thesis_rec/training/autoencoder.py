"""Training the autoencoder of model vectors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from thesis_rec.networks.auto_encoder import AutoEncoder
from thesis_rec.training.data import Batch
from thesis_rec.training.module import FitModule
from thesis_rec.training.settings import AutoEncoderSettings, FitSettings


class AutoEncoderModule(FitModule):
    """Reconstruction of standardised vectors, with optional corruption of the input and sparsity of the code.

    Corruption follows Vincent et al., "Extracting and Composing Robust Features with Denoising Autoencoders", 2008:
    the target stays clean. Masked are blocks of neighbouring positions, which are roughly whole tensors of a model.

    Args:
        network: The autoencoder; its normalisation must be fitted.
        settings: Optimiser and schedule.
        options: Loss and corruption.
    """

    network: AutoEncoder

    def __init__(self, network: AutoEncoder, settings: FitSettings, options: AutoEncoderSettings) -> None:
        super().__init__(network, settings)
        self.options = options

    def losses(self, batch: Batch, training: bool) -> dict[str, Tensor]:
        """Losses of a batch ``{"vectors": (B, n_inputs)}`` of standardised vectors."""
        target = batch["vectors"]
        reconstruction, code = self.network(self.corrupt(target) if training else target)
        distance = functional.smooth_l1_loss if self.options.loss == "smooth_l1" else functional.mse_loss
        loss = distance(reconstruction, target)
        losses = {"reconstruction": loss, "loss": loss}
        if self.options.l1:
            losses["loss"] = loss + self.options.l1 * code.abs().mean()
        return losses

    def corrupt(self, vectors: Tensor) -> Tensor:
        """(B, n_inputs) with blocks set to the mean (0) and noise added, as far as the options ask for it."""
        if self.options.mask:
            blocks = -(-vectors.shape[1] // self.options.mask_block)
            kept = torch.rand(len(vectors), blocks, device=vectors.device) >= self.options.mask
            vectors = vectors * kept.repeat_interleave(self.options.mask_block, dim=1)[:, : vectors.shape[1]]
        if self.options.noise:
            vectors = vectors + self.options.noise * torch.randn_like(vectors)
        return vectors
