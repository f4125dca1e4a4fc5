"""The dataset manifest: rules, sub-tasks, and rows that can't be used."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thesis_rec.images.manifest import DatasetRow, SplitRule, base_rows, read_dataset_manifest


def manifest(*rows):
    return pd.DataFrame([{"dataset_id": "d", "loader": "npz", "source": "d.npz"} | row for row in rows])


def subtask(name, parent, classes):
    return {"dataset_id": name, "loader": "", "source": "", "parent": parent, "class_subset": classes}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train", ("train", "", None, None)),
        ("test=validation", ("test", "validation", None, None)),
        ("train=all:0.8@500", ("train", "all", 0.8, 500)),
        (" train:0.5 ", ("train", "", 0.5, None)),
    ],
)
def test_split_rules(text, expected):
    rule = SplitRule.model_validate(text)
    assert (rule.name, rule.source, rule.share, rule.cap) == expected


@given(
    name=st.sampled_from(["train", "test", "pretrain"]),
    source=st.text("abz_/.-", max_size=8),
    share=st.none() | st.integers(1, 100).map(lambda n: n / 100),
    cap=st.none() | st.integers(1, 10**6),
)
def test_split_rules_survive_writing_and_reading(name, source, share, cap):
    text = name + (f"={source}" if source else "") + (f":{share}" if share else "") + (f"@{cap}" if cap else "")
    rule = SplitRule.model_validate(text)
    assert (rule.name, rule.source, rule.share, rule.cap) == (name, source, share, cap)


@given(st.text(max_size=12))
def test_anything_else_is_refused_and_nothing_crashes(text):
    try:
        rule = SplitRule.model_validate(text)
    except ValueError:
        return
    assert rule.name in text


def test_a_full_row():
    rows, failures = read_dataset_manifest(
        manifest(
            {"splits": "train;test=validation", "label_map": "cat=animal; dog=animal;x=", "unknown column": "?"},
            {"dataset_id": "e"},
            subtask("s", "d;e", "d:3;e:0"),
        )
    )
    assert failures == []
    row, _, sub = rows
    assert [rule.name for rule in row.splits] == ["train", "test"]
    assert row.label_map == {"cat": "animal", "dog": "animal", "x": ""}
    assert sub.is_subtask
    assert sub.class_subset == (("d", 3), ("e", 0))
    assert [r.dataset_id for r in base_rows(rows)] == ["d", "e"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loader": ""}, "loader and source"),
        ({"source": None}, "loader and source"),
        ({"splits": "train=a:b"}, "no split rule"),
        ({"splits": "test;train:1.5"}, "is wrong: splits Input should be less than or equal to 1."),
        ({"splits": "train;train"}, "twice"),
        ({"splits": "train=all:0.8;test=all:0.4"}, "sum to more than 1"),
        ({"label_map": "cat"}, "old=new"),
        ({"dataset_id": ""}, "dataset_id"),
        (subtask("s", "d", "d:1;d:1"), "twice"),
        (subtask("s", "d", "d:1"), "at least two"),
        (subtask("s", "d", "d:x;d:1"), "base_id:class_index"),
        (subtask("s", "d", "d:1;e:1"), "not in parent"),
        (subtask("s", "gone", "gone:1;gone:2"), "not a usable dataset"),
        ({"dataset_id": "good"}, "repeats the dataset_id"),
    ],
)
def test_a_bad_row_is_one_failure_and_the_others_stay(change, message):
    rows, failures = read_dataset_manifest(manifest({"dataset_id": "good"}, change))
    assert "good" in [row.dataset_id for row in rows]
    assert len(failures) == 1
    assert message in failures[0].error
    assert failures[0].hint


def test_unknown_fields_are_refused():
    with pytest.raises(ValueError, match="Extra inputs"):
        DatasetRow.model_validate({"dataset_id": "d", "loader": "npz", "source": "d", "lable": "x"})
