"""Which models are downloaded under a limit, and what a run says of it."""

from __future__ import annotations

import pytest

from tests.models import tiny_models
from tests.models.states import save_sharded, small_state
from thesis_rec.models.model_manifest import ManifestRow
from thesis_rec.models.model_sources import FETCHED, HERE, announcement, models_here, plan_fetch

SIZES = {"small": "1000000000", "large": "4000000000", "cached": "9000000000", "middle": "2000000000", "strange": ""}
WEIGHTS = {"large": 5.0, "middle": 5.0, "small": 1.0, "strange": 9.0}


def rows():
    return [
        ManifestRow(model_id=name, loader="timm", source=f"hf-hub:someone/{name}", bytes=size)
        for name, size in SIZES.items()
    ]


@pytest.mark.parametrize(
    ("limit", "online", "fetched"),
    [
        (0, True, []),
        (float("inf"), False, []),
        (float("inf"), True, ["small", "large", "middle", "strange"]),
        # By figures first, of equal ones the smaller; what doesn't fit is passed over; an unknown size never fits.
        (2, True, ["middle"]),
        (3.5, True, ["small", "middle"]),
        (6, True, ["large", "middle"]),
    ],
)
def test_the_models_that_matter_most_are_fetched(limit, online, fetched):
    plan = plan_fetch(rows(), {"cached"}, WEIGHTS, limit, online)
    assert plan.index.tolist() == list(SIZES)
    assert plan.index[plan["fate"] == HERE].tolist() == ["cached"]
    assert plan.index[plan["fate"] == FETCHED].tolist() == fetched
    if limit < float("inf"):
        assert plan.loc[plan["fate"] == FETCHED, "bytes"].sum() <= 1e9 * limit


def test_the_announcement_has_all_figures():
    plan = plan_fetch(rows(), {"cached"}, WEIGHTS, float("inf"))
    said = announcement(plan, ["mnist"], "hf-hub:someone/clip", online=True)
    # 7 GB are 56,000 megabits: 560 s at 100 Mbit/s.
    assert "4 models (7.0 GB, 0.2 hours at 100 Mbit/s), 1 of them of unknown size" in said
    assert "1 datasets" in said
    assert "hf-hub:someone/clip" in said
    offline = announcement(plan_fetch(rows(), {"cached"}, WEIGHTS, 0, online=False), [], "", online=False)
    assert offline.startswith("This machine is offline, and does without: 4 models (7.0 GB, ")
    assert offline.endswith(". 1 models are on this machine.")


def test_a_cache_holds_a_model_only_with_all_its_shards(tmp_path):
    whole, part = (ManifestRow(model_id=n, loader="timm", source=f"hf-hub:someone/{n}") for n in ("whole", "part"))
    pinned = ManifestRow(model_id="pinned", loader="timm", source="hf-hub:someone/whole", revision="b" * 40)
    local = ManifestRow(model_id="local", loader="timm", source="models/a")
    for name in ("whole", "part"):
        folder = save_sharded(small_state(), tmp_path / name)
        if name == "part":
            (folder / "model-00001-of-00003.safetensors").unlink()
        tiny_models.fill_hub_cache(tmp_path / "hub", f"someone/{name}", folder)
    assert models_here([whole, part, pinned, local], tmp_path / "hub") == {"whole", "local"}
