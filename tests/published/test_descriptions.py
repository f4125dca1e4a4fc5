"""What the tags of weights say of their kind and corpus."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from thesis_rec.published.descriptions import HEAD, describe


@pytest.mark.parametrize(
    ("tag", "kind", "corpus"),
    [
        ("laion2b_ft_in12k_in1k", "supervised", "laion"),
        ("laion2b_s34b_b79k", "contrastive", "laion"),
        ("commonpool_m_image_s128m_b4k", "contrastive", "commonpool_m"),
        ("datacomp_xl_s13b_b90k", "contrastive", "datacomp_xl"),
        ("openai", "contrastive", "wit"),
        ("lvd142m", "self_supervised", "lvd142m"),
        ("fcmae_ft_in22k_in1k", "supervised", "in21k"),
        ("fcmae", "masked", "in1k"),
        ("mim_m38m", "masked", None),
        ("mim_in22k_ft_in1k", "supervised", "in21k"),
        ("sat493m", "self_supervised", None),
        ("fb", "contrastive", None),
        ("augreg_in21k", "supervised", "in21k"),
        ("tv_in1k", "supervised", "in1k"),
        ("blip_129m", "captioning", "blip_129m"),
        ("nickmuchi/beans", "supervised", None),
        ("c_radio", None, None),
    ],
)
def test_tags(tag: str, kind: str | None, corpus: str | None) -> None:
    manifest = pd.DataFrame(
        {"model_id": ["m"], "family": ["f"], "pretraining": [tag], "parameters": [1e6], "input_size": [224]}
    )
    row = describe(manifest, pd.DataFrame(columns=["model_id", "dataset_id", "protocol", "value"])).loc["m"]
    assert (row["kind"], row["corpus"]) == (kind, corpus)
    assert np.isnan(row["imagenet"])


def test_the_imagenet_figure_is_that_of_the_head_if_there_is_one() -> None:
    manifest = pd.DataFrame(
        {"model_id": ["a", "b"], "family": "f", "pretraining": "x", "parameters": 1, "input_size": 1}
    )
    cells = pd.DataFrame(
        [
            ("a", "imagenet_1k", "zero_shot", 0.6),
            ("a", "imagenet_1k", HEAD, 0.8),
            ("b", "imagenet_1k", "linear_probe", 0.7),
            ("b", "dtd", "zero_shot", 0.1),
        ],
        columns=["model_id", "dataset_id", "protocol", "value"],
    )
    assert describe(manifest, cells)["imagenet"].tolist() == [0.8, 0.7]
