import json
import os
from types import SimpleNamespace

from thesis_rec.hooks import ConfigureProcessHooks, RunReportHooks, git_state, peak_memory_mb


def context(tmp_path):
    settings = {"data_root": "data", "seed": 3, "hub_cache": "cache"}
    return SimpleNamespace(config_loader={"globals": settings}, project_path=tmp_path)


def report(tmp_path, name="run_report"):
    return json.loads((tmp_path / "data" / "08_reporting" / f"{name}.json").read_text())


def run(hooks, tmp_path, made=None, shards=1, **finish):
    """A run of nodes, by default of one, each of which makes what ``made`` says."""
    hooks.after_context_created(context(tmp_path))
    hooks.before_pipeline_run()
    for name, outputs in (made or {"extract_node": {"extraction_failures": [1, 2], "model_vectors": {}}}).items():
        node = SimpleNamespace(name=name)
        hooks.before_node_run(node)
        hooks.after_node_run(node, outputs)
    pipeline = SimpleNamespace(outputs=lambda: {"b", "a"})
    if finish:
        hooks.on_pipeline_error(finish.pop("error"), {"env": "test", **finish}, pipeline)
    else:
        parameters = {"env": "test", "runtime_params": {"seed": 7, "shard": {"count": shards}}}
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
    assert "FAILURES AND NOTES: 2 in extraction_failures" in caplog.text


def test_report_of_a_failed_run(tmp_path, monkeypatch):
    """Of a task of an array, which no task of another pipeline's array replaces."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    for name in ("ground_truth", "autoencoder"):
        run(RunReportHooks(), tmp_path, error=ValueError(f"broken {name}"), pipeline_names=[name])
    made = report(tmp_path, "run_report_ground_truth_4")
    assert made["error"] == "ValueError: broken ground_truth"
    assert made["seed"] == 3


def test_the_newest_times_of_each_node_are_kept(tmp_path):
    """Of an array and its joining job, or of a pipeline of which a part was run again."""
    run(RunReportHooks(), tmp_path, {"extract_node": {"extraction_failures": [1]}, "join_node": {}}, shards=4)
    first = report(tmp_path)
    run(RunReportHooks(), tmp_path, {"join_node": {"join_failures": [2, 3]}})
    last = report(tmp_path)
    assert [node["name"] for node in last["nodes"]] == ["join_node"]
    for name, told, shards in (("extract_node", first, 4), ("join_node", last, 1)):
        times = {"seconds": told["nodes"][0]["seconds"], "started": told["started"], "shards": shards}
        assert report(tmp_path, f"node_times/{name}") == times


def test_process_is_quiet(monkeypatch, tmp_path):
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    hooks = ConfigureProcessHooks()
    hooks.after_context_created(context(tmp_path))
    hooks.after_node_run()
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"


def test_what_libraries_download_goes_where_the_globals_say(monkeypatch, tmp_path):
    """Image encoders and datasets are loaded from the libraries' own cache, which would be in the home folder."""
    monkeypatch.delenv("HF_HOME", raising=False)
    ConfigureProcessHooks().after_context_created(context(tmp_path))
    assert os.environ["HF_HOME"] == str(tmp_path / "cache")
    monkeypatch.setenv("HF_HOME", "mine")
    ConfigureProcessHooks().after_context_created(context(tmp_path))
    assert os.environ["HF_HOME"] == "mine"


def test_figures_of_the_process(tmp_path, monkeypatch):
    assert peak_memory_mb() > 10
    monkeypatch.chdir(tmp_path)
    assert git_state() is None
