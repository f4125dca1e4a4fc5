"""The pipeline's nodes on a small folder of tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from thesis_rec.base.errors import NothingSucceeded
from thesis_rec.base.files import load_arrays, save_arrays
from thesis_rec.knowledge.protocols import ANY, ProtocolKnowledge
from thesis_rec.pipelines.published.nodes import PublishedParameters, learn_published_knowledge, read_published_cells
from thesis_rec.published.cells import Source, TableFile


def _parameters(folder: Path) -> PublishedParameters:
    return PublishedParameters(
        tables=str(folder), cache=str(folder / "cache"), aliases=str(folder / "aliases.csv"), protocols=("zero_shot",)
    )


def test_tables_become_stored_knowledge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    names = [f"net{k}" for k in range(8)]
    frame = pd.DataFrame({"name": names, "pretrained": "openai"})
    for dataset in ("DTD", "CIFAR-10", "Stanford Cars", "FER2013"):
        frame[dataset] = 0.5 + 0.04 * np.arange(8) + 0.01 * generator.normal(size=8)
    frame.to_csv(tmp_path / "table.csv", index=False)
    pd.DataFrame(
        {"model_id": [f"m/{name}" for name in names[:7]], "source": "one", "name": names[:7], "pretrained": "openai"}
    ).to_csv(tmp_path / "aliases.csv", index=False)
    one = Source(
        format="open_clip",
        repository="a/b",
        commit="1234567",
        licence="MIT",
        protocol="zero-shot",
        files=(TableFile(local="table.csv"),),
    )
    gone = one.model_copy(update={"files": (TableFile(local="gone.csv"),)})
    monkeypatch.setattr("thesis_rec.pipelines.published.nodes.read_sources", lambda: {"one": one, "two": gone})
    with pytest.raises(NothingSucceeded, match=r"1 of the sources.*strict=false.*gone.csv doesn't exist"):
        read_published_cells(_parameters(tmp_path))
    parameters = _parameters(tmp_path).model_copy(update={"strict": False})
    cells, report = read_published_cells(parameters)
    assert report["unknown_models"] == {"one": 1}
    assert "gone.csv doesn't exist" in report["missing"]["two"]
    manifest = pd.DataFrame(
        {
            "model_id": [*(f"m/{name}" for name in names[:7]), "m/unseen"],
            "family": "net",
            "pretraining": "openai",
            "parameters": 1e7,
            "input_size": 224,
        }
    )
    arrays, domains, provenance = learn_published_knowledge(manifest, cells, report, parameters)
    assert provenance["sources"]["one"]["commit"] == "1234567"
    save_arrays(tmp_path / "knowledge.npz", arrays)
    knowledge = ProtocolKnowledge.from_arrays(load_arrays(tmp_path / "knowledge.npz"))
    prior = knowledge.posterior(list(manifest["model_id"]), "zero_shot", 10)
    assert prior.best() == "m/net6"
    assert knowledge.figures("m/net6") == 4
    assert knowledge.figures("m/unseen") == 0
    told = knowledge.with_domains(domains)
    assert {domain: one.n_datasets for (_, domain), one in told.domains.items()} == {
        ANY: 4, "faces": 1, "fine-grained": 1, "objects": 1, "textures": 1,
    }  # fmt: skip
    assert told.n_datasets("zero_shot") == 4
    assert told.n_datasets("linear_probe") == knowledge.n_datasets("zero_shot") == 0


def test_nothing_at_all_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "aliases.csv").write_text("model_id,source,name,pretrained\n")
    with pytest.raises(NothingSucceeded, match="THESIS_REC_BENCHMARKS"):
        read_published_cells(_parameters(tmp_path))
