"""The answer to one request as a page that needs nothing else: one HTML file, readable on a phone."""

from __future__ import annotations

import base64
import io
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from markupsafe import Markup
    from plotly.graph_objects import Figure

    from thesis_rec.recommendation.answer import Recommendation

#: Models in the figure of intervals: more can't be told apart.
RANKED = 20

BLUE, ORANGE, GREY, GREEN = "#2563eb", "#ea580c", "#94a3b8", "#15803d"


def render_report(found: Recommendation) -> str:
    """The report as one HTML page; plotly's library is inlined once.

    Args:
        found: The answer.
    """
    from jinja2 import Environment, select_autoescape
    from plotly.offline import get_plotlyjs

    source = resources.files("thesis_rec.recommendation") / "templates" / "recommendation.html"
    environment = Environment(autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True)
    environment.filters["figure"] = shown_number
    environment.filters["breakable"] = _breakable
    template = environment.from_string(source.read_text(encoding="utf-8"))
    figures = {}
    if len(found.table):
        figures["pareto"] = _embed(pareto_figure(found), "pareto")
        figures["ranking"] = _embed(ranking_figure(found), "ranking")
    figures["map"] = _embed(map_figure(found), "map")
    return template.render(
        found=found,
        rows=found.top.to_dict("records"),
        probed=bool(found.top["probed_value"].notna().any()),
        excluded=_excluded(found.excluded),
        nearest=found.nearest.to_dict("records"),
        figures=figures,
        images=[(_data_uri(image), name) for image, name in found.sample],
        plotly=get_plotlyjs(),
        limits={name.replace("_", " "): value for name, value in found.budget.limits.items()},
        percent=round(100 * found.options.level),
    )


def pareto_figure(found: Recommendation) -> Figure:
    """Predicted accuracy against latency of all feasible models, with the front of those that nothing beats."""
    import plotly.graph_objects as go

    table = found.table[found.table["latency_ms"].notna()]
    figure = go.Figure()
    for name, rows, colour in (
        ("others", table[~table["on_pareto_front"].astype(bool)], GREY),
        ("not beaten in both", table[table["on_pareto_front"].astype(bool)].sort_values("latency_ms"), BLUE),
    ):
        figure.add_scatter(
            x=rows["latency_ms"],
            y=rows["predicted_value"],
            name=name,
            mode="lines+markers" if colour == BLUE else "markers",
            line={"shape": "hv", "dash": "dot", "width": 1},
            marker={"color": colour, "size": 9, "symbol": _symbols(rows["basis"])},
            error_y={
                "type": "data", "symmetric": False, "thickness": 1, "width": 0, "color": colour,
                "array": rows["value_high"] - rows["predicted_value"],
                "arrayminus": rows["predicted_value"] - rows["value_low"],
                "visible": colour == BLUE,
            },
            customdata=rows[["model_id", "basis", "family"]],
            hovertemplate="<b>%{customdata[0]}</b><br>%{x:.3g} ms (%{customdata[1]})<br>accuracy %{y:.3f}"
            "<br>%{customdata[2]}<extra></extra>",
        )  # fmt: skip
    limit = found.budget.max_latency_ms
    if limit is not None:
        line = {"color": ORANGE, "dash": "dash"}
        figure.add_shape(type="line", x0=limit, x1=limit, y0=0, y1=1, yref="paper", line=line)
        # Unlike shapes, annotations of a logarithmic axis are placed by the logarithm.
        place = {"x": float(np.log10(limit)), "y": 1, "yref": "paper", "xanchor": "right", "yanchor": "top"}
        figure.add_annotation(text="limit", showarrow=False, font={"color": ORANGE}, **place)
    figure.update_xaxes(title="latency, ms per call (log)", type="log")
    figure.update_yaxes(title="predicted accuracy")
    # As high as the figure beside it.
    return _styled(figure, max(420, _ranking_height(found)))


