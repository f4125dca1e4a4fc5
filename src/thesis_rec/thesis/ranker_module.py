"""Training a ranker on whole tasks: one step sees some datasets and some of the models measured on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from thesis_rec.thesis import losses as ranking_losses
from thesis_rec.training.data import Batch
from thesis_rec.training.module import FitModule
from thesis_rec.training.settings import FitSettings, RankerTraining


class RankerModule(FitModule):
    """Loss of a ranker, with some models hidden: given as a model would be that was never measured.

    A hidden model loses its private features (what was learned from its own measured cells) and has, instead of its
    own prior, its family's, or none at all, as if the family were unknown too. So the network learns how far to trust
    the prior, and what weights and responses tell when there is none.

    A batch holds ``tokens`` (B, T, D), ``token_mask`` (B, T), ``standardised`` and ``value`` (B, M) with 0 where
    unmeasured, ``measured`` (B, M), ``prior`` and ``family_prior`` (B, M).

    Args:
        network: One of the two rankers.
        settings: Optimiser and schedule.
        options: Terms of the loss, sizes of a step.
        models: (M, E) features of all models.
        n_private: Number of private features, the last columns.
        validation_models: (M,) True for known models that are kept for validation; None when there are none.
    """

    models: Tensor
    train_rows: Tensor
    validation_rows: Tensor

    def __init__(
        self,
        network: nn.Module,
        settings: FitSettings,
        options: RankerTraining,
        models: Tensor,
        n_private: int,
        validation_models: Tensor | None = None,
    ) -> None:
        super().__init__(network, settings, monitor="val_tau", mode="max")
        self.options = options
        self.n_private = n_private
        held = torch.zeros(len(models), dtype=torch.bool) if validation_models is None else validation_models
        self.register_buffer("models", models, persistent=False)
        self.register_buffer("train_rows", (~held).nonzero()[:, 0], persistent=False)
        self.register_buffer("validation_rows", held.nonzero()[:, 0], persistent=False)

    def losses(self, batch: Batch, training: bool) -> dict[str, Tensor]:
        """Losses of a batch; in validation the weighted tau of known and of hidden models beside them."""
        if training:
            rows = self.train_rows[torch.randperm(len(self.train_rows), device=self.train_rows.device)]
            rows = rows[: self.options.models_per_step]
            hidden = torch.rand(len(rows), device=rows.device) < self.options.hide_models
            family = torch.rand(len(rows), device=rows.device) >= self.options.hide_families
            return self._terms(self._scores(batch, rows, hidden, family), batch, rows)
        none = torch.zeros(len(self.train_rows), dtype=torch.bool, device=self.train_rows.device)
        known = self._scores(batch, self.train_rows, none, ~none)
        terms = self._terms(known, batch, self.train_rows)
        terms["tau_known"] = self._tau(known["score"], batch, self.train_rows)
        rows = self.validation_rows if len(self.validation_rows) > 2 else self.train_rows
        all_hidden = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        unknown = self._scores(batch, rows, all_hidden, all_hidden)
        terms["tau_unknown"] = self._tau(unknown["score"], batch, rows)
        terms["tau"] = 0.5 * (terms["tau_known"] + terms["tau_unknown"])
        return terms

    def _scores(self, batch: Batch, rows: Tensor, hidden: Tensor, family: Tensor) -> dict[str, Tensor]:
        models = self.models[rows]
        if self.n_private and hidden.any():
            private = torch.arange(models.shape[1], device=models.device) >= models.shape[1] - self.n_private
            models = models.masked_fill(hidden[:, None] & private, 0.0)
        instead = torch.where(family, batch["family_prior"][:, rows], 0.0)
        prior = torch.where(hidden, instead, batch["prior"][:, rows])
        count = len(batch["tokens"])
        out: dict[str, Tensor] = self.network(models.expand(count, -1, -1), batch["tokens"], batch["token_mask"], prior)
        return out

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

    def _tau(self, score: Tensor, batch: Batch, rows: Tensor) -> Tensor:
        tau = ranking_losses.weighted_tau(score, batch["standardised"][:, rows], batch["measured"][:, rows])
        return tau.nanmean().nan_to_num(0.0)
