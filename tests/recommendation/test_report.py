from __future__ import annotations

import re
import shlex
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.fabricated import DEVICE, fabricated_bundle, fabricated_posterior, tokens_of
from thesis_rec.recommendation.asking import recommend_for
from thesis_rec.recommendation.report import (
    SIZES,
    Axis,
    next_command,
    pareto_figure,
    render_report,
    shown_number,
)
from thesis_rec.recommendation.request import Request


@pytest.fixture
def found():
    bundle, new = fabricated_bundle(), tokens_of("mine <b>", 3)
    request = Request(max_latency_ms=5, device=DEVICE)
    answer = recommend_for(bundle, new, request, posterior=fabricated_posterior(bundle, new))
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    return replace(answer, sample=((picture, "a & b"),), notes=("one note",))


def body_of(page):
    return re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S)


def test_the_page_needs_nothing_else_and_has_every_part(found):
    page = render_report(found)
    body = body_of(page)
    assert not re.findall(r"(?:src|href)=\"(?!data:)[^\"]+\"", body)
    for part in ("expected accuracy", "first component", "data:image/png;base64,", "one note", "max latency ms"):
        assert part in body
    assert found.table["model_id"].iloc[0] in body
    # Names come from users' folders.
    assert "mine &lt;b&gt;" in body
    assert "mine <b>" not in page
    assert "a &amp; b" in body
    # A shipped dataset that the manifest doesn't list has no domain, and is of none that is called so.
    unlisted = render_report(
        replace(found, nearest=found.nearest.assign(domain=[np.nan, *found.nearest["domain"][1:]]))
    )
    assert "nan" not in re.findall(r"<td>(\w*)</td>", unlisted)


def test_the_answer_comes_before_the_figure_and_the_figure_before_the_table(found):
    body = body_of(render_report(found))
    marks = [
        body.index(mark)
        for mark in ('class="best', "expected\n", "kedro recommend", "<svg", "<table", "first component")
    ]
    assert marks == sorted(marks)


def test_it_says_how_many_models_cannot_be_told_from_the_first(found):
    values = [0.8, 0.75, 0.71, *[0.3] * (len(found.table) - 3)]
    table = found.table.assign(predicted_value=values, value_low=0.7, value_high=0.9)
    assert "2 other models are expected within that range" in render_report(replace(found, table=table))
    alone = replace(found, table=table.assign(value_low=0.79))
    assert "no other model is expected within that range" in render_report(alone)


def test_the_page_says_what_the_accuracy_is_of(found):
    page = render_report(found)
    assert "<dt>accuracy</dt><dd>of a linear classifier on some 16 images of a class</dd>" in page
    assert re.search(r"</strong> expected\s+of a linear classifier on some 16 images of a class; with", page)
    asked = found.options.model_copy(update={"domain": "medical", "protocol": "zero_shot"})
    page = render_report(replace(found, options=asked))
    assert "<dd>without a classifier, from the classes&#39; names, of the domain medical</dd>" in page


def test_the_next_command_keeps_the_limits_and_is_refused_nothing_it_names(found):
    from thesis_rec.commands.recommend_command import recommend

    request = Request(max_latency_ms=5, licences=("MIT", "cc by"), device="h200", batch_size=8)
    command = next_command(replace(found, options=request))
    words = shlex.split(command)
    assert words[:2] == ["kedro", "recommend"]
    given = recommend.make_context("recommend", words[2:]).params
    assert str(given["images"]) == "mine <b>"
    assert given["probe"] == 5
    assert given["max_latency_ms"] == 5
    assert given["licences"] == ("MIT", "cc by")
    assert (given["device"], given["batch_size"], given["precision"]) == ("h200", 8, "fp32")
    # A file is named with its ending.
    assert "kedro recommend mine.npz " in next_command(replace(found, dataset={"source": "mine.npz"}))
    # Without images, or with everything tried, there is nothing to run.
    asked = found.options.model_copy(update={"domain": "medical", "protocol": "zero_shot"})
    assert next_command(replace(found, options=asked)).endswith("--protocol zero_shot --domain medical")
    # Whoever wants no download isn't led to one.
    offline = replace(
        found,
        options=Request(offline=True),
        table=found.table.assign(download_mb=[0.0, 0.0, *[9.0] * (len(found.table) - 2)]),
    )
    words = next_command(offline).split()
    assert "--offline" in words
    assert words[words.index("--probe") + 1] == "2"
    assert next_command(replace(offline, table=found.table.assign(download_mb=9.0))) == ""
    assert "--offline" not in command
    assert next_command(replace(found, sample=())) == ""
    assert next_command(replace(found, table=found.table.assign(probed_value=0.5))) == ""


def test_axes_read_as_people_count():
    assert Axis(0.4, 12, 0, 100, log=True).ticks(9) == [0.5, 1, 2, 5, 10]
    assert Axis(0.4, 1200, 0, 100, log=True).ticks(5) == [1, 10, 100, 1000]
    assert Axis(0.11, 0.58, 100, 0).ticks(7) == [0.2, 0.3, 0.4, 0.5]
    assert Axis(1, 100, 0, 10, log=True).place(10) == 5
    assert Axis(0.0, 2.0, 10, 0).place(0.5) == 7.5


