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
