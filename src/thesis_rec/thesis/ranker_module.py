"""Training a ranker on whole tasks: one step sees some datasets and some of the models measured on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thesis_rec.thesis import losses as ranking_losses
from thesis_rec.training.data import Batch
from thesis_rec.training.module import FitModule
from thesis_rec.training.settings import FitSettings, RankerTraining


class RankerModule(FitModule):
    """Ranking loss of a network; in validation the weighted tau beside it.

    A batch holds ``tokens`` (B, T, D), ``token_mask`` (B, T), ``standardised`` and ``value`` (B, M) with 0 where
    unmeasured, and ``measured`` (B, M).

    Args:
        network: The network.
        settings: Optimiser and schedule.
        options: Terms of the loss, sizes of a step.
        models: (M, E) features of all models.
    """

    models: Tensor

    def __init__(self, network: nn.Module, settings: FitSettings, options: RankerTraining, models: Tensor) -> None:
        super().__init__(network, settings, monitor="val_tau", mode="max")
        self.options = options
        self.register_buffer("models", models, persistent=False)

    def losses(self, batch: Batch, training: bool) -> dict[str, Tensor]:
        """Losses of a batch; in training of some of the models, drawn at random."""
        rows = torch.arange(len(self.models), device=self.models.device)
        if training:
            rows = torch.randperm(len(rows), device=rows.device)[: self.options.models_per_step]
        models = self.models[rows].expand(len(batch["tokens"]), -1, -1)
        out: dict[str, Tensor] = self.network(models, batch["tokens"], batch["token_mask"])
        terms = self._terms(out, batch, rows)
        if not training:
            tau = ranking_losses.weighted_tau(out["score"], batch["standardised"][:, rows], batch["measured"][:, rows])
            terms["tau"] = tau.nanmean().nan_to_num(0.0)
        return terms

    def _terms(self, out: dict[str, Tensor], batch: Batch, rows: Tensor) -> dict[str, Tensor]:
        weights = self.options.losses
        truth, mask = batch["standardised"][:, rows], batch["measured"][:, rows]
        score = out["score"]
        # A weight of zero switches a term off, so that it isn't even computed.
        terms = {
            "listwise": ranking_losses.list_mle(score, truth, mask, discount=True) if weights.listwise else None,
            "pairwise": ranking_losses.pairwise_logistic(score, truth, mask, weights.gap_power)
            if weights.pairwise
            else None,
            "regression": ranking_losses.masked_mse(score, truth, mask) if weights.regression else None,
            "value": ranking_losses.gaussian_nll(out["value"], out["log_std"], batch["value"][:, rows], mask)
            if weights.value
            else None,
        }
        used = {name: term for name, term in terms.items() if term is not None}
        total = torch.stack([getattr(weights, name) * term for name, term in used.items()]).sum()
        return {"loss": total, **used}
