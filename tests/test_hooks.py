import json
from types import SimpleNamespace

from thesis_rec.hooks import ConfigureProcessHooks, RunReportHooks, git_state, peak_memory_mb


def context(tmp_path):
    return SimpleNamespace(config_loader={"globals": {"data_root": "data", "seed": 3}}, project_path=tmp_path)


def report(tmp_path, name="run_report"):
    return json.loads((tmp_path / "data" / "08_reporting" / f"{name}.json").read_text())


def run(hooks, tmp_path, tags=None, **finish):
    node = SimpleNamespace(name="extract_node")
    hooks.after_context_created(context(tmp_path))
    hooks.before_pipeline_run()
    hooks.before_node_run(node)
    hooks.after_node_run(node, {"extraction_failures": [1, 2], "model_vectors": {}})
    pipeline = SimpleNamespace(outputs=lambda: {"b", "a"})
    if finish:
        hooks.on_pipeline_error(finish["error"], {"env": "test"}, pipeline)
    else:
        parameters = {"env": "test", "runtime_params": {"seed": 7}, "tags": tags}
        hooks.after_pipeline_run(parameters, pipeline, None)


def test_report_of_a_run(tmp_path, caplog):
    with caplog.at_level("INFO"):
        run(RunReportHooks(), tmp_path)
    made = report(tmp_path)
    assert made["nodes"][0]["name"] == "extract_node"
    assert made["failures"] == {"extraction_failures": 2}
    assert made["seed"] == 7
    assert made["outputs"] == ["a", "b"]
    assert made["error"] is None
    assert "FAILED ITEMS: 2 in extraction_failures" in caplog.text


def test_report_of_a_failed_run(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    run(RunReportHooks(), tmp_path, error=ValueError("broken"))
    made = report(tmp_path, "run_report_4")
    assert made["error"] == "ValueError: broken"
    assert made["seed"] == 3


def test_a_job_that_only_joins_keeps_its_report_beside_the_arrays(tmp_path):
    run(RunReportHooks(), tmp_path)
    whole = report(tmp_path, "run_reports/__default__")
    run(RunReportHooks(), tmp_path, tags=["join"])
    assert report(tmp_path, "run_reports/__default__") == whole
    assert report(tmp_path, "run_reports/__default__.join")["nodes"]


def test_process_is_quiet(monkeypatch):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    hooks = ConfigureProcessHooks()
    hooks.after_context_created()
    hooks.after_node_run()
    import os

    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_figures_of_the_process(tmp_path, monkeypatch):
    assert peak_memory_mb() > 10
    monkeypatch.chdir(tmp_path)
    assert git_state() is None
