import pickle

import pytest

from thesis_rec.base.errors import (
    Failure,
    ItemError,
    NothingSucceeded,
    check_failures,
    explained,
    failures_frame,
    listed,
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
