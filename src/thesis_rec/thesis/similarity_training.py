"""Training the thesis's SimilarityTransformer: from measured cells to a ranker, with a ranking loss.

One step sees some whole tasks and some of the models measured on them.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thesis_rec.base.errors import NothingSucceeded
from thesis_rec.base.tables import ModelTable, TaskTokens, z_scores
from thesis_rec.thesis import losses as ranking_losses
from thesis_rec.thesis.ranker import Inputs, Ranker, pad_tokens
from thesis_rec.thesis.similarity_transformer import SimilarityTransformer
from thesis_rec.training.fit import Batch, FitModule, History, fit
from thesis_rec.training.settings import FitSettings, RankerPlan, RankerTraining


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
    monitor = "val_tau"
    mode = "max"

    def __init__(self, network: nn.Module, settings: FitSettings, options: RankerTraining, models: Tensor) -> None:
        super().__init__(network, settings)
        self.options = options
        self.register_buffer("models", models, persistent=False)

    def losses(self, batch: Batch, training: bool) -> dict[str, Tensor]:
        """Losses of a batch; in training of some of the models, drawn at random."""
        rows = torch.arange(len(self.models), device=self.models.device)
        if training:
            rows = torch.randperm(len(rows), device=rows.device)[: self.options.models_per_step]
        out = self.network(self.models[rows], batch["tokens"], batch["token_mask"])
        # Losses mask and sum in single precision, whatever the network computes in.
        out = {name: part.float() for name, part in out.items()}
        weights, score = self.options.losses, out["score"]
        truth, value, mask = (batch[name][:, rows] for name in ("standardised", "value", "measured"))
        terms = {
            "listwise": lambda: ranking_losses.list_mle(score, truth, mask, discount=True),
            "pairwise": lambda: ranking_losses.pairwise_logistic(score, truth, mask, weights.gap_power),
            "regression": lambda: ranking_losses.masked_mse(score, truth, mask),
            "value": lambda: ranking_losses.gaussian_nll(out["value"], out["log_std"], value, mask),
        }
        # A weight of zero switches a term off, so that it isn't even computed.
        found = {name: term() for name, term in terms.items() if getattr(weights, name)}
        found["loss"] = torch.stack([getattr(weights, name) * term for name, term in found.items()]).sum()
        if not training:
            found["tau"] = ranking_losses.weighted_tau(score, truth, mask).nanmean().nan_to_num(0.0)
        return found


#: Smallest standard deviation of performance within a dataset that counts: below it, differences are noise.
FLOOR = 0.02

#: N tasks and (N, M) performance of M models on them, NaN where it wasn't measured or may not be used.
Lists = tuple[list[TaskTokens], NDArray[np.floating]]


def tensor_table(inputs: Inputs, lists: Lists) -> Batch:
    """Tasks as the tensors that :class:`~thesis_rec.thesis.similarity_training.RankerModule` reads."""
    tasks, value = lists
    tokens, mask = pad_tokens([inputs.of_task(task) for task in tasks])
    columns = {
        "standardised": np.nan_to_num(z_scores(value.T, FLOOR).T).astype(np.float32),
        "value": np.nan_to_num(value).astype(np.float32),
        "measured": np.isfinite(value),
    }
    given = {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items()}
    return {"tokens": tokens, "token_mask": mask, **given}


def train_ranker(
    known: ModelTable, training: Lists, validation: Lists, plan: RankerPlan, folder: Path, seed: int = 0
) -> tuple[Ranker, History]:
    """Train the network.

    Args:
        known: M known models.
        training: What to train on.
        validation: Datasets of validation families; there may be none.
        plan: Size of the network, terms of the loss, optimiser and schedule.
        folder: Where the run keeps its files.
        seed: Seed of first weights and training.

    Returns:
        The ranker, and what every epoch gave.

    Raises:
        NothingSucceeded: If there is nothing to train on.
    """
    if not training[0]:
        raise NothingSucceeded(
            f"there is no dataset to train the ranker on: {len(known)} known models have an embedding, but no training "
            "dataset with tokens has measurements of three of them. Run model_extraction, autoencoder and "
            "dataset_features on the models and datasets of the performance records."
        )
    inputs = Inputs.fit(known, training[0], plan.max_tokens)
    models = torch.from_numpy(inputs.of_models(known))
    config = {"model_dim": models.shape[1], "token_dim": inputs.tokens.shape[1], **plan.network.model_dump()}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer = SimilarityTransformer(**config)
    result = fit(
        RankerModule(transformer, plan.fit, plan.training, models),
        tensor_table(inputs, training),
        tensor_table(inputs, validation) if validation[0] else None,
        folder / f"similarity_transformer-seed{seed}",
        seed=seed,
        description=f"similarity_transformer seed {seed}",
        per_epoch=plan.training.tasks_per_epoch,
    )
    return Ranker(transformer.eval(), config, inputs), result.history
