"""What a user's hardware and rules allow, which limit excludes a model, and what to relax; the Pareto front."""

import shlex
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from itertools import compress
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import ConfigDict, Field

from thesis_rec.base.errors import did_you_mean, listed
from thesis_rec.base.settings import Settings, Words


class Budget(Settings):
    """Limits on a model, None and empty for none; what stands below each field is its help on the command line."""

    # No limit is written as none: infinity fits no JSON document.
    model_config = ConfigDict(allow_inf_nan=False, use_attribute_docstrings=True)

    device: str = "here"
    """This machine, or part of a device's name."""
    max_latency_ms: float | None = Field(default=None, gt=0)
    """Milliseconds of one call."""
    min_throughput: float | None = Field(default=None, gt=0)
    """Images per second."""
    max_memory_mb: float | None = Field(default=None, gt=0)
    """MiB of weights and one call."""
    max_parameters: float | None = Field(default=None, gt=0)
    """Number of weights, such as 5e6."""
    batch_size: int = Field(default=1, ge=1)
    """Images in a call."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Precision of a call."""
    licences: Words[str] = Field(default=(), json_schema_extra={"option": "--licence"})
    """Allowed licence; several times for several."""
    families: Words[str] = Field(default=(), json_schema_extra={"option": "--family"})
    """Allowed architecture family; several times for several."""

    @property
    def limits(self) -> dict[str, Any]:
        """The limits that are set, by name."""
        return {name: value for name in (*LIMITS, *RULES) if (value := getattr(self, name)) not in (None, ())}

    @property
    def needs_clock(self) -> bool:
        """Whether a limit can only be checked by measuring."""
        return self.max_latency_ms is not None or self.min_throughput is not None or self.max_memory_mb is not None


#: Numeric limits: the figure that each is held against, on its safe side, and whether it is an upper limit.
LIMITS: dict[str, tuple[str, bool]] = {
    "max_latency_ms": ("latency_ms_safe", True),
    "min_throughput": ("throughput_safe", False),
    "max_memory_mb": ("memory_mb_safe", True),
    "max_parameters": ("n_parameters", True),
}

RULES = {"licences": "licence", "families": "family"}

#: Values of a rule that are worth listing when it has to change.
MOST_VALUES = 5


def excesses(figures: pd.DataFrame, budget: Budget) -> pd.DataFrame:
    """By which factor each model breaks each limit that is set.

    Args:
        figures: One row per model with the columns that ``LIMITS`` and ``RULES`` name.
        budget: The limits.

    Returns:
        One column per limit; values up to 1 keep it, infinity breaks a rule or stands for an unknown figure.
    """
    found: dict[str, Any] = {}
    for name, limit in budget.limits.items():
        if name in LIMITS:
            column, upper = LIMITS[name]
            value = figures[column].astype(float)
            found[name] = (value / limit if upper else limit / value).fillna(np.inf)
        else:
            allowed = {item.lower() for item in limit}
            found[name] = np.where(figures[RULES[name]].astype(str).str.lower().isin(allowed), 0.0, np.inf)
    return pd.DataFrame(found, index=figures.index)


def unknown_values(figures: pd.DataFrame, budget: Budget) -> list[str]:
    """A note for each allowed licence or family that no model has: a slip would only look like a strict rule.

    Args:
        figures: One row per model with the columns that ``RULES`` names.
        budget: The limits.

    Returns:
        What was asked for, the nearest known value, and the known values, the most common first.
    """
    notes = []
    for name, column in RULES.items():
        known = figures[column].astype(str).str.lower().value_counts().index.tolist()
        for value in budget.limits.get(name, ()):
            if value.lower() in known:
                continue
            meant = _meant(value.lower(), known)
            notes.append(f"no model has the {column} {value!r}.{meant} Known are {listed(known, 10)}.")
    return notes


def _meant(value: str, known: list[str]) -> str:
    """Names that hold it (``clip_vit``: ``clip``), else the longest that it holds (``vit-b``), else one like it."""
    parts = [name for name in known if value and value in name][:3]
    parts = parts or sorted((name for name in known if name in value), key=len)[-1:]
    return f" Did you mean {' or '.join(parts)}?" if parts else did_you_mean(value, known)


def unknown_figures(figures: pd.DataFrame, budget: Budget) -> list[str]:
    """A note for each limit that can't be held against anything: of no model is the figure known.

    Args:
        figures: As for :func:`excesses`.
        budget: The limits.
    """
    limits = {name: value for name, value in budget.limits.items() if name in LIMITS}
    return [
        f"{option_text(name, value)} can't be checked: no such figure of any model is known here, measured or "
        "predicted. Leave it out, or measure by `kedro run --pipelines=hardware_profiling`."
        for name, value in limits.items()
        if len(figures) and figures[LIMITS[name][0]].isna().all()
    ]


