"""The README does what it says: its own commands, run in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import PROJECT
from thesis_rec.pipeline_registry import AROUND, FIVE

README = (PROJECT / "README.md").read_text(encoding="utf-8")
STARTER = PROJECT / "data" / "01_raw" / "starter"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def block_named(name):
    found = re.search(rf"<!-- test: {name} -->\n```bash\n(.*?)```", README, flags=re.DOTALL)
    assert found, f"the README has no block {name}"
    return found[1]


def test_the_two_commands_stand_first_and_are_what_ci_runs():
    first, second = blocks("bash")[:2]
    assert first == "python3 -m venv .venv && .venv/bin/pip install uv && .venv/bin/uv run kedro run\n"
    assert second == ".venv/bin/uv run pytest\n"
    # CI does the same, in steps and quietly.
    ci = (PROJECT / ".ci" / "run").read_text(encoding="utf-8").replace(" -q", "")
    for step in ("python3 -m venv .venv", ".venv/bin/pip install uv", ".venv/bin/uv run kedro run", second.strip()):
        assert step in ci


def test_every_link_into_the_repository_leads_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (PROJECT / link).exists()] == []


def test_every_pipeline_and_option_that_is_named_exists():
    from thesis_rec.commands.recommend_command import recommend
    from thesis_rec.commands.submit import submit

    assert set(re.findall(r"--pipelines?=(\w+)", README)) <= {*FIVE, *AROUND, "full"}
    for name in (*FIVE, *AROUND):
        assert f"`{name}`" in README, name
    for command in (recommend, submit):
        known = {
            option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts
        }
        lines = [line for line in README.splitlines() if line.startswith(f"kedro {command.name} ")]
        assert lines
        assert set(re.findall(r" (--[a-z-]+)", " ".join(lines))) <= known


def test_environment_folders_that_are_named_exist():
    for name in re.findall(r"--env=(\w+)", README):
        assert (PROJECT / "conf" / name).is_dir()


# --- the blocks themselves ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the project with real models, a part of the embedded zoo, some images and a model of one's own."""
    if not (STARTER / "bundle" / "bundle.json").is_file():
        pytest.skip("the embedded zoo has no trained ranker yet")
    root = tmp_path_factory.mktemp("clone")
    shutil.copytree(PROJECT / "conf", root / "conf", ignore=shutil.ignore_patterns("local"))
    (root / "conf" / "local").mkdir()
    shutil.copy(PROJECT / "pyproject.toml", root)
    shutil.copytree(PROJECT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(PROJECT / "data" / "01_raw" / "hub", root / "data" / "01_raw" / "hub")
    starter = root / "data" / "01_raw" / "starter"
    shutil.copytree(STARTER, starter, ignore=shutil.ignore_patterns("models"))
    # Copied, not linked: the loaders refuse what leads out of the zoo's folder.
    for source in thin(starter / "model_manifest.csv", generalists)["source"]:
        shutil.copytree(STARTER / source, starter / source)
    thin(starter / "dataset_manifest.csv", lambda table: table[table["parent"] == ""].iloc[::90])
    save_images(root / "my_images")
    save_model(root / "my_model")
    return root


def generalists(models):
    """Of each family one model that was trained on all known tasks."""
    return models[models["pretraining"] == "all_known"].groupby("family").head(1)


def thin(path, choose):
    """Keep some rows of a table of the copy, and return them."""
    chosen = choose(pd.read_csv(path, dtype=str, keep_default_na=False))
    chosen.to_csv(path, index=False)
    return chosen


def save_images(folder, size=32, count=24):
    """Discs, squares, stripes and noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    for name in ("disc", "square", "stripes", "noise"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            cx, cy, radius = rng.uniform(10, 22), rng.uniform(10, 22), rng.uniform(5, 9)
            mask = {
                "disc": (x - cx) ** 2 + (y - cy) ** 2 < radius**2,
                "square": np.maximum(abs(x - cx), abs(y - cy)) < radius,
                "stripes": np.sin((x + cx) * radius / 4) > 0,
                "noise": rng.random((size, size)) > 0.5,
            }[name]
            colours = rng.integers(0, 256, (2, 3))
            pixels = np.where(mask[..., None], colours[0], colours[1]) + rng.normal(0, 8, (size, size, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name / f"{i:02d}.png")


def save_model(folder):
    """As the README says: ``timm.models.save_for_hf``."""
    import timm

    assert 'timm.models.save_for_hf(model, "my_model")' in README
    timm.models.save_for_hf(timm.create_model("test_resnet", num_classes=5), folder)


def run(block, folder):
    """Run a block as a reader would, in a shell in which the project's environment is active."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DO_NOT_TRACK": "1",
    }
    environment.pop("SCRATCH", None)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.slow
def test_own_images_are_ranked(clone):
    out = run(block_named("own-images"), clone)
    assert "my_images: read as 4 classes (disc, noise, square, stripes); images: all 96." in out
    assert "tried" in out
    answer = json.loads(out[out.index("\n{\n") :])
    assert {model["family"] for model in answer["models"]} > {"resnet", "vit"}
    for name in ("recommendation.html", "recommendation.parquet", "recommendation.json"):
        assert (clone / "answer" / name).stat().st_size > 1000


@pytest.fixture(scope="module")
def own_tables(clone):
    """The copy after the block that stands before both a model and a dataset of one's own."""
    run(block_named("own-tables"), clone)
    return clone


def test_one_s_own_tables_are_said_once_so_that_no_block_takes_back_another():
    writing = [block for block in blocks("bash") if "> conf/local/globals.yml" in block]
    assert writing == [block_named("own-tables")]
    assert "cp " not in block_named("own-model") + block_named("own-dataset")


@pytest.mark.slow
def test_a_new_checkpoint_is_added_and_recommended(own_tables):
    clone = own_tables
    out = run(block_named("own-model"), clone)
    assert "models added without training: my_model" in out
    shown = [line.split()[1] for line in out.splitlines() if re.match(r"\s*\d+  ", line)]
    assert "my_model" in shown
    assert len(shown) == 2
    failures = pd.read_parquet(clone / "data" / "08_reporting" / "extraction_failures.parquet")
    assert failures.empty


@pytest.mark.slow
def test_a_new_dataset_is_added_measured_and_encoded(own_tables):
    clone = own_tables
    run(block_named("own-dataset"), clone)
    measured = pd.read_parquet(clone / "data" / "03_primary" / "measured_performance.parquet")
    assert set(measured["dataset_id"]) == {"my_images"}
    assert measured.groupby("model_id")["seed"].nunique().eq(3).all()
    # Four easy classes: the best of a dozen networks is far above chance.
    assert measured.groupby("model_id")["value"].mean().max() > 0.7
    assert list((clone / "data" / "04_feature" / "dataset_tokens" / "my_images").rglob("*.npz"))
