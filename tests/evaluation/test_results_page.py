"""The results page shows the figures of its files, and where they are from."""

import json

import pytest
from results_page import (
    interval_text,
    markdown_table,
    read_section,
    render_results,
    section_text,
)

from tests.evaluation.test_charts import METRICS, interval
from thesis_rec.base.errors import ItemError
from thesis_rec.base.files import write_json

ABOUT = {"title": "Starter zoo", "command": "kedro run", "device": "2 CPU cores", "date": "2026-01-02"}


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "docs" / "results"
    evaluation = {
        **METRICS,
        "paired_all": {q: {"static_mean_z": {"weighted_tau": interval(0.1)}} for q in METRICS["quadrants"]},
        "groups": {"natural": METRICS["quadrants"]},
    }
    write_json(
        target / "starter.json", {**ABOUT, "kind": "evaluation", "order": 1, "text": "Some words.", "data": evaluation}
    )
    external = {
        "benchmark": "site", "models": 36, "datasets": 11, "targets": ["pets"],
        "baseline": "static_mean_rank",
        "methods": METRICS["quadrants"]["Q1"], "paired": {"recommender": {"weighted_tau": interval(0.02)}},
        "groups": {"natural": METRICS["quadrants"]["Q1"]}, "quadrants": {"Q3": {"recommender": interval(0.6)}},
        "probes": {"without": interval(0.02), "policies": {"active": {"3": interval(0.01)}}},
        "sub_zoos": {"zoo_a": METRICS["quadrants"]["Q1"]}, "source_left_out": {"ridge": interval(-0.3)},
    }  # fmt: skip
    write_json(target / "external.json", {**ABOUT, "title": "SITE", "kind": "external", "order": 2, "data": external})
    lines = {"a": {"b": 0.123456}, "n": 3}
    write_json(target / "speed.json", {**ABOUT, "title": "Speed", "kind": "lines", "data": lines})
    table = {"columns": ["what", "x|y"], "rows": [["a", 1], ["b", None]]}
    write_json(target / "table.json", {**ABOUT, "title": "Table", "kind": "table", "order": 3, "data": table})
    return target


def test_page_has_every_section_in_order_with_its_origin(folder):
    page = folder.parent / "results.md"
    assert render_results(folder, page) == 4
    text = page.read_text()
    assert text.index("## Starter zoo") < text.index("## SITE") < text.index("## Table") < text.index("## Speed")
    assert text.count("Command: `kedro run` · device: 2 CPU cores · date: 2026-01-02") == 4
    assert "Some words." in text
    assert "Paired difference to static_mean_z" in text
    assert "54% of the measured ceiling" in text
    assert "| a.b | 0.1235 |" in text
    assert "x\\|y" in text
    assert "| b | – |" in text
    assert "### Within zoo a" in text
    assert "### All models of one source left out" in text


def test_pictures_lie_beside_the_page_and_are_linked(folder):
    page = folder.parent / "results.md"
    render_results(folder, page)
    for name in ("starter-quadrants", "starter-probing", "external-methods"):
        assert (folder / "figures" / f"{name}.png").stat().st_size > 1000
        assert f"](results/figures/{name}.png)" in page.read_text()


def test_rendering_twice_gives_the_same(folder):
    page = folder.parent / "results.md"
    render_results(folder, page)
    before = (page.read_bytes(), (folder / "figures" / "starter-regret.png").read_bytes())
    render_results(folder, page)
    assert before == (page.read_bytes(), (folder / "figures" / "starter-regret.png").read_bytes())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON"),
        ("[]", "lacks title"),
        (json.dumps({**ABOUT, "kind": "lines"}), "lacks data"),
        (json.dumps({**ABOUT, "kind": "poem", "data": {"a": 1}}), "unknown kind"),
        (json.dumps({**ABOUT, "command": "", "kind": "lines", "data": {"a": 1}}), "lacks command"),
    ],
)
def test_sections_without_an_origin_are_refused(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(ItemError, match=message):
        read_section(path)


def test_intervals_in_words():
    assert interval_text(interval(0.5)) == "0.500 [0.450, 0.550]"
    assert interval_text({"mean": 0.5, "low": None, "high": None}) == "0.500"
    assert interval_text(None) == interval_text({"mean": None}) == "–"


def test_a_section_without_optional_parts():
    text = section_text({**ABOUT, "kind": "evaluation", "data": {"quadrants": {"Q1": METRICS["quadrants"]["Q1"]}}})
    assert "### Q1" in text
    assert "Noise ceiling" not in text
    assert markdown_table(["a"], []) == "| a |\n| --- |\n"
