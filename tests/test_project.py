"""The house rules, held by machine: catalog, parameters, pipelines, start-up."""

import ast
import inspect
import subprocess
import sys
from functools import cache
from importlib import import_module
from typing import get_type_hints

import pytest
from kedro.io import DataCatalog
from pydantic import BaseModel

from tests.conftest import PROJECT
from thesis_rec import settings
from thesis_rec.base.errors import ConfigurationError
from thesis_rec.pipeline_registry import AROUND, FIVE, register_pipelines

ENVIRONMENTS = ("local", "hub", "real", "gautschi", "anvil", "test")
LAYERS = {
    "01_raw", "02_intermediate", "03_primary", "04_feature",
    "05_model_input", "06_models", "07_model_output", "08_reporting",
}  # fmt: skip


@pytest.fixture(autouse=True)
def scratch(monkeypatch):
    monkeypatch.setenv("SCRATCH", "/scratch/someone")


def loader(environment: str):
    return settings.CONFIG_LOADER_CLASS(str(PROJECT / "conf"), env=environment, **settings.CONFIG_LOADER_ARGS)


@cache
def pipelines():
    return register_pipelines()


def catalog_entries():
    import os

    os.environ.setdefault("SCRATCH", "/scratch/someone")
    return sorted((name, entry) for name, entry in loader("local")["catalog"].items() if not name.startswith("_"))


