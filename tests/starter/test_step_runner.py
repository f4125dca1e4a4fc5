"""Schedules, and steps that begin again."""

import numpy as np
import pytest
import torch

from tests.starter.small_jobs import loss, net, rows
from thesis_rec.starter.step_runner import Optimisation, StepRunner


def test_the_schedule_rises_and_falls():
    schedule = Optimisation(50, 0.3).schedule().numpy()
    assert schedule.shape == (50,)
    assert schedule.max() == pytest.approx(0.3)
    assert np.argmax(schedule) in (4, 5)
    assert (np.diff(schedule[5:]) <= 0).all()
    assert schedule[-1] < 0.01
    assert Optimisation(1, 0.3).schedule().tolist() == pytest.approx([0.3])


def test_restart_repeats():
    module = net()
    runner = StepRunner(module, loss, {"rows": rows(10)}, Optimisation(10, 1e-2))
    runner.advance(10)
    first = [p.detach().clone() for p in module.parameters()]
    assert runner.final_loss() > 0
    runner.restart()
    runner.advance(10)
    assert all(torch.equal(a, b) for a, b in zip(first, module.parameters(), strict=True))
    assert not runner.capture()
