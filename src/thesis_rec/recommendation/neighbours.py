"""Known datasets near a new one: similarity, a map, and what is known of each model there."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from thesis_rec.base.tables import Floats, TaskTokens, unit
from thesis_rec.recommendation.bundle import IN_WORDS, Bundle, PublishedBeliefs

#: Similarity below which nothing similar is known: of the embedded zoo's 267 datasets one in twenty has none above it
#: (0.571) outside of its own domain, by the embedded encoder.
FAR = 0.57


def far_notes(nearest: pd.DataFrame) -> list[str]:
    """A note where even the nearest known dataset is unlike the images."""
    if nearest.empty or nearest["similarity"].iloc[0] >= FAR:
        return []
    first = nearest.iloc[0]
    return [
        f"nothing similar is known: {first['dataset_id']}, the nearest known dataset, is less like your images "
        f"({first['similarity']:.2f}) than 19 of 20 known datasets are like one of another domain. Try some (--probe)."
    ]


def nearest_datasets(tokens: TaskTokens, known: Mapping[str, TaskTokens], datasets: pd.DataFrame) -> pd.DataFrame:
    """Known datasets by falling similarity of their classes.

    Each class is the mean of its tokens, centred on the mean of all known classes (features of one encoder share a
    large common part). Two datasets are as similar as their classes' best matches: the mean over the classes of one of
    the largest cosine with a class of the other, and the same the other way round, averaged.

    Args:
        tokens: The dataset.
        known: Known datasets.
        datasets: The dataset manifest, for ``domain`` and ``group``.

    Returns:
        ``dataset_id, similarity`` (-1..1), ``domain, group``.
    """
    names = list(known)
    if not names:
        return pd.DataFrame(columns=["dataset_id", "similarity", "domain", "group"])
    means = [_class_means(known[name]) for name in names]
    centre = np.concatenate(means).mean(axis=0)
    own = unit(_class_means(tokens) - centre)
    stacked = unit(np.concatenate(means) - centre)
    cosine = own @ stacked.T  # (C, all known classes)
    starts = np.cumsum([0, *(len(part) for part in means[:-1])])
    forward = np.maximum.reduceat(cosine, starts, axis=1).mean(axis=0)
    backward = np.add.reduceat(cosine.max(axis=0), starts) / [len(part) for part in means]
    found = pd.DataFrame({"dataset_id": names, "similarity": (forward + backward) / 2})
    about = datasets.reindex(columns=["dataset_id", "domain", "group"]).drop_duplicates("dataset_id")
    found = found.merge(about, on="dataset_id", how="left")
    return found.sort_values("similarity", ascending=False, kind="stable").reset_index(drop=True)


def dataset_map(tokens: TaskTokens, known: Mapping[str, TaskTokens], datasets: pd.DataFrame) -> pd.DataFrame:
    """All datasets in two dimensions: the first principal components of their mean tokens.

    Returns:
        ``dataset_id, x, y, domain, kind`` with ``kind`` ``known`` or ``new``; the new one comes last.
    """
    items = list(known.values())
    if not items:
        return pd.DataFrame(columns=["dataset_id", "x", "y", "domain", "kind"])
    points = np.stack([_class_means(item).mean(axis=0) for item in [*items, tokens]])
    reference = points[:-1] if len(items) > 2 else points
    centred = reference - reference.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    # The sign of a component is arbitrary: the largest coordinate is made positive, so that maps agree.
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    placed = (points - reference.mean(axis=0)) @ axes.T
    placed = np.pad(placed, ((0, 0), (0, 2 - placed.shape[1])))
    names = [item.dataset_id for item in [*items, tokens]]
    kinds = ["known"] * len(items) + ["new"]
    found = pd.DataFrame({"dataset_id": names, "x": placed[:, 0], "y": placed[:, 1], "kind": kinds})
    domains = datasets.drop_duplicates("dataset_id").set_index("dataset_id")["domain"]
    found["domain"] = found["dataset_id"].map(domains).fillna("").where(found["kind"] == "known", "")
    return found[["dataset_id", "x", "y", "domain", "kind"]]


def reasons(model_ids: Sequence[str], nearest: pd.DataFrame, bundle: Bundle, tried: Mapping[str, float]) -> list[str]:
    """Why each model has its place, in sentences: what it reached, and what is known of it or of the one most like it.

    Args:
        model_ids: The models.
        nearest: The nearest known datasets, nearest first; empty where the images were not looked at.
        bundle: What is known.
        tried: What models reached on the images themselves.
    """
    near = nearest[["dataset_id"]].merge(bundle.performance, on="dataset_id")
    known, strange = _at_large(bundle) if near.empty else _nearby(near, bundle), bundle.from_afar
    found = []
    for model in model_ids:
        own = [f"A linear probe on these images reached {tried[model]:.2f}."] if model in tried else []
        told = known(model)
        # Of a model that was tried something is known, and trying it tells no more.
        others = [told] if told else [] if own else [strange[model]]
        found.append(" ".join([*own, *others]))
    return found


def _nearby(near: pd.DataFrame, bundle: Bundle) -> Callable[[str], str]:
    """What is to be said of a model where some were measured on the nearest datasets; nothing of one from afar."""
    values = near.groupby("dataset_id")["value"]
    near = near.assign(place=values.rank(ascending=False, method="min").astype(int), of=values.transform("count"))
    told: dict[str, list[str]] = {}
    for row in near.itertuples():
        text = f"{row.value:.2f} (place {row.place} of {row.of}) on {row.dataset_id}"
        told.setdefault(str(row.model_id), []).append(text)
    row_of = {model: i for i, model in enumerate(bundle.models.model_ids)}
    embedding = bundle.models.embedding.astype(np.float64)
    described = np.isfinite(embedding).all(axis=1) & (embedding.shape[1] > 0)
    codes = unit(embedding - embedding[described].mean(axis=0)) if described.any() else embedding
    measured = [model for model in told if model in row_of and described[row_of[model]]]
    strange = bundle.from_afar

    def known(model: str) -> str:
        if model in told:
            return f"On what looks most like your images it reached {', '.join(told[model])}."
        if model in strange:
            return ""
        if not measured or not described[row_of[model]]:
            return "It was never measured on anything like your images: its interval is wide."
        cosine = codes[[row_of[other] for other in measured]] @ codes[row_of[model]]
        like = measured[int(cosine.argmax())]
        return f"It was never measured nearby; {like}, whose weights are most like it, reached {told[like][0]}."

    return known


def _at_large(bundle: Bundle) -> Callable[[str], str]:
    """What is to be said of a model where no known dataset is nearer than another; nothing of one from afar."""
    published = bundle.knowledge
    if not isinstance(published, PublishedBeliefs):
        return lambda model: "Nothing is measured near these images: the prediction alone puts it here."
    strange, (of_another_size, otherwise) = bundle.from_afar, bundle.unlike_measured
    apart, kind = otherwise | of_another_size, IN_WORDS[published.protocol]

    def known(model: str) -> str:
        if model in strange:
            return ""
        if figures := published.figures(model, published.protocol):
            whose = f"its weights as {published.twins[model]}" if model in published.twins else "it"
            return f"{figures} published {kind} of {whose}, against those of other models, put it here."
        if others := [f"{n} {words}" for p, words in IN_WORDS.items() if (n := published.figures(model, p))]:
            return f"No {kind} of it were published: its {' and '.join(others)} put it here."
        if published.figures(model):
            # Of its own head: they stand in its description.
            what = "its ImageNet accuracy, architecture, data and size put it here"
            return f"No {kind} of it were published: {what}."
        if model in apart:
            return f"No figure was published of it or of models like it: {apart[model]}."
        return "No figure of it was published; its architecture, data and size put it here."

    return known


def _class_means(tokens: TaskTokens) -> Floats:
    return tokens.features.astype(np.float64).mean(axis=0)  # (C, D)
