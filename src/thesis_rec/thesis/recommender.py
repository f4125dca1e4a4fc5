"""A trained ranker, ready to rank any models for any dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thesis_rec.base.errors import ItemError
from thesis_rec.base.tables import ModelTable, Prediction, TaskTokens
from thesis_rec.knowledge.landmark_prior import LandmarkPrior, described
from thesis_rec.thesis.features import ModelFeatures, TokenFeatures
from thesis_rec.thesis.training_set import Inputs, pad_tokens

if TYPE_CHECKING:
    from torch import nn

#: Name of the mean of all networks, which can be chosen like one of them.
ALL_NETWORKS = "both"

FORMAT = 4
#: Formats that can be read.
READABLE = (2, 3, 4)
_TASKS_AT_ONCE = 16
_CELLS_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Recommender:
    """Ensembles of trained networks, with all that turns models and tokens into their inputs.

    Attributes:
        inputs: Features and prior.
        networks: Members (one per seed) of each network, by its name.
        selected: The network, or ``both``, that did best on validation datasets.
        calibration: Factor of the predicted standard deviation by network, for ``known`` and ``unknown`` models.
        configs: Constructor arguments of each network.
        final: A prior fitted to everything that was measured, for use: figures about it would not be of unknown things.
    """

    inputs: Inputs
    networks: Mapping[str, Sequence[nn.Module]]
    selected: str
    calibration: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    final: LandmarkPrior | None = None

    @classmethod
    def from_checkpoint(cls, checkpoint: Mapping[str, Any], *, in_use: bool = False) -> Recommender:
        """Rebuild a recommender from what :meth:`to_checkpoint` gave.

        Args:
            checkpoint: What was saved.
            in_use: Whether it answers requests, with a prior that has seen everything that was measured, or is
                evaluated, with one that has not.

        Raises:
            ItemError: If the checkpoint is of another format.
        """
        if checkpoint.get("format") not in READABLE:
            raise ItemError(
                "similarity_checkpoint",
                f"has format {checkpoint.get('format')!r}, this version reads {READABLE}.",
                "Run `kedro run --pipeline=similarity_training` again.",
            )
        from thesis_rec.thesis.rankers import build_ranker

        networks: dict[str, list[nn.Module]] = {}
        for name, states in checkpoint["members"].items():
            for state in states:
                network = build_ranker(name, **checkpoint["configs"][name])
                network.load_state_dict({key: value.float() for key, value in state.items()})
                networks.setdefault(name, []).append(network.eval())
        features = _to_numpy(checkpoint["features"])
        inputs = Inputs(
            ModelFeatures.from_state(features["models"]),
            TokenFeatures.from_state(features["tokens"]),
            LandmarkPrior.from_state(_to_numpy(checkpoint["prior"])),
            one_out=_to_numpy(checkpoint["one_out"]),
        )
        final = checkpoint["final_prior"] and LandmarkPrior.from_state(_to_numpy(checkpoint["final_prior"]))
        if in_use and final is not None:
            inputs = replace(inputs, prior=final, one_out={})
        return cls(inputs, networks, checkpoint["selected"], checkpoint["calibration"], checkpoint["configs"], final)

    def to_checkpoint(self) -> dict[str, Any]:
        """Tensors and plain values only, readable with ``weights_only=True``."""
        return {
            "format": FORMAT,
            "selected": self.selected,
            "members": {
                name: [{k: v.detach().cpu().clone() for k, v in member.state_dict().items()} for member in members]
                for name, members in self.networks.items()
            },
            "configs": {name: dict(config) for name, config in self.configs.items()},
            "features": _to_tensors({"models": self.inputs.models.state(), "tokens": self.inputs.tokens.state()}),
            "prior": _to_tensors(self.inputs.prior.state()),
            "final_prior": self.final and _to_tensors(self.final.state()),
            "one_out": _to_tensors({name: row.astype(np.float32) for name, row in self.inputs.one_out.items()}),
            "calibration": {name: dict(factors) for name, factors in self.calibration.items()},
        }

    @property
    def names(self) -> list[str]:
        """What can be asked for as ``network``."""
        return [*self.networks, *([ALL_NETWORKS] if len(self.networks) > 1 else [])]

    def predict(self, models: ModelTable, tokens: TaskTokens, network: str | None = None) -> Prediction:
        """Rank models for one dataset.

        Args:
            models: M candidates, known or not.
            tokens: The dataset, encoded by the encoder that the ranker was trained with.
            network: ``similarity_transformer``, ``cross_attention`` or ``both``; the selected one by default.

        Returns:
            Score, predicted performance and its standard deviation.

        Raises:
            ItemError: If the tokens are another encoder's.
            ValueError: If there is no such network.
        """
        return self.predict_many(models, [tokens], network)[0]

    def predict_many(
        self, models: ModelTable, tasks: Sequence[TaskTokens], network: str | None = None, *, hidden: bool = False
    ) -> list[Prediction]:
        """Rank the same models for several datasets.

        Args:
            models: M candidates.
            tasks: The datasets.
            network: As for :meth:`predict`.
            hidden: Treat every model as one that was never measured.

        Returns:
            One prediction per dataset.
        """
        chosen = network or self.selected
        if chosen not in self.names:
            raise ValueError(f"there is no network {chosen!r}; choose one of {', '.join(self.names)}")
        self._check(tasks)
        features, known = self.model_inputs(models, hidden)
        prior = self.inputs.prior(models, tasks, hidden=hidden).astype(np.float32)
        members = [
            member
            for name in (self.networks if chosen == ALL_NETWORKS else [chosen])
            for member in self._run(name, features, prior, tasks)
        ]
        calibration = self.calibration.get(chosen, {})
        factor = np.where(known, calibration.get("known", 1.0), calibration.get("unknown", 1.0))
        spreads = self._spreads(models, tasks, hidden)
        return [
            Prediction(list(models.model_ids), *_combine([member[row] for member in members], factor, spreads.get(row)))
            for row in range(len(tasks))
        ]

    def _spreads(
        self, models: ModelTable, tasks: Sequence[TaskTokens], hidden: bool
    ) -> dict[int, tuple[float, float, NDArray[np.float64]]]:
        """By position of a dataset with landmarks: its level and spread, and (M,) standard deviations around them."""
        prior = self.inputs.prior
        rows = [row for row, task in enumerate(tasks) if described(task)]
        if prior.levels is None or prior.covariance is None or not rows:
            return {}
        if hidden:
            own = float(np.diagonal(prior.covariance).mean()) + (prior.models.variance if prior.models else 0.0)
            variance = np.full(len(models), own)
        else:
            variance = prior.variances(models)
        level, spread = prior.levels([tasks[row] for row in rows])
        return {
            row: (float(a), float(b), np.sqrt(prior.levels.error[0] ** 2 + b**2 * variance))
            for row, a, b in zip(rows, level, spread, strict=True)
        }

    def model_inputs(self, models: ModelTable, hidden: bool = False) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Features (M, E), and whether each model is known (M,)."""
        features = self.inputs.models(models)
        known = np.array([model in self.inputs.prior.static.models for model in models.model_ids], dtype=bool)
        if hidden:
            features[:, features.shape[1] - self.inputs.models.n_private :] = 0.0
            known = np.zeros_like(known)
        return features, known

    def _run(
        self, name: str, features: NDArray[np.float32], prior: NDArray[np.float32], tasks: Sequence[TaskTokens]
    ) -> list[NDArray[np.float32]]:
        """For each member (N, 3, M): score, value, log standard deviation; ``prior`` is (N, M)."""
        import torch

        models, priors = torch.from_numpy(features), torch.from_numpy(prior)
        # Scores don't depend on the other candidates, so that candidates can be cut into pieces.
        interact = bool(self.configs.get(name, {}).get("candidates_interact", False))
        out: list[NDArray[np.float32]] = []
        batches = []
        for start in range(0, len(tasks), _TASKS_AT_ONCE):
            some = [self.inputs.tokens(task) for task in tasks[start : start + _TASKS_AT_ONCE]]
            batches.append(tuple(torch.from_numpy(array) for array in pad_tokens(some)))
        for member in self.networks[name]:
            rows = []
            with torch.inference_mode():
                for number, (tokens, mask) in enumerate(batches):
                    count = len(tokens)
                    expected = priors[number * _TASKS_AT_ONCE :][:count]
                    step = len(models) if interact else _step(name, count, len(models))
                    pieces = []
                    for start in range(0, len(models), step):
                        piece = slice(start, start + step)
                        heads = member(models[piece].expand(count, -1, -1), tokens, mask, expected[:, piece])
                        pieces.append(torch.stack([heads["score"], heads["value"], heads["log_std"]], 1))
                    rows.append(torch.cat(pieces, 2))
            out.append(torch.cat(rows).numpy())
        return out

    def _check(self, tasks: Sequence[TaskTokens]) -> None:
        expected = self.inputs.tokens.encoder_id
        width = self.inputs.tokens.mean.shape[1]
        for task in tasks:
            other = task.encoder_id and expected and task.encoder_id != expected
            if other or task.features.shape[2] != width - _n_statistics():
                raise ItemError(
                    task.dataset_id,
                    f"was encoded by {task.encoder_id or 'an unknown encoder'} ({task.features.shape[2]} numbers a "
                    f"token), the ranker was trained with {expected or 'an unknown encoder'}.",
                    "Encode it with the ranker's encoder, or train the ranker again.",
                )


