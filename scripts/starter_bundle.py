"""What the starter zoo's bundle holds, learned anew from its committed models, tables and tokens.

Vectors and spectra of all models, the autoencoder and its codes, and the knowledge, as ``kedro run`` makes them; the
tokens of the datasets are kept as they are, for drawing and encoding all images again takes hours. Files whose content
is the same keep their bytes; the provenance record is brought up to date.

    python scripts/starter_bundle.py
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from thesis_rec.base.files import load_arrays, save_arrays
from thesis_rec.commands.artefacts import read_configuration
from thesis_rec.evaluation.study import assemble_study
from thesis_rec.knowledge.quadrants import assign_splits
from thesis_rec.models.auto_encoder import encoder_half
from thesis_rec.models.model_extraction import extract_models, extracted_tables
from thesis_rec.models.model_manifest import read_manifest
from thesis_rec.pipelines.autoencoder import nodes
from thesis_rec.pipelines.autoencoder.nodes import AutoencoderParameters
from thesis_rec.recommendation.bundle import (
    Bundle,
    model_table,
    read_bundle,
    with_measured,
    write_bundle,
)
from thesis_rec.starter.assembling import RESPONSES, SPECTRA, write_record
from thesis_rec.starter.provenance import Provenance, hash_tree
from thesis_rec.truth.performance_records import clean_performance

PROJECT = Path(__file__).resolve().parents[1]
STARTER, REAL = (PROJECT / "data" / "01_raw" / name for name in ("starter", "real"))


def read_table(name: str, *folders: Path) -> pd.DataFrame:
    """A manifest or a table of the zoo's folders."""
    parts = [
        pd.read_parquet(folder / name)
        if name.endswith("parquet")
        else pd.read_csv(folder / name, dtype=str, keep_default_na=False)
        for folder in folders
    ]
    return pd.concat(parts, ignore_index=True)


def main() -> None:
    """Write the bundle, the spectra and the record."""
    stored = read_bundle(STARTER / "bundle")
    manifest = read_table("model_manifest.csv", STARTER)
    rows, _ = read_manifest(manifest)
    vectors: dict[str, Any] = {}
    for made, _ in extract_models(rows, STARTER, None, {}, {}):
        vectors |= {name: (lambda *_, vector=vector: vector) for name, vector in made.items()}
    metadata, spectra = extracted_tables(rows, vectors)
    save_arrays(STARTER / SPECTRA, spectra | {"spectra": spectra["spectra"].astype("float16")})
    sides = json.loads((STARTER / "sides.json").read_text(encoding="utf-8"))
    parameters = AutoencoderParameters.model_validate(
        read_configuration(PROJECT, None, "starter")["parameters"]["autoencoder"]
    )
    with tempfile.TemporaryDirectory() as folder:
        parameters = parameters.model_copy(update={"runs_folder": folder})
        checkpoint, _ = nodes.train_autoencoder(vectors, manifest, sides, parameters)
    half = encoder_half(checkpoint)
    counts = dict(zip(metadata["model_id"], metadata["n_parameters"].astype(float), strict=True))
    embeddings = nodes.embed_models(vectors, manifest, half)
    models = with_measured(model_table(embeddings, manifest, counts), load_arrays(STARTER / RESPONSES))
    models = with_measured(models, load_arrays(STARTER / SPECTRA))
    datasets = read_table("dataset_manifest.csv", STARTER, REAL).fillna("")
    records = read_table("performance_records.parquet", STARTER, REAL)
    performance = clean_performance([records[records["model_id"].isin(models.model_ids)]])
    families = dict(zip(manifest["model_id"], manifest["family"], strict=True))
    probes = performance[performance["protocol"] == "linear_probe"]
    splits = assign_splits(probes, families, datasets, sides)
    study = assemble_study(performance, splits, models, stored.tokens, datasets)
    knowledge = study.knowledge_of_all({}, performance, {})
    bundle = Bundle(manifest, models, stored.tokens, stored.performance, datasets, pd.DataFrame(), knowledge)
    # Spectra lie beside the bundle.
    write_bundle(replace(bundle, models=replace(models, spectra=None)), STARTER / "bundle", half)
    content = Provenance.read(STARTER).content
    write_record(content | {"files": hash_tree(STARTER)}, STARTER)


if __name__ == "__main__":
    main()