def feasible(figures: pd.DataFrame, budget: Budget) -> tuple[NDArray[np.bool_], pd.Series]:
    """Which models keep every limit, and what excludes the others.

    Args:
        figures: As for :func:`excesses`.
        budget: The limits.

    Returns:
        (M,) mask, and for each model the limits that it breaks, joined by ``, `` (empty for feasible ones).
    """
    excess = excesses(figures, budget)
    broken = excess.to_numpy(float) > 1
    names = [str(name) for name in excess.columns]
    reasons = [", ".join(compress(names, row)) for row in broken]
    return np.asarray(~broken.any(axis=1)), pd.Series(reasons, index=figures.index, dtype=object)


@dataclass(frozen=True)
class Relaxation:
    """A smallest change of the limits under which a model fits.

    Attributes:
        changes: New value of each limit that has to change; an empty one is none.
        model_ids: The models that fit then.
        factor: Largest relative change among the limits.
    """

    changes: dict[str, Any]
    model_ids: list[str]
    factor: float

    def __str__(self) -> str:
        changed = " and ".join(
            option_text(name, value) or f"no {option_name(name)}" for name, value in self.changes.items()
        )
        return f"{changed} (then {listed(self.model_ids, 3)} {'fit' if len(self.model_ids) > 1 else 'fits'})"


def closest_relaxations(figures: pd.DataFrame, budget: Budget) -> list[Relaxation]:
    """The smallest changes of the limits under which something fits, smallest first.

    For each limit alone: the value at which the first model fits while the others stay. Then the model whose largest
    excess over all numeric limits is smallest, with all the limits that it needs. A rule (licence, family) is only
    relaxed alone, to the values that the models which keep the other limits have, or away where these are many.

    Args:
        figures: As for :func:`excesses`, with ``model_id``.
        budget: The limits, under which nothing fits.

    Returns:
        Nothing when there is no model that any change would let in.
    """
    excess = excesses(figures, budget)
    limits = list(map(str, excess))
    numeric = [name for name in limits if name in LIMITS]
    found: dict[tuple[str, ...], Relaxation] = {}
    for names in [*([name] for name in limits), *([numeric] if numeric else [])]:
        group = excess.loc[(excess.drop(columns=names) <= 1).all(axis=1), names]
        worst = group.max(axis=1)
        changes: dict[str, Any] = {}
        if np.isfinite(worst.min()):
            best = group[worst == worst.min()].iloc[0].clip(lower=1)
            group = group[(group <= best).all(axis=1)]
            for name in (name for name in names if best[name] > 1):
                column, upper = LIMITS[name]
                changes[name] = _rounded(float(figures.loc[group.index, column].iloc[0]), upper)
        elif names[0] in RULES and len(group):
            values = tuple(sorted(set(figures.loc[group.index, RULES[names[0]]].astype(str))))
            changes[names[0]] = values if len(values) <= MOST_VALUES else ()
        if changes:
            fits = figures.loc[group.index, "model_id"].tolist()
            found.setdefault(tuple(changes), Relaxation(changes, fits, float(worst.min())))
    return sorted(found.values(), key=lambda relaxation: relaxation.factor)


def _rounded(value: float, upper: bool) -> float:
    """Three digits, on the side on which the model still fits."""
    digits = Context(prec=3, rounding=ROUND_CEILING if upper else ROUND_FLOOR)
    return float(digits.create_decimal(repr(value)))


def option_name(limit: str) -> str:
    """The command line's option for a limit."""
    return "--" + RULES.get(limit, limit).replace("_", "-")


def option_text(name: str, value: Any) -> str:
    """A limit or another wish as on the command line, where a rule's option stands once for each value."""
    items = value if isinstance(value, tuple) else (value,)
    texts = [f"{item:g}" if isinstance(item, float) else shlex.quote(str(item)) for item in items]
    return " ".join(f"{option_name(name)} {text}" for text in texts)


def pareto_front(cost: ArrayLike, value: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point dominates: cheaper or equal and better or equal, and one of the two strictly.

    Args:
        cost: (N,) lower is better; NaN never belongs to the front.
        value: (N,) higher is better; NaN never belongs to the front.

    Returns:
        (N,) mask. Equal points are on the front together or not at all.
    """
    points = pd.DataFrame({"cost": np.asarray(cost, dtype=float), "value": np.asarray(value, dtype=float)})
    best = points.dropna().groupby("cost")["value"].max()
    front = best[best > best.cummax().shift(fill_value=-np.inf)]
    return np.asarray(points["value"] == points["cost"].map(front))
