"""Training the autoencoder of model vectors, and judging it by itself."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from thesis_rec.base.errors import NothingSucceeded
from thesis_rec.base.tables import unit
from thesis_rec.models.auto_encoder import AutoEncoder
from thesis_rec.training.fit import Batch, FitModule, fit
from thesis_rec.training.settings import AutoEncoderPlan, AutoEncoderSettings, FitSettings

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


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


def split_known(model_ids: Sequence[str], sides: Mapping[str, Any], families: Mapping[str, str]) -> list[str]:
    """The models that are not kept as unknown, by id or by family.

    Args:
        model_ids: All models.
        sides: ``model_ids`` and ``model_families`` that are unknown; either may be absent.
        families: Family of each model.
    """
    ids, names = set(sides.get("model_ids", ())), set(sides.get("model_families", ()))
    return [model for model in model_ids if model not in ids and families.get(model, model) not in names]


def train_autoencoder(
    vectors: Mapping[str, NDArray[np.float32]], known: Sequence[str], plan: AutoEncoderPlan, folder: Path
) -> dict[str, Any]:
    """Train on the known models, of which some are held out for validation.

    Args:
        vectors: (n_inputs,) vector of each model.
        known: Models that may be trained on.
        plan: Network, loss and how it is trained.
        folder: Where the run keeps its files.

    Returns:
        The checkpoint: ``config``, ``network``, ``train_ids``, ``validation_ids``, ``history`` (one row per epoch) and
        ``best_epoch``.

    Raises:
        NothingSucceeded: If there are fewer than two known models.
    """
    if len(known) < 2:
        raise NothingSucceeded(
            f"the autoencoder needs vectors of at least two known models, there are {len(known)}. Run "
            "`kedro run --pipelines=model_extraction` first (extraction_failures says why a model has none), or list "
            "fewer models as unknown."
        )
    order, share = np.random.default_rng(plan.seed).permutation(len(known)), plan.validation_share
    held = min(max(1, round(share * len(known))), len(known) - 1) if share else 0
    validation_ids = sorted(known[i] for i in order[:held])
    train_ids = sorted(known[i] for i in order[held:])
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        config: dict[str, Any] = {"n_inputs": len(vectors[known[0]])}
        config |= plan.network.model_dump(include={"hidden", "n_code", "activation", "dropout"})
        network = AutoEncoder(**config)
    network.fit_normalisation(_stack(vectors, train_ids))

    def table(ids: Sequence[str]) -> Batch:
        return {"vectors": network.normalise(_stack(vectors, ids))}

    module = AutoEncoderModule(network, plan.fit, plan.network)
    held_out = table(validation_ids) if validation_ids else None
    result = fit(module, table(train_ids), held_out, folder, seed=plan.seed, description="autoencoder")
    return {
        "config": config,
        "network": result.state,
        "train_ids": train_ids,
        "validation_ids": validation_ids,
        "history": result.history,
        "best_epoch": result.best_epoch,
    }


def _stack(vectors: Mapping[str, NDArray[np.float32]], ids: Sequence[str]) -> Tensor:
    return torch.from_numpy(np.stack([vectors[model] for model in ids]).astype(np.float32))


@torch.inference_mode()
def evaluate_autoencoder(
    checkpoint: Mapping[str, Any],
    vectors: Mapping[str, NDArray[np.float32]],
    families: Mapping[str, str],
    neighbours: int = 3,
) -> dict[str, Any]:
    """How well models that weren't trained on are reconstructed, and who lies next to whom.

    Errors are shares of variance: the mean squared error of standardised vectors divided by the mean square of the
    vector, so that 0 is perfect and 1 is as good as the mean of the known models.

    Args:
        checkpoint: What :func:`train_autoencoder` made.
        vectors: Vector of each model.
        families: Family of each model.
        neighbours: Number of nearest models listed, by cosine of the codes.

    Returns:
        ``roles``: mean error of train, validation and unknown models; ``families``: the same by family of held-out
        models; ``models``: error, role and nearest models of each; ``neighbour_agreement``: share of models whose
        nearest model is of their own family, and what chance would give.
    """
    network = AutoEncoder(**checkpoint["config"])
    network.load_state_dict(checkpoint["network"])
    network.eval()
    ids = sorted(vectors)
    normalised = network.normalise(_stack(vectors, ids))
    reconstruction, code = network(normalised)
    error = ((reconstruction - normalised).square().mean(1) / normalised.square().mean(1).clamp(min=1e-12)).numpy()
    roles = dict.fromkeys(checkpoint["train_ids"], "train") | dict.fromkeys(checkpoint["validation_ids"], "validation")
    family = [families.get(model, "") for model in ids]
    role = pd.Categorical([roles.get(m, "unknown") for m in ids], ["train", "validation", "unknown"])
    table = pd.DataFrame({"role": role, "family": family, "error": error.astype(float)})
    nearest = nearest_codes(code.numpy(), neighbours)
    agreement = [family[row] == family[places[0]] for row, places in enumerate(nearest) if len(places)]
    share = np.array([family.count(name) - 1 for name in family]) / max(len(ids) - 1, 1)
    held_out = table[table["role"] != "train"]
    return {
        "roles": _errors_by(table, "role"),
        "families": _errors_by(held_out, "family"),
        "neighbour_agreement": {
            "own_family": float(np.mean(agreement)) if agreement else None,
            "chance": float(share.mean()),
        },
        "models": {
            model: row | {"nearest": [ids[place] for place in places]}
            for model, row, places in zip(ids, table.to_dict("records"), nearest, strict=True)
        },
    }


def nearest_codes(codes: NDArray[np.float32], count: int) -> list[list[int]]:
    """Rows of the ``count`` codes nearest to each (N, E) code by cosine of what differs from the mean code."""
    centred = unit(codes - codes.mean(0))
    similarity = centred @ centred.T
    np.fill_diagonal(similarity, -np.inf)
    count = min(count, len(codes) - 1)
    return [np.argsort(-row, kind="stable")[:count].tolist() for row in similarity]


def _errors_by(table: pd.DataFrame, column: str) -> dict[Hashable, Any]:
    found = table.groupby(column, observed=False)["error"].agg(["mean", "median", "count"])
    found = found.rename(columns={"count": "n"})
    return found.astype(object).where(found.notna(), None).to_dict("index")


def map_positions(codes: NDArray[np.float32], method: str, seed: int) -> NDArray[np.float64]:
    """(N, 2) positions of (N, E) codes on a map: ``pca``, or ``tsne`` (van der Maaten and Hinton, 2008) from there.

    Few models have no neighbourhoods to speak of, so that fewer than ten are always drawn by their components.
    """
    if method == "tsne" and len(codes) >= 10:
        from sklearn.manifold import TSNE

        drawn = TSNE(init="pca", perplexity=min(30.0, (len(codes) - 1) / 3), random_state=seed)
        return np.asarray(drawn.fit_transform(codes), dtype=np.float64)
    left, singular, _ = np.linalg.svd((codes - codes.mean(0)).astype(np.float64), full_matrices=False)
    places = (left * singular)[:, :2]
    return np.pad(places, ((0, 0), (0, 2 - places.shape[1])))


def embedding_map(codes: NDArray[np.float32], models: pd.DataFrame, method: str, seed: int) -> Figure:
    """A map of all models by their codes: colour is the family, symbol the role.

    Args:
        codes: (N, E) codes.
        models: ``family`` and ``role`` of the N models, by identifier.
        method: ``pca`` or ``tsne``.
        seed: Seed of t-SNE.
    """
    from plotly.express import scatter

    x, y = map_positions(codes, method, seed).T
    return scatter(
        models.assign(x=x, y=y, family=models["family"].replace("", "no family")),
        x="x",
        y="y",
        color="family",
        symbol="role",
        symbol_map={"train": "circle", "validation": "diamond", "unknown": "x"},
        hover_name=models.index,
        title=f"Models by their codes ({method})",
        template="plotly_white",
    )
