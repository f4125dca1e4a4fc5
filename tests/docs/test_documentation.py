"""The documentation is about the code that there is."""

import re

import configuration_reference
import pipeline_diagrams
import pytest
import yaml
from pydantic import ValidationError

from tests.conftest import PROJECT
from thesis_rec.pipeline_registry import AROUND, FIVE

DOCS = PROJECT / "docs"

PIPELINES = configuration_reference.pipeline_names()
MODELS = {name: model for name in PIPELINES if (model := configuration_reference.parameter_model(name)) is not None}


def pages():
    return sorted(DOCS.rglob("*.md"))


def all_text():
    return "\n".join(page.read_text(encoding="utf-8") for page in pages())


@pytest.mark.parametrize("name", MODELS)
def test_every_knob_is_in_the_reference_with_an_explanation(name):
    model = MODELS[name]
    file = PROJECT / "conf" / "base" / "parameters" / f"{name}.yml"
    found = list(configuration_reference.knobs(model, configuration_reference.written(file), name))
    assert found
    assert [knob.path for knob in found if not knob.comment] == []
    text = configuration_reference.reference()
    assert f"## {name}\n" in text
    for knob in found:
        assert f"| `{knob.path}` |" in text


@pytest.mark.parametrize("seed", [-1, 2**32])
@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if "seed" in model.model_fields])
def test_a_seed_that_no_generator_takes_is_refused_before_anything_is_computed(name, seed):
    with pytest.raises(ValidationError, match=r"seed\n  Input should be (greater|less) than"):
        MODELS[name].model_validate({"seed": seed})


def test_values_are_those_of_the_files_through_anchors_and_merges(tmp_path):
    file = tmp_path / "p.yml"
    file.write_text(
        "_common: &common\n  # Steps\n  steps: 3\n"
        "p:\n  # Both\n  a:\n    # Rate,\n    # as a share\n    rate: 0.5\n    <<: *common\n  b: ${x}\n"
    )
    file.write_text(file.read_text() + "  c:\n    - x\n    # Next\n  d: 1\n")
    found = configuration_reference.written(file)
    assert found["p.c"] == ("- x", "")
    assert found["p.a.steps"] == ("3", "Steps")
    assert found["p.a.rate"] == ("0.5", "Rate, as a share")
    assert found["p.a"] == ("", "Both")
    assert found["p.b"] == ("${x}", "")


def test_types_and_limits_are_readable():
    from pydantic import BaseModel, Field

    class Inner(BaseModel):
        depth: int | None = Field(default=None, ge=1)

    class Outer(BaseModel):
        rate: float = Field(default=0.1, gt=0, le=1)
        kinds: tuple[str, ...] = ("a",)
        inner: Inner = Inner()

    rate, kinds, depth = configuration_reference.knobs(Outer, {}, "p")
    assert (rate.kind, rate.limits, rate.value) == ("number", "> 0, ≤ 1", "0.1")
    assert (kinds.kind, kinds.value) == ("list of text", "['a']")
    assert (depth.path, depth.kind, depth.value) == ("inner.depth", "integer or null", "null")


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_has_a_page_and_a_diagram_of_all_its_steps(name):
    assert f"<!-- pipeline: {name} -->" in all_text()
    svg = pipeline_diagrams.diagram(name)
    from importlib import import_module

    pipeline = import_module(f"thesis_rec.pipelines.{name}.pipeline").create_pipeline()
    for node in pipeline.nodes:
        assert f">{node.name.removesuffix('_node')}</text>" in svg
        assert node.func.__doc__
    for dataset in pipeline.datasets():
        if not dataset.startswith("params:"):
            assert f">{dataset}</text>" in svg


def test_pages_name_only_pipelines_and_environments_that_exist():
    text = all_text()
    assert set(re.findall(r"<!-- pipeline: (\w+) -->", text)) <= set(PIPELINES)
    assert set(re.findall(r"--pipelines?=(\w+)", text)) <= {*FIVE, *AROUND, "full"}
    environments = {path.name for path in (PROJECT / "conf").iterdir() if path.is_dir()} | {"mycluster"}
    environments |= set(re.findall(r"^mkdir -p conf/(\w+)$", text, re.MULTILINE))
    assert set(re.findall(r"--env=(\w+)", text)) <= environments


def test_modules_and_functions_that_pages_name_exist():
    from importlib import import_module

    for name in sorted(set(re.findall(r"`(thesis_rec(?:\.\w+)+)`", all_text()))):
        try:
            import_module(name)
        except ModuleNotFoundError:
            module, attribute = name.rsplit(".", 1)
            assert hasattr(import_module(module), attribute), name


def test_catalog_names_that_the_contracts_describe_exist():
    entries = pipeline_diagrams.catalog()
    text = (DOCS / "data-contracts.md").read_text(encoding="utf-8")
    described = re.findall(r"^### `(\w+)`", text, flags=re.MULTILINE)
    assert len(described) > 5
    assert [name for name in described if name not in entries] == []


def test_every_page_is_in_the_navigation():
    class Loader(yaml.SafeLoader):
        """Reads MkDocs' own tags as plain values."""

    Loader.add_multi_constructor("", lambda *_: None)
    navigation = yaml.load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"]
    listed = set(re.findall(r"'([^']+\.md)'", str(navigation)))
    written = {page.relative_to(DOCS).as_posix() for page in pages()}
    assert listed == written


def test_the_configuration_page_is_current():
    due = "run `python scripts/configuration_reference.py` and commit docs/configuration.md"
    assert configuration_reference.PAGE.read_text(encoding="utf-8") == configuration_reference.reference(), due


def anchors(page):
    """Of the headings of a page, as MkDocs and GitHub make them of headings without special letters."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize(
    "page",
    [*pages(), *(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))],
    ids=lambda p: p.name,
)
def test_links_resolve_in_the_repository(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file) if file else page
        assert target.exists(), link
        # The site holds docs alone.
        assert not page.is_relative_to(DOCS) or target.resolve().is_relative_to(DOCS), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def test_pages_ask_for_pipelines_as_kedro_wants_it():
    files = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *pages(), *(PROJECT / "slurm").rglob("*")]
    texts = {file.name: file.read_text(encoding="utf-8") for file in files if file.is_file()}
    assert [name for name, text in texts.items() if "--pipeline=" in text] == []


def test_models_that_pages_show_are_in_the_embedded_zoo():
    import pandas as pd

    known = set(pd.read_csv(PROJECT / "data" / "01_raw" / "starter" / "model_manifest.csv")["model_id"])
    text = (PROJECT / "README.md").read_text(encoding="utf-8") + all_text()
    named = set(re.findall(r"\b[a-z]\w*__\w+__\d+\b", text))
    assert named
    assert named - known == set()


def test_the_picture_of_the_rooms_is_drawn_from_the_imports(tmp_path):
    import room_diagram

    package = tmp_path / "pack"
    sources = {
        "high": "def f():\n    from pack.low.part import x\n",
        "low": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack.high import y\n",
        "lone": "import os\n",
    }
    for room, source in sources.items():
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").write_text("")
        (package / room / "part.py").write_text(source)
    imports = room_diagram.room_imports(package)
    assert imports == {"high": {"low"}, "low": set(), "lone": set()}
    assert room_diagram.layers(imports) == [["lone", "low"], ["high"]]
    real = room_diagram.rooms_svg()
    rooms = [path.name for path in (PROJECT / "src" / "thesis_rec").iterdir() if (path / "__init__.py").is_file()]
    for room in rooms:
        assert f">{room}</text>" in real
