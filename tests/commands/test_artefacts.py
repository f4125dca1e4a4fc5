"""Which artefacts of a folder's runs an answer reads."""

import pytest

from thesis_rec.commands.artefacts import load_bundle


class Asked(Exception):
    pass


@pytest.mark.parametrize(("zoo", "all_of_them"), [("starter", True), ("hub", False)])
def test_what_runs_learned_of_one_zoo_is_nothing_about_another(project_dir, monkeypatch, zoo, all_of_them):
    """Runs are about the starter zoo. What is known of single models is of use anywhere, what was learned is not."""
    entries = {}

    class Dataset:
        def __init__(self, name, entry):
            self.name, entries[name] = name, entry

        def load(self):
            if self.name == "recommendation_artefacts":
                raise Asked

    monkeypatch.setattr("kedro.io.AbstractDataset.from_config", Dataset)
    monkeypatch.setattr("thesis_rec.commands.artefacts._checked", lambda *_: None)
    with pytest.raises(Asked):
        load_bundle(project_dir, zoo=zoo)
    own = set(entries["recommendation_artefacts"]["own"])
    assert {"performance", "model_metadata", "model_spectra", "hardware_profiles"} <= own
    learned = {"knowledge", "model_embeddings", "dataset_tokens", "autoencoder_checkpoint", "model_responses"}
    assert own & learned == (learned if all_of_them else set())


def test_models_whose_files_a_shipped_zoo_only_says_where_to_put_are_left_out_without_them(
    project_dir, monkeypatch, tmp_path
):
    monkeypatch.delenv("THESIS_REC_REAL_DATA", raising=False)
    bundle = load_bundle(project_dir, zoo="real")
    ids = set(bundle.manifest["model_id"])
    assert "poolformer_a__mix3__150" in ids
    assert not {"cifar_resnet20", "cifar_resnet32"} & ids
    assert any(note.startswith("Left out: cifar_resnet20 ($THESIS_REC_REAL_DATA/") for note in bundle.notes)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet20-12fca82f.th").touch()
    monkeypatch.setenv("THESIS_REC_REAL_DATA", str(tmp_path))
    ids = set(load_bundle(project_dir, zoo="real").manifest["model_id"])
    assert "cifar_resnet20" in ids
    assert "cifar_resnet32" not in ids
