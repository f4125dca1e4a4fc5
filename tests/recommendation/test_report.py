from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.fabricated import DEVICE, fabricated_bundle, fabricated_predict, tokens_of
from thesis_rec.hardware.budget import Budget
from thesis_rec.recommendation.asking import recommend_for
from thesis_rec.recommendation.report import map_figure, pareto_figure, ranking_figure, render_report, shown_number


@pytest.fixture
def found():
    budget = Budget(max_latency_ms=5, device=DEVICE)
    answer = recommend_for(fabricated_bundle(), tokens_of("mine <b>", 3), budget, predict=fabricated_predict)
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    return replace(answer, sample=((picture, "a & b"),), notes=("one note",))


def test_the_page_needs_nothing_else_and_has_every_part(found):
    page = render_report(found)
    body = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.findall(r"(?:src|href)=\"(?!data:)[^\"]+\"", body)
    assert page.count("plotly.js v") == 1
    for part in ('id="pareto"', 'id="ranking"', 'id="map"', "data:image/png;base64,", "one note", "max latency ms"):
        assert part in page
    assert found.table["model_id"].iloc[0] in body
    # A log axis would stretch to 10**5 if the limit's label were placed by its value.
    assert pareto_figure(found).layout.annotations[0].x == pytest.approx(np.log10(5))
    # Names come from users' folders.
    assert "mine &lt;b&gt;" in body
    assert "a &amp; b" in body


def test_a_page_without_fitting_models_says_what_to_relax(found):
    budget = Budget(max_latency_ms=1e-4, device=DEVICE)
    nothing = recommend_for(fabricated_bundle(), tokens_of("mine", 3), budget, predict=fabricated_predict)
    body = re.sub(r"<script.*?</script>", "", render_report(nothing), flags=re.S)
    assert "No model fits" in body
    assert "--max-latency-ms" in body
    assert "24 models" in body
    hopeless = render_report(replace(nothing, relaxations=[]))
    assert "No change of one limit" in hopeless


def test_figures_hold_what_the_table_holds(found):
    pareto = pareto_figure(found)
    front = next(trace for trace in pareto.data if trace.name == "not beaten in both")
    on_front = found.table[found.table["on_pareto_front"]].sort_values("latency_ms")
    assert list(front.x) == on_front["latency_ms"].tolist()
    assert np.all(np.diff(front.y) > 0)
    assert pareto.layout.shapes[0].x0 == 5
    table = found.table.copy()
    table["probed_value"] = table["probed_value"].astype(float)
    table.loc[0, "probed_value"] = 0.5
    ranking = ranking_figure(replace(found, table=table))
    assert [trace.name for trace in ranking.data] == ["predicted", "tried on these images"]
    assert list(ranking.data[1].x) == [0.5]
    places = map_figure(found)
    assert [len(trace.x) for trace in places.data] == [3, 3, 1]


def test_numbers_are_short():
    assert [shown_number(v) for v in (None, float("nan"), 0.01234, 12.345, 999.6, 12345, 3.2e6, 4e9)] == [
        "–", "–", "0.0123", "12.3", "1000", "12.3 k", "3.2 M", "4 G",
    ]  # fmt: skip


def test_long_names_break_where_people_would():
    from thesis_rec.recommendation.report import _breakable

    assert str(_breakable("a__b/<c>")) == "a__<wbr>b/<wbr>&lt;c&gt;"


def test_long_names_are_shortened_in_the_middle():
    from thesis_rec.recommendation.report import _shortened

    assert _shortened("short") == "short"
    assert _shortened("a" * 20 + "b" * 20) == "a" * 11 + "…" + "b" * 12


def test_what_was_not_tried_takes_no_line_on_a_narrow_screen(found):
    table = found.table.assign(probed_value=np.nan)
    table.loc[0, "probed_value"] = 0.5
    body = re.sub(r"<script.*?</script>", "", render_report(replace(found, table=table)), flags=re.S)
    cells = re.findall(r'<td class="number( untried)?" data-name="tried">(.*?)</td>', body)
    assert cells[0] == ("", "0.5")
    assert len(cells) > 1
    assert set(cells[1:]) == {(" untried", "–")}
