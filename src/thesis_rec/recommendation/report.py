"""The answer to one request as a page that needs nothing else: one HTML file, for desk, phone and paper."""

from __future__ import annotations

import base64
import io
import math
import re
import shlex
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from thesis_rec.hardware.budget import Budget, option_text
from thesis_rec.recommendation.answer import Recommendation
from thesis_rec.recommendation.request import THUMBNAIL

if TYPE_CHECKING:
    from markupsafe import Markup

#: Points of a figure: more can't be told apart, and the page stays small.
POINTS = 1000

#: Width and height of a figure's two drawings: letters keep their size on a narrow screen, so that it needs its own.
SIZES = {"wide": (720, 440), "narrow": (360, 380)}

#: What the accuracy is of, by protocol. Published linear probes are of 10 to 25 images of a class, mostly of 16, tries
#: and measurements of 16: more images reach more.
PROTOCOLS = {
    "linear_probe": "of a linear classifier on some 16 images of a class",
    "zero_shot": "without a classifier, from the classes' names",
    "fine_tune": "of the whole network, tuned",
}

#: Pixels around the plane of a figure: left, top, right, bottom.
MARGINS = (42, 26, 14, 40)


def render_report(found: Recommendation) -> str:
    """The report as one HTML page.

    Args:
        found: The answer.
    """
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("thesis_rec.recommendation")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"figure": shown_number, "breakable": _breakable}
    rows = found.top.to_dict("records")
    return environment.get_template("recommendation.html").render(
        found=found,
        rows=rows,
        alike=_alike(found.table),
        command=next_command(found),
        protocol=PROTOCOLS[found.options.protocol],
        tried=int(found.table["probed_value"].notna().sum()),
        span=_span(rows),
        nearest=found.nearest.fillna({"domain": ""}).to_dict("records"),
        pareto={name: pareto_figure(found, *size) for name, size in SIZES.items()} if rows else {},
        map={name: map_figure(found, *size) for name, size in SIZES.items()} if len(found.places) else {},
        images=[(_data_uri(image), name) for image, name in found.sample],
        percent=f"{100 * found.options.level:.6g}",
        n_points=POINTS,
    )


