import pickle

import pytest

from thesis_rec.base.errors import (
    Failure,
    ItemError,
    NothingSucceeded,
    Unreached,
    check_failures,
    explained,
    failures_frame,
    listed,
    unreached_failures,
)


def test_item_error_names_item_error_and_remedy():
    error = ItemError("resnet", "the file is missing.", "Check the source column.")
    assert str(error) == "resnet: the file is missing. Check the source column."
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.item, copy.error, copy.hint) == (error.item, error.error, error.hint)


def test_failure_of_any_exception():
    assert Failure.of("m", ItemError("m", "bad", "fix")) == Failure("m", "bad", "fix")
    assert Failure.of("m", KeyError("x"), "look").error.startswith("KeyError")


def test_failures_frame_keeps_its_columns_when_empty():
    assert list(failures_frame([], "dataset_id").columns) == ["dataset_id", "error", "hint"]
    assert failures_frame([Failure("a", "b", "c")]).iloc[0].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(("succeeded", "strict", "raises"), [(3, False, False), (3, True, True), (0, False, True)])
def test_check_failures(succeeded, strict, raises):
    failures = failures_frame([Failure(f"m{i}", "broken", "mend") for i in range(7)])
    if not raises:
        check_failures(failures, succeeded, strict, "models")
        return
    with pytest.raises(NothingSucceeded, match=r"m0: broken mend[\s\S]*and 2 more"):
        check_failures(failures, succeeded, strict, "models")


def test_no_failures_never_raises():
    check_failures(failures_frame([]), 0, True, "models")


def test_items_that_no_job_came_to_are_named_and_stop_what_follows():
    failures = unreached_failures(dict.fromkeys("abc"), [("a", None), ("d", None)])
    assert [failure.item for failure in failures] == ["b", "c"]
    with pytest.raises(Unreached, match=r"no job has come to 2 models: b, c\. Run that job"):
        check_failures(failures_frame(failures), 1, False, "models")


def test_an_outcome_made_from_other_files_than_the_present_ones_is_none():
    def present(row: str) -> str | None:
        if row == "gone":
            raise OSError(row)
        return None if row == "elsewhere" else row

    rows = {"same": "1", "changed": "2", "failed": "3", "lost": "gone", "hub": "elsewhere", "twice": "4"}
    told = [
        ("same", "1"),
        ("changed", "1"),
        ("failed", None),
        ("lost", "1"),
        ("hub", "1"),
        ("twice", "3"),
        ("twice", "4"),
    ]
    assert [failure.item for failure in unreached_failures(rows, told, present)] == ["changed"]


def test_long_lists_of_names_are_cut_and_counted() -> None:
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (RuntimeError("two\n  lines"), "two lines"),
        (OSError("image file is truncated"), "it is cut off"),
        (EOFError(), "it is cut off"),
        (PermissionError(13, "Permission denied", "/data/cats/a.png"), "Permission denied"),
        (PermissionError(13, "Permission denied", "/b.csv"), "[Errno 13] Permission denied: '/b.csv'"),
        (KeyError(), "KeyError"),
        (KeyError("num_classes"), "there is no 'num_classes'"),
    ],
)
def test_what_a_library_raises_is_explained(raised, reason):
    with pytest.raises(ItemError) as caught, explained("a.png", "it can't be read ({reason}).", "Replace it."):
        raise raised
    assert str(caught.value) == f"a.png: it can't be read ({reason}). Replace it."
    assert caught.value.__cause__ is raised


def test_errors_of_ones_own_pass_unexplained():
    own = ItemError("b", "is wrong.", "Correct it.")
    with pytest.raises(ItemError) as caught, explained("a.png", "it can't be read ({reason}).", ""):
        raise own
    assert caught.value is own
