"""``kedro submit``: pipelines as SLURM jobs, each an ordinary ``kedro run``."""

import re
import shlex
from pathlib import Path
from typing import Any

import click

from thesis_rec.base.errors import ConfigurationError


@click.command()
@click.option(
    "--pipelines", "--pipeline", "-p", default="__default__", show_default=True, help="Comma-separated names."
)
@click.option("--env", "-e", "environment", required=True, help="Environment, such as gautschi or anvil.")
@click.option("--shards", default=1, show_default=True, type=click.IntRange(min=1), help="Tasks of each job array.")
@click.option("--after", default="", help="SLURM job ids, comma-separated, that must have ended well before.")
@click.option("--params", default="", help="Runtime parameters for every run, a=1,b.c=2.")
@click.option("--dry-run", is_flag=True, help="Check everything and print what sbatch would get, but submit nothing.")
@click.pass_obj
def submit(
    metadata: Any, pipelines: str, environment: str, shards: int, after: str, params: str, dry_run: bool
) -> None:
    """Submit pipelines to SLURM: arrays over shards, a joining job behind each, and the order between them."""
    from kedro.framework.project import pipelines as available
    from omegaconf import OmegaConf

    from thesis_rec.cluster.plan import Cluster, find_problems, plan_jobs
    from thesis_rec.cluster.submission import expected_time, sbatch_command, submit_jobs
    from thesis_rec.commands.artefacts import load_context
    from thesis_rec.pipeline_registry import FIVE, pipeline_name

    asked = [pipeline_name(name.strip()) for name in pipelines.split(",") if name.strip()]
    project = Path(metadata.project_path) if metadata else Path.cwd()
    given, before = [item for item in params.split(",") if item], after.replace(",", " ").split()
    if bad := [item for item in given if "=" not in item]:
        raise ConfigurationError(f"--params takes a=1,b.c=2; {bad[0]!r} has no '='.")
    if bad := [item for item in before if not re.fullmatch(r"\d+(_\d+)?", item)]:
        raise ConfigurationError(f"--after takes ids of jobs as squeue lists them; {bad[0]!r} is none.")
    # As `kedro run` reads them: a name that nothing takes, or a value that can't be, is found now and not in a job.
    runtime: Any = OmegaConf.to_container(OmegaConf.from_dotlist(given))
    context = load_context(project, environment, runtime)
    cluster = Cluster(**context.params.get("cluster", {}))
    data_root = project / context.config_loader["globals"]["data_root"]
    names = list(FIVE) if asked == ["__default__"] else asked
    jobs = plan_jobs(available, names, cluster, shards, ",".join(given))
    problems = find_problems(jobs, cluster, data_root, context.catalog, needs_sbatch=not dry_run)
    logs = data_root / "logs"
    for job in jobs:
        waits = f" after {', '.join(job.after or before)}" if job.after or before else ""
        click.echo(f"{job.name}: {job.tasks} task(s){waits}; {expected_time(job, data_root)}")
        click.echo(f"  {shlex.join(sbatch_command(job, environment, logs))}")
    if problems:
        raise ConfigurationError("Nothing was submitted:\n" + "\n".join(f"  {problem}" for problem in problems))
    if dry_run:
        click.echo("Dry run: every check passed, nothing was submitted.")
        return
    identifiers = submit_jobs(jobs, environment, project, logs, before)
    for name, identifier in identifiers.items():
        click.echo(f"submitted {name} as {identifier}")
