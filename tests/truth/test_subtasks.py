"""Sub-tasks drawn of any tasks."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from thesis_rec.truth.responses import MAX_CLASSES, MAX_PARENTS, draw_subtasks

TASKS = st.lists(st.integers(2, 12), min_size=1, max_size=6).map(
    lambda sizes: {f"t{i}": n for i, n in enumerate(sizes)}
)


@given(n_classes=TASKS, seed=st.integers(0, 5))
@settings(max_examples=40)
def test_subtasks_are_different_and_made_of_what_there_is(n_classes, seed):
    drawn = draw_subtasks(n_classes, 30, seed)
    assert len({frozenset(members) for members in drawn}) == len(drawn) <= 30
    assert draw_subtasks(n_classes, 7, seed) == drawn[:7]
    for members in drawn:
        assert 2 <= len(set(members)) == len(members) <= MAX_CLASSES
        assert all(0 <= k < n_classes[task] for task, k in members)
        parents = {task for task, _ in members}
        assert len(parents) <= MAX_PARENTS
        if len(parents) == 1:
            assert len(members) < n_classes[parents.pop()]


def test_subsets_and_mixtures_take_turns_where_there_is_room():
    drawn = draw_subtasks(dict.fromkeys("abcdef", 10), 100, 0)
    mixed = [len({task for task, _ in members}) > 1 for members in drawn]
    assert 45 <= sum(mixed) <= 55
    assert draw_subtasks({"a": 2}, 5, 0) == []
    # Three classes have three subsets of two.
    assert len(draw_subtasks({"a": 3}, 50, 0)) == 3
