from __future__ import annotations

import json

import pytest

from tests.hardware.small_backbone import FAST, backbone
from thesis_rec.hardware.fingerprint import device_id
from thesis_rec.hardware.profiling import made_from, profile_zoo
from thesis_rec.models.model_manifest import ManifestRow


def rows(*names: str) -> list[ManifestRow]:
    return [ManifestRow(model_id=name, loader="timm", source=name) for name in names]


def load(row):
    if row.model_id == "broken":
        raise OSError("no such file")
    return backbone(model_id=row.model_id)


def run(existing=None, names=("org/a", "broken", "b"), batch_sizes=(1,)):
    settings = FAST.model_copy(update={"batch_sizes": batch_sizes})
    outcomes = {}
    for made in profile_zoo(rows(*names), load, existing or {}, "cpu", settings):
        outcomes |= made
    return outcomes


def test_one_broken_model_fails_alone():
    outcomes = run()
    device = device_id()
    assert set(outcomes) == {f"org/a/{device}", f"broken/{device}", f"b/{device}"}
    assert json.loads(json.dumps(outcomes)) == outcomes
    assert [row["model_id"] for row in outcomes[f"org/a/{device}"]["rows"]] == ["org/a"]
    assert outcomes[f"broken/{device}"]["error"] == "OSError: no such file"


def test_finished_models_are_not_measured_again():
    outcomes = run()
    readers = {key: (lambda value=value: value) for key, value in outcomes.items()}
    again = run(readers)
    assert [key.partition("/")[0] for key in again] == ["broken"]
    assert len(run(readers, batch_sizes=(1, 2))) == 3


@pytest.mark.parametrize("change", [{"source": "other"}, {"revision": "1"}, {"loader": "transformers"}])
def test_another_network_is_another_measurement(change):
    row = rows("a")[0]
    first, second = (made_from(r, FAST) for r in (row, row.model_copy(update=change)))
    assert first != second