@dataclass(frozen=True)
class Axis:
    """An axis of a figure, from ``low`` to ``high`` in the data's unit, between two pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Pixel of a value."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (self.end - self.start) * (at - low) / (high - low), 1)

    def ticks(self, most: int) -> list[float]:
        """At most ``most`` values of 1, 2 and 5 times a power of ten; powers of ten alone where these would be more."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            for steps, stride in (((1, 2, 5), 1), ((1,), 1), ((1,), 2), ((1,), 4)):
                found = [step * 10.0**k for k in range(first, last + 1, stride) for step in steps]
                found = [value for value in found if self.low <= value <= self.high]
                if len(found) <= most:
                    break
            return [float(f"{value:.1g}") for value in found]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (factor * step) <= most)
        return [round(k * step, 12) for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def pareto_figure(found: Recommendation, width: int, height: int) -> dict[str, Any]:
    """Expected accuracy against latency: the models that fit, the front that nothing beats, and the limits.

    Args:
        found: The answer, with at least one model.
        width: Pixels.
        height: Pixels.

    Returns:
        What the template draws: axes, limits, and the models of the front and of all; without those of no latency.
    """
    table = found.table[found.table["latency_ms"].notna()]
    front = table[table["on_pareto_front"].astype(bool)].sort_values("latency_ms")
    shown = pd.concat([table.drop(front.index).head(POINTS), front])
    limits = {"--max-latency-ms": found.options.max_latency_ms}
    if found.options.min_throughput is not None:
        limits["--min-throughput"] = 1000 * found.options.batch_size / found.options.min_throughput
    limits = {name: value for name, value in limits.items() if value is not None}
    costs = [*shown["latency_ms"], *limits.values()] or [1.0]
    values = [*shown["predicted_value"], *front["value_low"], *front["value_high"]] or [0.0, 1.0]
    pad = max(0.04 * (max(values) - min(values)), 0.01)
    chart = _chart(width, height, (min(costs) / 1.25, max(costs) * 1.25), (min(values) - pad, max(values) + pad), True)
    return chart | {
        "limits": [(value, name) for name, value in limits.items()],
        "front": front.to_dict("records"),
        # The first model is drawn last: nothing hides it.
        "points": shown.sort_values("rank", ascending=False).to_dict("records"),
    }


def map_figure(found: Recommendation, width: int, height: int) -> dict[str, Any]:
    """The dataset among the known ones: the first two principal components of their mean features.

    Args:
        found: The answer, with places.
        width: Pixels.
        height: Pixels.
    """
    places = found.places.tail(POINTS)
    near = places["dataset_id"].isin(found.nearest["dataset_id"])
    kind = places["kind"].where(places["kind"] == "new", np.where(near, "front", ""))
    low, high = places[["x", "y"]].min(), places[["x", "y"]].max()
    pad = 0.05 * (high - low) + 1e-3
    x, y = zip(low - pad, high + pad, strict=True)
    points = places.assign(kind=kind).sort_values("kind", kind="stable").to_dict("records")
    return _chart(width, height, x, y, False) | {"points": points}


def next_command(found: Recommendation) -> str:
    """The command that really tries more candidates under the same limits; empty where that isn't possible."""
    open_ = found.table["probed_value"].isna()
    # Whoever wants no download isn't led to one.
    open_ &= (found.table["download_mb"] == 0) | (not found.options.offline)
    if not found.sample or not open_.any():
        return ""
    words = [
        "kedro recommend",
        shlex.quote(str(found.dataset.get("source", found.dataset_id))),
        f"--probe {min(5, int(open_.sum()))}",
        *([] if found.zoo == "hub" else [f"--zoo {shlex.quote(found.zoo)}"]),
        *(["--offline"] if found.options.offline else []),
    ]
    wishes = found.options.model_dump(
        include={*Budget.model_fields, "labels", "protocol", "domain"}, exclude_defaults=True
    )
    return " ".join([*words, *(option_text(name, value) for name, value in wishes.items())])


def shown_number(value: Any) -> str:
    """A number with three significant digits and units of thousands, or a dash."""
    if value is None or pd.isna(value):
        return "–"
    number = float(value)
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(number) >= limit:
            return f"{number / (1e3 if limit == 1e4 else limit):.3g}{unit}"
    return f"{number:.3g}" if abs(number) < 100 else f"{number:.0f}"


def _chart(width: int, height: int, x: tuple[float, float], y: tuple[float, float], log: bool) -> dict[str, Any]:
    """The axes of a figure and their ticks."""
    left, top, right, bottom = MARGINS
    x_axis = Axis(*x, left, width - right, log)
    y_axis = Axis(*y, height - bottom, top)
    return {
        "width": width,
        "height": height,
        "x": x_axis,
        "y": y_axis,
        "x_ticks": [(x_axis.place(value), f"{value:g}") for value in x_axis.ticks(width // 70)],
        "y_ticks": [(y_axis.place(value), f"{value:g}") for value in y_axis.ticks(7)],
    }


def _alike(table: pd.DataFrame) -> int:
    """How many other models are expected to reach what the first one's interval holds."""
    if table.empty:
        return 0
    return int((table["predicted_value"].iloc[1:] >= table["value_low"].iloc[0]).sum())


def _span(rows: list[dict[Hashable, Any]]) -> tuple[float, float]:
    """Lowest and highest end of the shown intervals, in twentieths."""
    low = min((row["value_low"] for row in rows), default=0.0)
    high = max((row["value_high"] for row in rows), default=1.0)
    low, high = math.floor(20 * low) / 20, math.ceil(20 * high) / 20
    return low, max(high, low + 0.05)


def _breakable(name: str) -> Markup:
    """A long identifier that a narrow column may break after its underscores and slashes."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([_/]+)", r"\1<wbr>", str(escape(name))))


def _data_uri(image: NDArray[np.uint8]) -> str:
    """A uint8 (H, W, 3) image as a picture of at most ``THUMBNAIL`` pixels; JPEG where it isn't tiny."""
    from PIL import Image

    picture = Image.fromarray(image)
    kind = "PNG" if max(picture.size) <= 64 else "JPEG"
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, format=kind)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode()
