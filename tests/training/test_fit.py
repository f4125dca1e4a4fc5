"""The training service: files, exact resume, early stopping, schedules, processes."""

import json
import logging
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from thesis_rec.base.errors import ConfigurationError
from thesis_rec.training import fit as fit_room
from thesis_rec.training.fit import EpochSampler, FitModule, checkpoint_loss, checkpoints, fingerprint, fit, loader
from thesis_rec.training.optimiser import cosine_with_warmup
from thesis_rec.training.settings import FitSettings


class Regression(FitModule):
    """A small network with dropout, so that every source of randomness takes part."""

    def losses(self, batch, training):
        loss = (self.network(batch["x"]) - batch["y"]).square().mean()
        return {"loss": loss}


def data(seed=0, n=48):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    return {"x": x, "y": x.sum(1, keepdim=True) + 0.1 * torch.randn(n, 1, generator=generator)}


def module(**settings):
    torch.manual_seed(7)
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))
    values = {"epochs": 6, "batch_size": 8, "learning_rate": 0.02, "accelerator": "cpu", **settings}
    return Regression(network, FitSettings(**values))


def train(folder, **settings):
    return fit(module(**settings), data(0), data(1, 16), folder, seed=3, description="regression")


def losses(result):
    return [(row["epoch"], row["train_loss"], row["val_loss"], row["learning_rate"]) for row in result.history]


class TestARun:
    def test_it_learns_and_returns_the_best_epoch(self, tmp_path):
        result = train(tmp_path, epochs=15)
        values = [row["val_loss"] for row in result.history]
        assert values[result.best_epoch] == min(values) < 0.5 * values[0]
        network = module().network
        network.load_state_dict(result.state)
        check = data(1, 16)
        loss = (network.eval()(check["x"]) - check["y"]).square().mean()
        assert loss.item() == pytest.approx(min(values), rel=1e-5)

    def test_the_history_is_written_as_json(self, tmp_path):
        result = train(tmp_path)
        assert json.loads((tmp_path / "history.json").read_text()) == result.history
        assert [row["epoch"] for row in result.history] == list(range(6))

    def test_checkpoints_carry_epoch_loss_and_time_and_load_without_pickle(self, tmp_path):
        # So fast that losses fall and rise.
        history = train(tmp_path, keep_checkpoints=2, learning_rate=0.3, schedule="constant").history
        names = [path.name for path in checkpoints(tmp_path)]
        best = sorted(history[:-1], key=lambda row: row["val_loss"])[:2]
        assert {row["epoch"] for row in best} != {3, 4}
        # The latest and the two best others.
        assert [int(name[6:9]) for name in names] == [5, *sorted((row["epoch"] for row in best), reverse=True)]
        assert all(re.fullmatch(r"epoch=\d{3}-loss=\d+\.\d{4}-time=\d{8}T\d{6}\.ckpt", name) for name in names)
        for path in checkpoints(tmp_path):
            assert torch.load(path, weights_only=True)["state_dict"]

    def test_a_loss_that_is_no_number_is_worse_than_any(self):
        losses = [checkpoint_loss(Path(f"epoch=001-loss={loss}-time=1.ckpt")) for loss in (-0.5, 0.25, "nan")]
        assert losses == [-0.5, 0.25, math.inf]

    def test_it_leaves_no_logs_and_no_temporary_files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        train(tmp_path / "run")
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
        assert {path.suffix for path in (tmp_path / "run").iterdir()} == {".ckpt", ".json"}

    def test_the_same_seed_gives_the_same_curve(self, tmp_path):
        assert losses(train(tmp_path / "a")) == losses(train(tmp_path / "b"))

    def test_it_leaves_the_callers_random_numbers_alone(self, tmp_path):
        instance = module()
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        fit(instance, data(0), None, tmp_path, seed=3, description="regression")
        assert torch.equal(torch.rand(3), expected)

    def test_without_validation_the_training_loss_is_watched(self, tmp_path):
        result = fit(module(), data(0), None, tmp_path, seed=3, description="regression")
        values = [row["train_loss"] for row in result.history]
        assert values[result.best_epoch] == min(values)

    def test_progress_is_logged_when_there_is_no_terminal(self, tmp_path, caplog):
        with caplog.at_level(logging.INFO, logger="thesis_rec"):
            train(tmp_path)
        assert "regression: epoch 6 of 6, val_loss" in caplog.text
        assert "GPU available" not in caplog.text

    def test_gradients_are_clipped(self, tmp_path):
        instance = module(epochs=1, gradient_clip=1e-6, schedule="constant", weight_decay=0.0)
        norms = []

        def watch(optimizer, *_):
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
            norms.append(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])).item())

        original = instance.configure_optimizers

        def configure():
            optimiser = original()
            optimiser.register_step_post_hook(watch)
            return optimiser

        instance.configure_optimizers = configure
        fit(instance, data(0), None, tmp_path, seed=3, description="regression")
        assert norms
        assert max(norms) <= 1.01e-6

    def test_devices_that_do_not_exist_are_a_configuration_error(self, tmp_path):
        if torch.cuda.is_available():
            pytest.skip("this machine has a GPU")
        with pytest.raises(ConfigurationError, match="regression"):
            train(tmp_path, accelerator="cuda")


