"""The wheel runs outside of the repository, with the configuration as an archive, as ``kedro package`` makes them."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pandas as pd
import pytest

from tests.conftest import PROJECT

STARTER = PROJECT / "data" / "01_raw" / "starter"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the content of the wheel."""
    project, folder = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, project)
    shutil.copytree(PROJECT / "src", project / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(project / "dist")]
    subprocess.run(build, cwd=project, check=True, capture_output=True)
    (wheel,) = (project / "dist").glob("thesis_rec-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of a user: some models of the zoo, and the packaged configuration."""
    starter = tmp_path / "data" / "01_raw" / "starter"
    starter.mkdir(parents=True)
    models = pd.read_csv(STARTER / "model_manifest.csv", dtype=str, keep_default_na=False)
    models = models[models["loader"] == "timm"].head(2)
    models.to_csv(starter / "model_manifest.csv", index=False)
    for source in models["source"]:
        shutil.copytree(STARTER / source, starter / source)
    with tarfile.open(tmp_path / "conf-thesis_rec.tar.gz", "w:gz") as archive:
        archive.add(PROJECT / "conf", arcname="conf", filter=without_local)
    return tmp_path


def without_local(member):
    """Kedro leaves a user's own configuration out."""
    return None if "/local/" in member.name and member.name.endswith(".yml") else member


def run(installed, folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(installed), "DO_NOT_TRACK": "1"}
    return subprocess.run(
        [sys.executable, "-m", "thesis_rec", "--conf-source=conf-thesis_rec.tar.gz", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_holds_what_is_needed_at_run_time(installed):
    package = PROJECT / "src" / "thesis_rec"
    files = {path.relative_to(package) for path in package.rglob("*") if path.is_file()}
    files = {file for file in files if "__pycache__" not in file.parts}
    assert not [file for file in files if not (installed / "thesis_rec" / file).is_file()]
    (points,) = installed.glob("thesis_rec-*.dist-info/entry_points.txt")
    assert "thesis-rec = thesis_rec.__main__:main" in points.read_text()
    assert not (installed / "conf").exists()


def test_a_folder_without_configuration_is_one_line(installed, tmp_path):
    (tmp_path / "conf").mkdir()
    done = run(installed, tmp_path, "--conf-source=conf")
    assert done.returncode == 1
    assert "conf holds no base/globals.yml" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_pipeline_runs_from_the_wheel_and_the_archive(installed, elsewhere):
    done = run(installed, elsewhere, "--pipeline=model_extraction", "--params=seed=3")
    assert done.returncode == 0, done.stderr[-3000:]
    models = pd.read_csv(elsewhere / "data" / "01_raw" / "starter" / "model_manifest.csv")
    metadata = pd.read_parquet(elsewhere / "data" / "03_primary" / "model_metadata.parquet")
    assert set(metadata["model_id"]) == set(models["model_id"])
    assert (elsewhere / "data" / "08_reporting" / "run_report.json").is_file()


@pytest.mark.slow
def test_an_environment_of_the_archive_is_read(installed, elsewhere, monkeypatch):
    monkeypatch.setenv("SCRATCH", str(elsewhere / "scratch"))
    done = run(installed, elsewhere, "--env=gautschi", "--pipeline=model_extraction")
    assert done.returncode == 0, done.stderr[-3000:]
    assert list((elsewhere / "scratch").rglob("model_metadata.parquet"))
    assert not (elsewhere / "data" / "03_primary").exists()