def spread_error(checkpoint: Mapping[str, Any]) -> float:
    """``LandmarkPrior.spread_error`` of a checkpoint's prior; 0 without one."""
    levels = (checkpoint.get("final_prior") or checkpoint.get("prior") or {}).get("levels")
    return float(levels["error"][1]) if levels else 0.0


def _step(name: str, tasks: int, models: int) -> int:
    """Models in one pass; attention of the transformer is quadratic in them, so that small pieces are faster."""
    if name == "similarity_transformer":
        return min(models, 64)
    return max(1, min(models, _CELLS_AT_ONCE // tasks))


def _n_statistics() -> int:
    from thesis_rec.thesis.features import N_TASK_STATISTICS

    return N_TASK_STATISTICS


def _combine(
    members: Sequence[NDArray[np.float32]],
    factor: NDArray[np.float64],
    spread: tuple[float, float, NDArray[np.float64]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Score, value and standard deviation of an ensemble from its members' (3, M) heads.

    Where the dataset's level and spread are known from its landmarks, a value is the level plus the score (which is in
    standard deviations within a dataset) times the spread, with the errors that this made on families that were left
    out. Otherwise the networks' own heads say so.

    Scores of different members have different scales, so that they are averaged in standard deviations; the variance is
    the members' mean variance and the variance between them (Lakshminarayanan et al., "Deep Ensembles", 2017).
    """
    stacked = np.stack(members).astype(np.float64)  # (S, 3, M)
    raw = stacked[:, 0].mean(0)
    score = stacked[:, 0]
    score = (score - score.mean(1, keepdims=True)) / np.maximum(score.std(1, keepdims=True), 1e-9)
    if spread is not None:
        level, width, deviation = spread
        return score.mean(0), np.clip(level + width * raw, 0.0, 1.0), deviation * factor
    value = stacked[:, 1].mean(0)
    variance = np.exp(2.0 * stacked[:, 2]).mean(0) + stacked[:, 1].var(0)
    return score.mean(0), np.clip(value, 0.0, 1.0), np.sqrt(variance) * factor


def calibration_factor(
    value: NDArray[np.floating], std: NDArray[np.floating], truth: NDArray[np.floating], coverage: float = 0.9
) -> float:
    """Factor by which standard deviations must be multiplied so that the normal interval has its nominal coverage.

    Kuleshov et al., "Accurate Uncertainties for Deep Learning Using Calibrated Regression", 2018, reduced to one
    number: the ratio of the empirical to the normal quantile of the standardised residuals.

    Args:
        value: Predicted performance, any shape.
        std: Predicted standard deviations.
        truth: Measured performance, NaN where there is none.
        coverage: Nominal coverage of the central interval.
    """
    from scipy.stats import norm

    residual = np.abs(value - truth) / std
    residual = residual[np.isfinite(residual)]
    if not len(residual):
        return 1.0
    return float(np.quantile(residual, coverage) / norm.ppf(0.5 + coverage / 2))


def _to_tensors(value: Any) -> Any:
    """Arrays as tensors: numpy's own aren't readable without pickle."""
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, dict):
        return {key: _to_tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_tensors(item) for item in value]
    return value


def _to_numpy(value: Any) -> Any:
    if hasattr(value, "numpy"):
        return value.float().numpy()
    if isinstance(value, Mapping):
        return {key: _to_numpy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_numpy(item) for item in value]
    return value
