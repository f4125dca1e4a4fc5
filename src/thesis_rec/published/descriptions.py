"""What is known of models without any cell: kind, family, corpus, size, resolution and ImageNet accuracy."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pandas as pd
import yaml

#: What tags of weights say: patterns and what each tells, the first that occurs in a tag decides.
_RULES = yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))

#: Accuracy of a network's own classification head: a description of the network, not a protocol of ours.
HEAD = "head"

#: Whose ImageNet accuracy stands for a model that has several.
_IMAGENET_ORDER = [HEAD, "zero_shot", "linear_probe"]


def describe(manifest: pd.DataFrame, cells: pd.DataFrame, imagenet: str = "imagenet_1k") -> pd.DataFrame:
    """One row of :data:`thesis_rec.knowledge.protocols.COLUMNS` for each model of the manifest.

    Args:
        manifest: Model manifest with model_id, family, pretraining, parameters and input_size.
        cells: Cells, of which those on ``imagenet`` are used.
        imagenet: Identifier of ImageNet among the datasets.
    """
    tags = manifest["pretraining"].fillna("").astype(str)
    found = cells[(cells["dataset_id"] == imagenet) & cells["protocol"].isin(_IMAGENET_ORDER)]
    found = found.assign(order=[_IMAGENET_ORDER.index(one) for one in found["protocol"]])
    accuracy = found.sort_values("order", kind="stable").drop_duplicates("model_id").set_index("model_id")["value"]
    columns = {
        "kind": told_by_tags("kinds", tags),
        "family": manifest["family"].to_numpy(),
        "corpus": told_by_tags("corpora", tags),
        "n_parameters": pd.to_numeric(manifest["parameters"]).to_numpy(),
        "resolution": pd.to_numeric(manifest["input_size"]).to_numpy(),
    }
    frame = pd.DataFrame(columns, index=manifest["model_id"].astype(str))
    frame["imagenet"] = accuracy.reindex(frame.index).to_numpy()
    return frame[~frame.index.duplicated()]


def told_by_tags(what: str, tags: Iterable[str]) -> list[str | None]:
    """The ``kinds`` or ``corpora`` of models by the tags of their weights, None where the rules don't know one."""
    return [_told(what, tag) for tag in tags]


@cache
def _told(what: str, tag: str) -> str | None:
    return next((value for pattern, value in _RULES[what] if re.search(pattern, tag)), None)
