"""What the training service costs: samples per second against a plain PyTorch loop on the same network and data.

Both train the default SimilarityTransformer on random tasks with the same loss, optimiser and batches. One sample is
one task with all its models. The plain loop does nothing but forward, backward, clipping and step; the service also
keeps history, schedule and progress. A second table shows the cost as tasks and models grow.

    python benchmarks/training.py [--device cpu] [--tasks 512] [--models 200] [--epochs 4] [--precision 32-true]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

from result import PROCESSOR, finish, parser_of

FEATURES, TOKEN_FEATURES, TOKENS = 76, 143, 12


def make_table(tasks: int, models: int):
    """Random tasks."""
    import torch

    generator = torch.Generator().manual_seed(0)
    standardised = torch.randn(tasks, models, generator=generator)
    return {
        "tokens": torch.randn(tasks, TOKENS, TOKEN_FEATURES, generator=generator),
        "token_mask": torch.ones(tasks, TOKENS, dtype=torch.bool),
        "standardised": standardised,
        "value": torch.sigmoid(standardised),
        "measured": torch.rand(tasks, models, generator=generator) > 0.1,
        "prior": torch.randn(tasks, models, generator=generator),
        "family_prior": torch.randn(tasks, models, generator=generator),
    }


def make_module(models: int, epochs: int, arguments: argparse.Namespace, devices: int = 1):
    """The default ranker with its loss."""
    import torch

    from thesis_rec.thesis.similarity_training import RankerModule
    from thesis_rec.thesis.similarity_transformer import SimilarityTransformer
    from thesis_rec.training.settings import FitSettings, RankerTraining

    torch.manual_seed(0)
    network = SimilarityTransformer(FEATURES, TOKEN_FEATURES, width=arguments.width)
    settings = FitSettings(
        epochs=epochs,
        batch_size=arguments.batch_size,
        accelerator="cuda" if arguments.device == "cuda" else "cpu",
        precision=arguments.precision,
        devices=devices,
        checkpoint_every=10_000,
        schedule="constant",
    )
    options = RankerTraining(models_per_step=models, tasks_per_epoch=10**9)
    return RankerModule(network, settings, options, torch.randn(models, FEATURES))


class Utilisation:
    """Mean utilisation of the GPU while the block runs, sampled by the driver; None without one."""

    def __init__(self, device: str) -> None:
        self.on = device == "cuda"
        self.samples: list[int] = []

    def __enter__(self):
        if self.on:
            self.stop = threading.Event()
            self.thread = threading.Thread(target=self._sample, daemon=True)
            self.thread.start()
        return self

    def _sample(self) -> None:
        import torch

        while not self.stop.wait(0.2):
            try:
                self.samples.append(torch.cuda.utilization())
            except Exception:
                # Reading it needs a library that not every installation has.
                self.on = False
                return

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "stop"):
            self.stop.set()
            self.thread.join()

    @property
    def mean(self) -> float | None:
        return statistics.mean(self.samples) if self.samples else None


def service(table, models: int, arguments: argparse.Namespace, devices: int = 1) -> tuple[float, float | None]:
    """Seconds of an epoch of the service, the first left out."""
    from thesis_rec.training.fit import fit

    module = make_module(models, arguments.epochs + 1, arguments, devices)
    with tempfile.TemporaryDirectory() as folder, Utilisation(arguments.device) as gpu:
        result = fit(module, table, None, Path(folder), seed=0, description="benchmark")
    return min(row["seconds"] for row in result.history[1:]), gpu.mean


def plain(table, models: int, arguments: argparse.Namespace) -> float:
    """Seconds of an epoch of the plain loop, the first left out."""
    import torch

    module = make_module(models, arguments.epochs + 1, arguments).to(arguments.device)
    optimiser = module.configure_optimizers()
    bf16 = torch.autocast(arguments.device, torch.bfloat16, enabled=arguments.precision == "bf16-mixed")
    times = []
    for epoch in range(arguments.epochs + 1):
        started = time.perf_counter()
        order = torch.randperm(len(table["value"]), generator=torch.Generator().manual_seed(epoch))
        total = torch.zeros((), device=arguments.device)
        for rows in order.split(arguments.batch_size):
            batch = {name: column[rows].to(arguments.device) for name, column in table.items()}
            with bf16:
                loss = module.losses(batch, training=True)["loss"]
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            total += loss.detach()
        total.item()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def main() -> None:
    """Measure and print."""
    parser = parser_of(__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--tasks", type=int, default=512)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=4, help="timed epochs; one more warms up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--devices", type=int, default=1, help="also train on so many at once, against one of them")
    parser.add_argument("--no-growth", action="store_true", help="leave the second table out")
    arguments = parser.parse_args()
    import torch

    def rate(tasks: int, models: int) -> dict[str, float | None]:
        table = make_table(tasks, models)
        # In turns, and the best of each: what else the machine does mustn't fall on one of them alone.
        turns = [(service(table, models, arguments), plain(table, models, arguments)) for _ in range(arguments.rounds)]
        seconds, loop = min(ours[0] for ours, _ in turns), min(other for _, other in turns)
        used = turns[0][0][1]
        row = {
            "tasks": tasks,
            "models": models,
            "samples_per_second": tasks / seconds,
            "plain_samples_per_second": tasks / loop,
            "ratio": loop / seconds,
            "gpu_utilisation": used,
        }
        print(row, flush=True)
        return row

    rows = [rate(arguments.tasks, arguments.models)]
    if not arguments.no_growth:
        half = max(arguments.tasks // 2, 1)
        rows += [rate(half, arguments.models), rate(half, arguments.models // 2), rate(half, arguments.models * 2)]
    several: dict[str, float] = {}
    if arguments.devices > 1:
        table = make_table(arguments.tasks, arguments.models)
        seconds = min(
            service(table, arguments.models, arguments, arguments.devices)[0] for _ in range(arguments.rounds)
        )
        several = {
            "devices": arguments.devices,
            "devices_samples_per_second": arguments.tasks / seconds,
            "devices_gain": arguments.tasks / seconds / rows[0]["samples_per_second"],
        }
        print(several)
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else PROCESSOR
    finish(
        {
            "benchmark": "training",
            "device": f"{name}, {torch.get_num_threads()} threads",
            "reference": "plain PyTorch loop with the same network, loss, optimiser and batches",
            "precision": arguments.precision,
            **rows[0],
            **several,
            "rows": rows,
        },
        arguments.save,
        "Training service against a plain PyTorch loop",
        61,
        "Samples (tasks with all their models) per second of the training service and of a plain loop on the same "
        "SimilarityTransformer, with the same loss, optimiser and batches, in one run.",
        rows=rows,
    )


if __name__ == "__main__":
    main()
