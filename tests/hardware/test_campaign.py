from __future__ import annotations

import json

import pytest

from tests.hardware.small_backbone import FAST, backbone
from thesis_rec.hardware.fingerprint import device_id
from thesis_rec.hardware.profiling import join_outcomes, made_from, profile_zoo
from thesis_rec.models.model_manifest import ManifestRow


def rows(*names: str) -> list[ManifestRow]:
    return [ManifestRow(model_id=name, loader="timm", source=name) for name in names]


def load(row):
    if row.model_id == "broken":
        raise OSError("no such file")
    return backbone(model_id=row.model_id)


def run(existing=None, names=("org/a", "broken", "b"), batch_sizes=(1,)):
    return dict(
        profile_zoo(rows(*names), load, existing or {}, "cpu", FAST.model_copy(update={"batch_sizes": batch_sizes}))
    )


def test_one_broken_model_is_a_row_of_the_failures():
    outcomes = run()
    device = device_id()
    assert set(outcomes) == {f"org/a/{device}", f"broken/{device}", f"b/{device}"}
    assert json.loads(json.dumps(outcomes)) == outcomes
    readers = {key: (lambda value=value: value) for key, value in outcomes.items()}
    table, failures = join_outcomes(readers, ["org/a", "broken"])
    assert table["model_id"].tolist() == ["org/a"]
    assert [(f.item, f.error) for f in failures] == [("broken", "OSError: no such file")]
    assert join_outcomes({}, ["a"])[0].empty


def test_finished_models_are_not_measured_again():
    outcomes = run()
    readers = {key: (lambda value=value: value) for key, value in outcomes.items()}
    again = run(readers)
    assert [key.partition("/")[0] for key in again] == ["broken"]
    assert len(run(readers, batch_sizes=(1, 2))) == 3


def test_an_unreadable_partition_is_made_again(caplog):
    def unreadable():
        raise ValueError("cut off")

    key = f"b/{device_id()}"
    caplog.set_level("INFO")
    assert list(run({key: unreadable}, names=("b",))) == [key]
    assert "made again" in caplog.text


@pytest.mark.parametrize("change", [{"source": "other"}, {"revision": "1"}, {"loader": "transformers"}])
def test_another_network_is_another_measurement(change):
    row = rows("a")[0]
    first, second = (made_from(r, FAST) for r in (row, row.model_copy(update=change)))
    assert first != second
