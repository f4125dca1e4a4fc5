"""Sides and sub-tasks keep their rules."""

from __future__ import annotations

import pytest

from thesis_rec.starter import sides, subtasks
from thesis_rec.tasks import BASE_TASKS, families


def test_sides_are_disjoint_and_complete():
    known, unknown, reference = set(sides.known_tasks()), set(sides.unknown_tasks()), set(sides.REFERENCE_TASKS)
    assert known | unknown | reference == set(BASE_TASKS)
    assert not known & unknown
    assert not known & reference
    assert not unknown & reference
    assert sides.evaluation_tasks() == sides.known_tasks() + sides.unknown_tasks()


def test_sides_are_large_enough():
    assert len(sides.known_tasks()) >= 100
    assert len(sides.unknown_tasks()) >= 50
    assert len(sides.UNKNOWN_TASK_FAMILIES) >= 8
    assert set(sides.UNKNOWN_TASK_FAMILIES) <= set(families())
    natural = [f for f in sides.UNKNOWN_TASK_FAMILIES if BASE_TASKS[families()[f][0]].group == "natural"]
    assert 3 <= len(natural) <= 6


def test_generations_share_nothing():
    first, second = (set(sides.evaluation_tasks(number)) for number in sides.GENERATIONS)
    assert first | second == set(sides.evaluation_tasks())
    assert not first & second
    assert {BASE_TASKS[task].family for task in second} == set(sides.ADDED_TASK_FAMILIES)
    assert all(sides.generation(task) == 1 for task in sides.REFERENCE_TASKS)
    # Of the second generation, too, something drawn and something natural is kept unknown.
    groups = [BASE_TASKS[task].group for task in sides.unknown_tasks(2)]
    assert set(groups) == {"structured", "natural"}
    assert len(sides.unknown_tasks(2)) < len(sides.known_tasks(2))


def test_reference_tasks_are_of_every_known_family_of_the_first_generation_and_no_other():
    reference = [BASE_TASKS[i].family for i in sides.REFERENCE_TASKS]
    assert set(reference) == set(families()) - set(sides.UNKNOWN_TASK_FAMILIES) - set(sides.ADDED_TASK_FAMILIES)
    assert len(sides.REFERENCE_TASKS) == len(set(sides.REFERENCE_TASKS)) >= 28


def test_unknown_sources_are_of_three_unknown_families():
    assert {BASE_TASKS[i].family for i in sides.UNKNOWN_SOURCES} < set(sides.UNKNOWN_TASK_FAMILIES)
    assert len({BASE_TASKS[i].family for i in sides.UNKNOWN_SOURCES}) >= 3


@pytest.fixture(scope="module")
def drawn():
    return subtasks.sample_subtasks(0, 2200)


def test_numbers_of_subtasks(drawn):
    known = set(sides.known_tasks(1))
    assert len(drawn) == 2200
    assert [t.dataset_id for t in drawn[:2]] == ["sub_00000", "sub_00001"]
    assert sum(t.members[0][0] in known for t in drawn) == 1700
    shares = [sum(len(subtasks.parents(t)) == k for t in drawn) / 2200 for k in (1, 2, 3, 4)]
    assert shares[0] == pytest.approx(0.5, abs=0.05)
    assert min(shares) > 0.1


def test_subtasks_never_cross_the_border_nor_touch_the_reference(drawn):
    for number, tasks in zip(sides.GENERATIONS, (drawn, subtasks.sample_added_subtasks()), strict=True):
        known, unknown = set(sides.known_tasks(number)), set(sides.unknown_tasks(number))
        for task in tasks:
            bases = set(subtasks.parents(task))
            assert bases <= known or bases <= unknown
            assert not bases & set(sides.REFERENCE_TASKS)


def test_added_subtasks_are_numbered_on(drawn):
    added = subtasks.sample_added_subtasks(0, 330)
    assert [task.dataset_id for task in added] == [f"sub_{i:05d}" for i in range(2200, 2530)]
    assert subtasks.sample_added_subtasks(0, 40) == added[:40]
    assert {BASE_TASKS[base].family for task in added for base, _ in task.members} == set(sides.ADDED_TASK_FAMILIES)


def test_subtasks_are_proper_and_unique(drawn):
    drawn = [*drawn, *subtasks.sample_added_subtasks()]
    assert len({frozenset(t.members) for t in drawn}) == len(drawn)
    for task in drawn:
        assert not task.draws
        assert 2 <= len(task.members) <= 10
        assert len(set(task.members)) == len(task.members)
        for base, k in task.members:
            assert 0 <= k < len(BASE_TASKS[base].class_names)
        bases = subtasks.parents(task)
        if len(bases) == 1:
            assert len(task.members) < len(BASE_TASKS[bases[0]].class_names)
        else:
            assert len(bases) <= 4
            assert len(task.members) >= 4


def test_mixtures_are_of_one_family_or_of_several(drawn):
    mixtures = [t for t in drawn if len(subtasks.parents(t)) > 1]
    same = [t for t in mixtures if "+" not in subtasks.domain(t)]
    assert 0.25 < len(same) / len(mixtures) < 0.6


def test_draw_is_deterministic_and_grows(drawn):
    assert subtasks.sample_subtasks(0, 40) == drawn[:40]
    assert subtasks.sample_subtasks(1, 40) != drawn[:40]


def test_manifest_columns_of_subtasks(drawn):
    task = next(t for t in drawn if len(subtasks.parents(t)) > 1)
    written = [(p.rsplit(":", 1)[0], int(p.rsplit(":", 1)[1])) for p in subtasks.class_subset(task).split(";")]
    assert tuple(written) == task.members
    natural = sum(BASE_TASKS[b].group == "natural" for b, _ in task.members)
    assert subtasks.group(task) == ("natural" if 2 * natural >= len(task.members) else "structured")
    assert subtasks.domain(task).split("+") == sorted({BASE_TASKS[b].family for b, _ in task.members})
