"""Builds the embedded zoo without Kedro, on a machine that has only PyTorch and the model libraries.

``python -m thesis_rec.starter --help``; the same stages and files as ``kedro run --pipelines=starter_zoo``.
"""

import argparse
import logging
import time
from pathlib import Path

from thesis_rec.starter.adopting import adopt_zoo
from thesis_rec.starter.archives import export_bundle, import_bundle
from thesis_rec.starter.assembling import assemble
from thesis_rec.starter.building import STAGES, BuildSettings, expect_images, run_stage
from thesis_rec.starter.painter import Painter
from thesis_rec.starter.plan import Sizes, make_plan
from thesis_rec.starter.workshop import Workshop


def main() -> None:
    """Run stages within a time budget, then pack or assemble what is there."""
    parser = argparse.ArgumentParser(prog="python -m thesis_rec.starter", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="working folder")
    parser.add_argument("--stages", nargs="*", default=list(STAGES), choices=STAGES, help="what to build")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw images")
    parser.add_argument("--slots", type=int, default=12, help="models that train at once on a GPU")
    parser.add_argument("--seconds", type=float, default=None, help="no item is begun after this time")
    parser.add_argument("--seed", type=int, default=0, help="seed of all choices")
    parser.add_argument("--models", type=int, default=None, help="number of models, for a trial")
    parser.add_argument("--tasks", type=int, default=None, help="number of base tasks of each generation, for a trial")
    parser.add_argument("--budget-factor", type=float, default=1.0, help="multiplies the training budgets")
    parser.add_argument("--max-steps", type=int, default=None, help="cap of training budgets, for a trial")
    parser.add_argument("--adopt", type=Path, default=None, help="folder of a finished zoo to begin from")
    parser.add_argument("--bundle-in", type=Path, nargs="*", default=[], help="archives to begin from")
    parser.add_argument("--bundle-out", type=Path, default=None, help="folder for the archives of what is there")
    parser.add_argument("--output", type=Path, default=None, help="folder in which the zoo is assembled")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    log = logging.getLogger("thesis_rec.starter")
    deadline = None if options.seconds is None else time.monotonic() + options.seconds
    import_bundle(options.bundle_in, options.work)
    settings = BuildSettings(
        seed=options.seed,
        sizes=Sizes(
            models=options.models,
            tasks=options.tasks,
            added_tasks=options.tasks,
            max_steps=options.max_steps,
            budget_factor=options.budget_factor,
        ),
    )
    plan = make_plan(settings.seed, settings.sizes)
    with Painter(options.workers) as painter:
        shop = Workshop(options.work, options.device, painter, deadline, options.slots)
        if options.adopt is not None:
            adopt_zoo(options.adopt, plan, shop, settings)
        expect_images(options.stages, plan, shop, settings)
        for stage in STAGES:
            if stage in options.stages:
                for failure in run_stage(stage, plan, shop, settings):
                    log.warning("%s: %s %s", failure.item, failure.error, failure.hint)
    log.info("%d of %d models are there", len(shop.trained(plan)), len(plan.recipes))
    if options.output is not None:
        assemble(plan, shop, settings, options.output)
    if options.bundle_out is not None:
        for piece in export_bundle(options.work, options.bundle_out):
            log.info("%s: %.1f MiB", piece, piece.stat().st_size / 2**20)


if __name__ == "__main__":
    main()
