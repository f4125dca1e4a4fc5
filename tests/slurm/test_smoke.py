import pytest

from tests.slurm.conftest import call

pytestmark = pytest.mark.slurm


def test_a_job_runs(slurm, tmp_path):
    call("sbatch", "--wait", f"--output={tmp_path}/out", "--wrap", "echo hello")
    assert (tmp_path / "out").read_text() == "hello\n"