@pytest.mark.parametrize(
    ("name", "entry"), catalog_entries(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_catalog_entry_is_described_and_validated(name, entry):
    assert entry["metadata"]["layer"] in LAYERS
    assert entry["metadata"]["description"]
    validator = entry["validator"]
    path = validator if isinstance(validator, str) else validator["class"]
    module, function = path.rsplit(".", 1)
    assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("name", [*FIVE, *AROUND, "full"])
def test_data_never_walks_backwards(name):
    layers = {entry: content["metadata"]["layer"] for entry, content in catalog_entries()}
    backwards = [
        (before, node.name, after)
        for node in pipelines()[name].nodes
        for before in node.inputs
        for after in node.outputs
        if before in layers and after in layers and layers[before] > layers[after]
    ]
    assert backwards == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_resolves(environment):
    config = loader(environment)
    assert config["catalog"]
    parameters = config["parameters"]
    for name in FIVE:
        assert name in parameters


@pytest.mark.parametrize(
    ("environment", "folders"), [("local", "starter"), ("hub", "hub"), ("real", ["starter", "real"])]
)
def test_one_key_chooses_the_zoo(environment, folders):
    config = loader(environment)
    # The zoo of real images builds upon the embedded one: its manifests are both, joined.
    expected = (
        f"data/01_raw/{folders}/model_manifest.csv"
        if isinstance(folders, str)
        else [f"data/01_raw/{folder}/model_manifest.csv" for folder in folders]
    )
    assert config["globals"]["active"]["model_manifest"] == expected
    assert config["catalog"]["model_manifest"]["filepath"] == expected


def test_the_hub_zoo_starts_without_measurements(project_dir, monkeypatch):
    monkeypatch.chdir(project_dir)
    catalog = DataCatalog.from_config(
        {name: loader("hub")["catalog"][name] for name in ("performance_records", "zoo_sides")}
    )
    assert len(catalog.load("performance_records")) == 0
    assert catalog.load("zoo_sides") == {}


@pytest.mark.parametrize("environment", ["gautschi", "anvil"])
def test_a_cluster_job_takes_its_zoo_from_the_environment(environment, monkeypatch):
    embedded = loader(environment)["globals"]
    monkeypatch.setenv("THESIS_REC_ZOO", "hub")
    config, hub = loader(environment), loader("hub")
    assert config["globals"]["active"]["models_root"] == "/scratch/someone/huggingface"
    # What was learned of one zoo isn't mixed with another's, and hundreds of gigabytes don't come unasked.
    assert config["globals"]["data_root"] != embedded["data_root"]
    assert config["globals"]["hub"] == hub["globals"]["hub"] == {"fetch": {"max_gb": 0, "datasets": False}}
    for one in (config, hub):
        assert one["parameters"]["similarity_training"]["published"] is True
        assert one["parameters"]["model_extraction"]["fetch_gb"] == 0


def test_an_environment_that_cannot_be_read_says_why(monkeypatch):
    with pytest.raises(ConfigurationError, match="There is no environment nowhere"):
        loader("nowhere")
    monkeypatch.setenv("THESIS_REC_ZOO", "hubb")
    with pytest.raises(ConfigurationError, match="There is no zoo 'hubb'; there are starter, hub, real, shipped"):
        loader("gautschi")
    monkeypatch.delenv("THESIS_REC_ZOO")
    monkeypatch.delenv("SCRATCH")
    with pytest.raises(ConfigurationError, match="gautschi can't be read: Environment variable 'SCRATCH' not found"):
        loader("gautschi")


@pytest.mark.parametrize("environment", ["gautschi", "anvil"])
def test_cluster_environments_write_to_scratch_only(environment):
    config = loader(environment)
    for name, entry in config["catalog"].items():
        for path in file_paths(entry):
            assert path.startswith(("/scratch/someone/", "data/01_raw/starter", "data/01_raw/hub")), name


def file_paths(entry):
    for key, value in entry.items():
        if key in ("filepath", "path") and isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from file_paths(value)
        elif isinstance(value, list):
            yield from (path for item in value if isinstance(item, dict) for path in file_paths(item))


def test_the_clusters_differ_in_nothing_but_globals_and_resources():
    keys = [
        sorted(p.name for p in (PROJECT / "conf" / name).rglob("*") if p.is_file()) for name in ("gautschi", "anvil")
    ]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("name", [*FIVE, *AROUND])
def test_every_pipeline_is_documented_tested_and_typed(name):
    assert import_module(f"thesis_rec.pipelines.{name}").__doc__
    assert inspect.getdoc(import_module(f"thesis_rec.pipelines.{name}.pipeline").create_pipeline)
    assert list((PROJECT / "tests" / "pipelines").rglob(f"*{name}*")), f"no test of the pipeline {name}"
    assert any(node.func.__module__ == f"thesis_rec.pipelines.{name}.nodes" for node in pipelines()[name].nodes)
    for node in pipelines()[name].nodes:
        assert name in node.tags
        assert "__" not in node.name, f"{node.name} has no name of its own"
        hints = get_type_hints(node.func)
        bound = inspect.signature(node.func).parameters
        names = node._inputs if isinstance(node._inputs, dict) else dict(zip(bound, node.inputs, strict=False))
        for argument, dataset in names.items():
            if str(dataset).startswith(("params:", "parameters")):
                assert isinstance(hints.get(argument), type), f"{node.name}: {argument} is untyped"
                assert issubclass(hints[argument], BaseModel), f"{node.name}: {argument} is not a pydantic model"
                assert hints[argument].model_config.get("extra") == "forbid"


def test_kedro_viz_shows_the_five_as_boxes_and_names_stay():
    five = pipelines()["__default__"]
    assert {node.namespace for node in five.nodes} == set(FIVE)
    # As `kedro run --nodes --tags` copies and picks them.
    for pipeline in (five, five.tag("more"), five.filter(tags=["autoencoder"]), pipelines()["full"]):
        node = pipeline.filter(node_names=["train_autoencoder_node"]).nodes[0]
        assert (node.name, node.namespace) == ("train_autoencoder_node", "autoencoder")
        assert node.outputs == ["autoencoder_checkpoint", "autoencoder_history"]
    shared = {node.name: node.namespace for node in pipelines()["evaluation"].nodes}
    assert shared["join_tokens_node"] == "evaluation"
    assert len(five.nodes) == len({node.name for node in five.nodes})


@pytest.mark.filterwarnings("error")
def test_no_box_is_interrupted_by_another():
    register_pipelines()


def test_every_dataset_that_crosses_pipelines_is_in_the_catalog():
    named = set(loader("local")["catalog"])
    produced = {output for name in (*FIVE, *AROUND) for output in pipelines()[name].all_outputs()}
    consumed = {i for name in (*FIVE, *AROUND) for i in pipelines()[name].inputs() if not i.startswith("param")}
    assert consumed <= named, f"not in the catalog: {sorted(consumed - named)}"
    assert {name for name in produced & consumed if name not in named} == set()


def test_registry_list_imports_no_heavy_library():
    code = (
        "import sys; from thesis_rec.pipeline_registry import register_pipelines; register_pipelines();"
        "heavy = {'torch', 'timm', 'transformers', 'open_clip', 'sklearn', 'lightning', 'datasets', 'plotly'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]"


def test_no_file_imports_itself_in_a_circle():
    """Whatever an import is for: types and imports within functions count as well."""
    import grimp
    import networkx

    graph = grimp.build_graph("thesis_rec", include_external_packages=False)
    modules = {name for name in graph.modules if not graph.find_children(name) or name.count(".") > 1}
    edges = [(name, other) for name in modules for other in graph.find_modules_directly_imported_by(name)]
    circles = [circle for circle in networkx.strongly_connected_components(networkx.DiGraph(edges)) if len(circle) > 1]
    assert circles == []


def test_nothing_is_imported_by_string():
    """Contracts and circles are read from import statements. The catalog alone names functions, as Kedro has it."""
    found = set()
    for path in (PROJECT / "src" / "thesis_rec").rglob("*.py"):
        used = {
            getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "name", None)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        }
        if used & {"import_module", "load_obj", "__import__"}:
            found.add(path.relative_to(PROJECT / "src" / "thesis_rec").as_posix())
    assert found == {"catalog/files.py"}