def test_a_zoo_of_thousands_stays_a_small_page(found):
    table = pd.concat([found.table] * 200, ignore_index=True)
    table["rank"] = np.arange(1, len(table) + 1)
    table["model_id"] = [f"{i:05d}_" + "n" * 194 for i in table["rank"]]
    table["on_pareto_front"] = False
    page = render_report(replace(found, table=table))
    assert len(page) < 1_500_000
    assert "The first 1000 models" in page


def test_models_without_a_latency_are_in_the_table_and_not_in_the_figure(found):
    table = found.table.assign(latency_ms=np.nan, on_pareto_front=False, basis="unknown", n_parameters=0.0)
    page = render_report(replace(found, table=table, options=Request(device=DEVICE)))
    assert pareto_figure(replace(found, table=table), 700, 400)["points"] == []
    assert table["model_id"].iloc[0] in page
    assert "No latency is known" in page
    # An unknown number of weights isn't none.
    assert "– parameters" in page


def test_a_page_without_fitting_models_says_what_to_relax(found):
    request = Request(max_latency_ms=1e-4, device=DEVICE)
    bundle, new = fabricated_bundle(), tokens_of("mine", 3)
    nothing = recommend_for(bundle, new, request, posterior=fabricated_posterior(bundle, new))
    body = body_of(render_report(nothing))
    assert "No model fits" in body
    assert "--max-latency-ms" in body
    assert "24 models" in body
    hopeless = render_report(replace(nothing, relaxations=[]))
    assert "No change of one limit" in hopeless


def test_reasons_stand_in_the_table_where_they_differ(found):
    alike = found.table.assign(reason="the same of all")
    assert body_of(render_report(replace(found, table=alike))).count("the same of all") == 1
    differ = found.table.assign(reason=[f"reason {i} of its own" for i in range(len(found.table))])
    body = body_of(render_report(replace(found, table=differ)))
    assert (body.count("reason 0 of its own"), body.count("reason 1 of its own")) == (2, 1)


def points_of(page, name):
    """What the circles of the wide figures are, in order: class, place and tip."""
    figures = re.findall(r'<svg class="plot wide".*?</svg>', page, flags=re.S)
    figure = next(svg for svg in figures if name in svg)
    drawn = re.findall(r'<circle class="(.*?)" cx="(.*?)" cy="(.*?)" r="(.*?)" data-tip="(.*?)"/>', figure, flags=re.S)
    return figure, [(kind.split(), float(x), float(y), float(r), tip) for kind, x, y, r, tip in drawn]


def test_figures_hold_what_the_table_holds(found):
    chart = pareto_figure(found, *SIZES["wide"])
    figure, points = points_of(render_report(found), "ms per call")
    assert len(points) == len(found.table)
    ranks = [int(re.search(r"place (\d+)", tip)[1]) for *_, tip in points]
    assert ranks == sorted(ranks, reverse=True)
    drawn = dict(zip(ranks, points, strict=True))
    for row in found.table.to_dict("records"):
        kinds, x, y, radius, tip = drawn[row["rank"]]
        assert (x, y) == (chart["x"].place(row["latency_ms"]), chart["y"].place(row["predicted_value"]))
        assert ("front" in kinds) == row["on_pareto_front"]
        assert ("open" in kinds) == (row["basis"] != "measured")
        assert ("first" in kinds) == (radius == 8) == (row["rank"] == 1)
        assert tip.split("\n")[0] == row["model_id"]
        assert f"({row['basis']})" in tip
    assert figure.count('class="error"') == found.table["on_pareto_front"].sum()
    # A second limit on time is drawn where its throughput is reached: 8 images of 2 per millisecond take 4 ms.
    both = replace(found, options=Request(max_latency_ms=5, min_throughput=2000, batch_size=8, device=DEVICE))
    assert pareto_figure(both, 720, 440)["limits"] == [(5, "--max-latency-ms"), (4, "--min-throughput")]
    figure, points = points_of(render_report(both), "ms per call")
    assert figure.count('text class="limit"') == 2
    for _, x, y, *_ in points:
        assert 42 <= x <= 706
        assert 26 <= y <= 400
    tried = replace(found, table=found.table.assign(probed_value=0.25))
    for kinds, *_, tip in points_of(render_report(tried), "ms per call")[1]:
        assert "tried" in kinds
        assert tip.endswith("reached 0.250 when it was tried")
    _, points = points_of(render_report(found), "first component")
    assert [kind for kind, *_ in points] == [[]] * 3 + [["front"]] * 3 + [["new"]]
    assert points[-1][-1].endswith("your dataset")


def test_numbers_are_short():
    assert [shown_number(v) for v in (None, float("nan"), 0.01234, 12.345, 999.6, 12345, 3.2e6, 4e9)] == [
        "–", "–", "0.0123", "12.3", "1000", "12.3 k", "3.2 M", "4 G",
    ]  # fmt: skip


def test_long_names_break_where_people_would():
    from thesis_rec.recommendation.report import _breakable

    assert str(_breakable("a__b/<c>")) == "a__<wbr>b/<wbr>&lt;c&gt;"


def test_what_was_not_tried_takes_no_line_on_a_narrow_screen(found):
    table = found.table.assign(probed_value=np.nan)
    table.loc[0, "probed_value"] = 0.5
    body = body_of(render_report(replace(found, table=table)))
    cells = re.findall(r'<td class="number( untried)?" data-name="tried">(.*?)</td>', body)
    assert cells[0] == ("", "0.5")
    assert len(cells) > 1
    assert set(cells[1:]) == {(" untried", "–")}
