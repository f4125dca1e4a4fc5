"""What training and evaluation begin with: the candidates and the datasets' tokens, each as one object."""

from typing import Any

import numpy as np
import pandas as pd

from thesis_rec.catalog.files import Partitions
from thesis_rec.pipelines.boxes import step


def join_candidates(
    model_embeddings: pd.DataFrame,
    model_metadata: pd.DataFrame,
    model_responses: dict[str, np.ndarray],
    model_spectra: dict[str, np.ndarray],
    model_manifest: pd.DataFrame,
) -> Any:
    """The candidates: embeddings, responses, spectra, families and sizes in one table of models."""
    from thesis_rec.recommendation.bundle import model_table, with_measured

    sizes = dict(zip(model_metadata["model_id"].astype(str), model_metadata["n_parameters"], strict=True))
    models = model_table(model_embeddings, model_manifest, sizes)
    return with_measured(with_measured(models, model_responses), model_spectra)


def join_tokens(dataset_tokens: Partitions, dataset_manifest: pd.DataFrame) -> dict[str, Any]:
    """Tokens of the training images by dataset, of those that have images of their own."""
    from thesis_rec.images.manifest import base_rows, read_dataset_manifest
    from thesis_rec.views.tokens import check_one_encoder, load_task_tokens

    tokens, _ = load_task_tokens(dataset_tokens, base_rows(read_dataset_manifest(dataset_manifest)[0]))
    check_one_encoder(tokens)
    return tokens


#: Both pipelines have these two, so that each runs alone; a run of both has them once.
NODES = (step(join_candidates, "candidate_models"), step(join_tokens, "task_tokens"))