def ranking_figure(found: Recommendation) -> Figure:
    """Predicted accuracy of the first models with its interval; probed ones are marked."""
    import plotly.graph_objects as go

    rows = found.table.head(RANKED).iloc[::-1]
    labels = [f"{_shortened(name)}  {rank}" for name, rank in zip(rows["model_id"], rows["rank"], strict=True)]
    probed = rows["probed_value"].notna()
    figure = go.Figure()
    figure.add_scatter(
        x=rows["predicted_value"],
        y=labels,
        mode="markers",
        name="predicted",
        marker={"color": BLUE, "size": 8},
        error_x={
            "type": "data", "symmetric": False, "thickness": 1.5, "color": BLUE,
            "array": rows["value_high"] - rows["predicted_value"],
            "arrayminus": rows["predicted_value"] - rows["value_low"],
        },
        customdata=rows[["model_id", "rank"]],
        hovertemplate="<b>%{customdata[0]}</b>, place %{customdata[1]}<br>accuracy %{x:.3f}<extra></extra>",
    )  # fmt: skip
    if probed.any():
        figure.add_scatter(
            x=rows["probed_value"][probed],
            y=[label for label, known in zip(labels, probed, strict=True) if known],
            mode="markers",
            name="tried on these images",
            marker={"color": GREEN, "size": 11, "symbol": "diamond"},
            customdata=rows.loc[probed, ["model_id"]],
            hovertemplate="<b>%{customdata[0]}</b><br>reached %{x:.3f}<extra></extra>",
        )
    figure.update_xaxes(title="accuracy")
    figure.update_yaxes(tickfont={"size": 10}, automargin=True)
    return _styled(figure, _ranking_height(found))


def _ranking_height(found: Recommendation) -> int:
    """Pixels of the figure of intervals: each model has a line."""
    return 140 + 20 * min(len(found.table), RANKED)


def map_figure(found: Recommendation) -> Figure:
    """The dataset among the known ones: the first two principal components of their mean features."""
    import plotly.graph_objects as go

    figure = go.Figure()
    near = set(found.nearest["dataset_id"])
    known = found.places[found.places["kind"] == "known"]
    new = found.places[found.places["kind"] == "new"]
    groups = (
        ("known datasets", known[~known["dataset_id"].isin(near)], GREY, 7, "circle"),
        ("nearest", known[known["dataset_id"].isin(near)], BLUE, 10, "circle"),
        ("your dataset", new, ORANGE, 16, "star"),
    )
    for name, rows, colour, size, symbol in groups:
        figure.add_scatter(
            x=rows["x"],
            y=rows["y"],
            name=name,
            mode="markers",
            marker={"color": colour, "size": size, "symbol": symbol},
            customdata=rows[["dataset_id", "domain"]],
            hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
        )
    figure.update_xaxes(title="first component", zeroline=False)
    figure.update_yaxes(title="second component", zeroline=False)
    return _styled(figure, 420)


def shown_number(value: Any, digits: int = 3) -> str:
    """A number with three significant digits and units of thousands, or a dash."""
    if value is None or pd.isna(value):
        return "–"
    number = float(value)
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(number) >= limit:
            return f"{number / (1e3 if limit == 1e4 else limit):.{digits}g}{unit}"
    return f"{number:.{digits}g}" if abs(number) < 100 else f"{number:.0f}"


def _excluded(excluded: pd.DataFrame) -> list[tuple[str, int]]:
    """How many models each limit excludes; a model may break several."""
    if excluded.empty:
        return []
    counts = excluded["limits"].str.split(", ").explode().value_counts()
    return [(str(name).replace("_", " "), int(count)) for name, count in counts.items()]


def _shortened(name: str, length: int = 24) -> str:
    """A name of at most ``length`` characters; beginnings and ends tell models apart, so that the middle goes."""
    if len(name) <= length:
        return name
    return f"{name[: length // 2 - 1]}…{name[-(length - length // 2) :]}"


def _breakable(name: str) -> Markup:
    """A long identifier that a narrow column may break after its underscores and slashes."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([_/]+)", r"\1<wbr>", str(escape(name))))


def _symbols(basis: pd.Series) -> list[str]:
    return ["circle" if how == "measured" else "circle-open" for how in basis]


def _styled(figure: Figure, height: int) -> Figure:
    figure.update_layout(
        template="plotly_white",
        height=height,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"size": 12},
        hoverlabel={"align": "left"},
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def _embed(figure: Figure, name: str) -> str:
    options = {"responsive": True, "displaylogo": False, "displayModeBar": False}
    html: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=options)
    return html


def _data_uri(image: NDArray[np.uint8]) -> str:
    """A uint8 (H, W, 3) image as a PNG within the page, small ones enlarged without blur."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((160, 160))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