def test_half_precision_learns_too_and_keeps_single_precision_weights(tmp_path):
    half, single = train(tmp_path / "a", precision="bf16-mixed"), train(tmp_path / "b")
    values = [row["val_loss"] for row in half.history]
    assert min(values) < 0.8 * values[0]
    assert {tensor.dtype for tensor in half.state.values()} == {torch.float32}
    assert losses(half) != losses(single)
    assert min(values) == pytest.approx(min(row["val_loss"] for row in single.history), rel=0.1)


class Killed(Exception):
    pass


def killed_after(epochs, monkeypatch):
    """Let training die during the epoch after ``epochs`` complete ones."""

    original = fit_room.RunFiles.on_train_batch_start

    def die(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == epochs:
            raise Killed
        original(self, trainer, pl_module, batch, batch_idx)

    monkeypatch.setattr(fit_room.RunFiles, "on_train_batch_start", die)


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
@pytest.mark.parametrize("every", [1, 2])
def test_a_resumed_run_has_the_curve_of_an_undisturbed_one(tmp_path, monkeypatch, schedule, every):
    settings = {"schedule": schedule, "checkpoint_every": every, "patience": 4, "plateau_patience": 0}
    whole = train(tmp_path / "whole", **settings)
    original = fit_room.RunFiles.on_train_batch_start
    killed_after(3, monkeypatch)
    with pytest.raises(Killed):
        train(tmp_path / "cut", **settings)
    monkeypatch.setattr(fit_room.RunFiles, "on_train_batch_start", original)
    epochs = []
    monkeypatch.setattr(
        fit_room.EarlyStopping,
        "on_train_epoch_start",
        lambda self, trainer, _: epochs.append(trainer.current_epoch),
        raising=False,
    )
    resumed = train(tmp_path / "cut", **settings)
    assert epochs[0] == (3 if every == 1 else 2)  # it didn't begin anew
    assert losses(resumed) == losses(whole)
    assert resumed.best_epoch == whole.best_epoch
    for name, tensor in whole.state.items():
        assert torch.equal(tensor, resumed.state[name])


@pytest.mark.parametrize(("damaged", "begins"), [("epoch=002*", 2), ("epoch=*", 0)])
def test_files_that_are_cut_off_cost_epochs_and_nothing_else(tmp_path, monkeypatch, damaged, begins):
    whole = train(tmp_path / "whole")
    original = fit_room.RunFiles.on_train_batch_start
    killed_after(3, monkeypatch)
    with pytest.raises(Killed):
        train(tmp_path / "cut")
    monkeypatch.setattr(fit_room.RunFiles, "on_train_batch_start", original)
    for path in (files := list((tmp_path / "cut").rglob(damaged))):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert files
    epochs = []
    watched = fit_room.RunFiles.on_train_epoch_end
    monkeypatch.setattr(
        fit_room.RunFiles,
        "on_train_epoch_end",
        lambda self, trainer, module: watched(self, trainer, epochs.append(trainer.current_epoch) or module),
    )
    assert losses(train(tmp_path / "cut")) == losses(whole)
    assert epochs[0] == begins


def test_a_finished_run_and_one_with_other_settings_start_anew(tmp_path, caplog):
    first = train(tmp_path)
    with caplog.at_level(logging.INFO, logger="thesis_rec"):
        again = train(tmp_path)
        other = train(tmp_path, learning_rate=0.01)
    assert losses(first) == losses(again) != losses(other)
    assert "resuming" not in caplog.text


def test_resuming_can_be_switched_off(tmp_path, monkeypatch, caplog):
    original = fit_room.RunFiles.on_train_batch_start
    killed_after(3, monkeypatch)
    with pytest.raises(Killed):
        train(tmp_path)
    monkeypatch.setattr(fit_room.RunFiles, "on_train_batch_start", original)
    with caplog.at_level(logging.INFO, logger="thesis_rec"):
        train(tmp_path, resume=False)
    assert "resuming" not in caplog.text


def test_early_stopping_ends_a_run_and_is_remembered(tmp_path, monkeypatch):
    settings = {"epochs": 40, "patience": 2, "learning_rate": 0.3, "schedule": "constant"}
    whole = train(tmp_path / "a", **settings)
    assert len(whole.history) < 40
    assert whole.best_epoch == len(whole.history) - 3

    # Killed while the third epoch without a better one is computed: that there were two is known.
    original = fit_room.RunFiles.on_train_batch_start
    killed_after(len(whole.history) - 1, monkeypatch)
    with pytest.raises(Killed):
        train(tmp_path / "b", **settings)
    monkeypatch.setattr(fit_room.RunFiles, "on_train_batch_start", original)
    assert losses(train(tmp_path / "b", **settings)) == losses(whole)


@pytest.mark.slow
def test_two_processes_resume_exactly(tmp_path, monkeypatch):
    settings = {"epochs": 3, "devices": 2}
    whole = train(tmp_path / "whole", **settings)
    assert len(whole.history) == 3
    # What a killed run leaves: the checkpoint of its second epoch.
    run = tmp_path / "whole"
    latest = checkpoints(run)[0]
    latest.unlink()
    saved = torch.load(checkpoints(run)[0], weights_only=True)["callbacks"]["RunFiles"]
    assert [row["epoch"] for row in saved["history"]] == [0, 1]
    resumed = train(run, **settings)
    assert losses(resumed) == losses(whole)


def test_processes_of_two_trainings_meet_at_ports_that_no_connection_is_lent():
    ports = [fit_room._environment(FitSettings(devices=2))[0].main_port for _ in range(2)]
    assert len(set(ports)) == 2
    assert all(20_000 <= port < 32_000 for port in ports)


class TestSampler:
    def test_epochs_differ_and_repeat(self):
        sampler = EpochSampler(20, seed=1)
        first = list(sampler)
        sampler.set_epoch(1)
        second = list(sampler)
        sampler.set_epoch(0)
        assert first == list(sampler) != second
        assert sorted(first) == sorted(second) == list(range(20))

    def test_part_of_the_data(self):
        sampler = EpochSampler(20, seed=1, per_epoch=7)
        assert len(list(sampler)) == len(sampler) == 7

    def test_processes_share_one_permutation(self, monkeypatch):
        seen = []
        for rank in range(3):
            monkeypatch.setattr(fit_room, "_world", lambda rank=rank: (rank, 3))
            part = list(EpochSampler(20, seed=1))
            assert len(part) == len(EpochSampler(20, seed=1)) == 7
            seen += part
        assert set(seen) == set(range(20))


def test_batches_are_rows_of_the_data_in_the_samplers_order():
    columns, order = data(), list(EpochSampler(48, seed=1))
    first = next(iter(loader(columns, 5, EpochSampler(48, seed=1))))
    assert all(torch.equal(first[name], columns[name][order[:5]]) for name in ("x", "y"))
    assert fingerprint(columns) == fingerprint(data()) != fingerprint(data(1))


def test_the_schedule_warms_up_and_ends_at_zero():
    factors = [cosine_with_warmup(step, total=100, warmup=10) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0.0)
    assert cosine_with_warmup(0, total=5, warmup=0) == 1.0


def test_processes_started_by_slurm_are_used_as_they_are(monkeypatch):
    settings = FitSettings(devices=2, num_nodes=2)
    assert fit_room._strategy(settings) == "ddp_spawn"
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")
    assert fit_room._strategy(settings) == "ddp"
    assert type(fit_room._environment(settings)[0]).__name__ == "SLURMEnvironment"
    assert not fit_room._leads(settings)
    assert fit_room._strategy(FitSettings()) == "auto"


def test_trainings_of_others_keep_lightnings_remarks():
    code = (
        "import lightning.pytorch, logging, thesis_rec.training.fit as f; print(logging.getLogger('lightning').level)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < logging.WARNING
