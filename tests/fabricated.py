"""A small fabricated bundle, with what its cells say, and a belief whose predictions are known."""

from __future__ import annotations

import numpy as np
import pandas as pd

from thesis_rec.base.tables import ModelTable, TaskTokens
from thesis_rec.knowledge.knowledge import Knowledge, fit_knowledge
from thesis_rec.knowledge.posterior import Posterior, Scale
from thesis_rec.recommendation.bundle import Bundle, model_table

N_MODELS, N_DATASETS, DIM = 24, 6, 16
DEVICE = "cpu_fabricated_2c2t_torch2.9"


def tokens_of(name: str, seed: int, centre: np.ndarray | None = None, classes: int = 4) -> TaskTokens:
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(classes, DIM)) if centre is None else centre
    features = middle[None] + 0.1 * rng.normal(size=(3, len(middle), DIM))
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    return TaskTokens(name, features.astype(np.float32), [f"c{i}" for i in range(len(middle))], 40, "fabricated")


def fabricated_bundle(seed: int = 0) -> Bundle:
    rng = np.random.default_rng(seed)
    ids = [f"m{i:02d}" for i in range(N_MODELS)]
    families = [f"family{i % 4}" for i in range(N_MODELS)]
    parameters = np.exp(rng.uniform(np.log(1e4), np.log(1e6), N_MODELS)).round()
    manifest = pd.DataFrame({
        "model_id": ids, "loader": "timm", "source": [f"models/{m}" for m in ids], "revision": "", "family": families,
        "pretraining": "shapes", "licence": ["MIT" if i % 3 else "Apache-2.0" for i in range(N_MODELS)],
        "extractor": "timm",
    })  # fmt: skip
    embeddings = pd.DataFrame(rng.normal(size=(N_MODELS, 8)).astype(np.float32))
    embeddings.insert(0, "model_id", ids)
    models = model_table(embeddings, manifest, dict(zip(ids, parameters, strict=True)))
    datasets = [f"d{i}" for i in range(N_DATASETS)]
    performance = pd.DataFrame(
        [(m, d, float(rng.uniform(0.3, 0.9))) for m in ids[:-4] for d in datasets],
        columns=["model_id", "dataset_id", "value"],
    ).assign(protocol="linear_probe")
    latency = 0.5 + parameters / 1e5 * np.exp(0.1 * rng.normal(size=N_MODELS))
    profiles = pd.DataFrame([
        {
            "model_id": m, "device": DEVICE, "precision": "fp32", "batch_size": b,
            "latency_ms_p50": latency[i] * b**0.8,
            "latency_ms_p95": latency[i] * b**0.8 * 1.2, "throughput": 1000 * b / (latency[i] * b**0.8),
            "peak_memory_mb": parameters[i] * 4e-6 + b,
            "n_parameters": parameters[i], "macs": parameters[i] * 30,
            "source": "measured", "latency_ms_p50_high": latency[i] * b**0.8, "activation_mb": 1.0, "n_operations": 40,
        }
        for i, m in enumerate(ids) for b in (1, 32)
    ])  # fmt: skip
    tokens = {name: tokens_of(name, i) for i, name in enumerate(datasets)}
    return Bundle(
        manifest=manifest,
        models=models,
        tokens=tokens,
        performance=performance,
        datasets=pd.DataFrame({"dataset_id": datasets, "domain": "shapes", "group": "structured"}),
        profiles=profiles,
        knowledge=learned(models, tokens, performance),
        sources={"knowledge": "starter", "embeddings": "starter"},
    )


def fabricated_posterior(bundle: Bundle, tokens: TaskTokens) -> Posterior:
    """A belief by the number of parameters, the largest model being best, whose errors go together."""
    size = np.log(np.maximum(bundle.models.n_parameters, 1.0))
    value = 0.3 + 0.5 * (size - size.min()) / max(np.ptp(size), 1e-9)
    scale = Scale(1.0 / len(tokens.class_names))
    errors = np.random.default_rng(1).normal(size=(len(bundle.models), 30))
    errors /= np.linalg.norm(errors, axis=1, keepdims=True)
    factor = errors * (0.05 * scale.slope(value))[:, None]
    return Posterior(bundle.models.model_ids, scale.latent(value), factor, np.zeros(len(errors)), scale)


def learned(models: ModelTable, tokens: dict[str, TaskTokens], performance: pd.DataFrame) -> Knowledge:
    """What the cells say, each dataset being a family of its own."""
    wide = performance.pivot_table(index="dataset_id", columns="model_id", values="value")
    values = wide.reindex(index=list(tokens), columns=models.model_ids).to_numpy(dtype=float)
    return fit_knowledge(models, list(tokens.values()), values, list(tokens))
