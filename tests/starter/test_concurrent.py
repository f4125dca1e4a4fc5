import math
import time

import pytest
import torch
from torch import nn

from tests.starter.small_jobs import job, loss, net, rows
from thesis_rec.starter.concurrent import train_concurrently
from thesis_rec.starter.step_runner import Optimisation


def plain_loop(module, settings, batches):
    """The same training by torch's own, unfused optimiser and a learning rate set by hand."""
    decayed = [p for p in module.parameters() if p.ndim >= 2]
    others = [p for p in module.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.99),
    )
    rise = max(1, round(settings.warmup * settings.steps))
    for i in range(settings.steps):
        rate = (i + 1) / rise if i < rise else 0.5 * (1 + math.cos(math.pi * (i - rise) / (settings.steps - rise)))
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate
        optimiser.zero_grad()
        loss(module, {"rows": batches[i]}).backward()
        nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
        optimiser.step()
    return module


def test_a_job_is_trained_as_by_a_plain_loop():
    expected = plain_loop(net(), Optimisation(20, 1e-2, 0.1), rows(20))
    (outcome,) = train_concurrently([job()])
    for found, wanted in zip(outcome.job.module.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert not outcome.captured
    assert outcome.seconds > 0
    assert not outcome.job.module.training


def test_all_jobs_are_trained_and_taken_late():
    taken = []

    def queue():
        for i in range(3):
            taken.append(i)
            yield job(f"job{i}", seed=i, steps=4)

    results = train_concurrently(queue())
    first = next(results)
    assert taken == [0]
    assert {first.job.name, *(r.job.name for r in results)} == {"job0", "job1", "job2"}


def test_no_job_is_begun_after_the_deadline():
    assert list(train_concurrently([job()], deadline=time.monotonic() - 1)) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_many_jobs_on_a_gpu_agree_with_the_cpu():
    on_gpu = {o.job.name: o for o in train_concurrently([job(f"j{i}", seed=i) for i in range(6)], "cuda", slots=4)}
    assert all(o.captured for o in on_gpu.values())
    for i in range(6):
        (cpu,) = train_concurrently([job(f"j{i}", seed=i)])
        for a, b in zip(cpu.job.module.parameters(), on_gpu[f"j{i}"].job.module.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0.02, atol=2e-3)
