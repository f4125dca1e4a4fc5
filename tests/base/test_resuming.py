"""What is done isn't repeated, what fails stops no other, and what no job has come to is found."""

import pytest

from thesis_rec.base import resuming
from thesis_rec.base.errors import ConfigurationError, Failure, ItemError, Unreached, check_failures, failures_frame
from thesis_rec.base.resuming import outcome_failures, work_on
from thesis_rec.base.settings import Shard

ITEMS = {"a": "1", "bad": "2", "c": "3"}


class Kept:
    """What an earlier run left."""

    def __init__(self, value, written=0):
        self.value, self.written = value, written

    def __call__(self, *names):
        return self.value

    def changed(self):
        return self.written


class Work:
    """Results and outcomes as a folder would keep them."""

    def __init__(self) -> None:
        self.results: dict[str, str] = {}
        self.outcomes = {}
        self.made: list[str] = []

    def make(self, row, outcome):
        self.made.append(row)
        yield {f"first {row}": row}
        if row == "2":
            raise OSError("no such file")
        yield {f"second {row}": row}
        outcome["results"] = [f"first {row}", f"second {row}"]

    def run(self, items=ITEMS, written=0) -> list[str]:
        """Which rows were worked on."""
        self.made = []
        existing = {key: Kept(result, written) for key, result in self.results.items()}
        earlier = {name: Kept(outcome) for name, outcome in self.outcomes.items()}
        for results, outcomes in work_on(items, "working", str.upper, self.make, earlier, existing):
            self.results |= results
            self.outcomes |= outcomes
        return self.made


def test_an_item_that_fails_stops_no_other_and_is_tried_again(caplog):
    work = Work()
    assert work.run() == ["1", "2", "3"]
    assert set(work.results) == {"first 1", "second 1", "first 2", "first 3", "second 3"}
    assert work.outcomes["a"] == {"error": "", "hint": "", "made_from": "1", "results": ["first 1", "second 1"]}
    assert work.outcomes["bad"]["error"] == "OSError: no such file"
    assert work.outcomes["bad"]["hint"]
    assert "bad: OSError: no such file" in caplog.text
    assert work.run() == ["2"]


@pytest.mark.parametrize(
    "earlier",
    [{"error": "", "made_from": "1"}, {"error": "", "made_from": "0", "results": []}, {"error": "broken"}, {}, []],
)
def test_outcomes_of_other_content_of_failures_and_of_older_versions_are_made_again(earlier):
    work = Work()
    work.run({"a": "1"})
    work.outcomes["a"] = earlier
    assert work.run({"a": "1"}) == ["1"]
    assert work.run({"a": "1"}) == []


def test_results_that_are_gone_or_were_changed_since_are_made_again(caplog):
    work = Work()
    work.run({"a": "1"})
    assert work.run({"a": "1"}) == []
    assert work.run({"a": "1"}, written=1) == ["1"]
    del work.results["second 1"]
    caplog.set_level("INFO")
    assert work.run({"a": "1"}) == ["1"]
    assert "incomplete ('second 1') and is made again" in caplog.text


def test_what_is_the_fault_of_no_single_item_stops_the_step():
    def make(row, outcome):
        raise ConfigurationError("no encoder")

    with pytest.raises(ConfigurationError, match="no encoder"):
        list(work_on(ITEMS, "working", str, make, {}))


def test_only_the_first_of_many_failures_are_logged_aloud(caplog):
    def make(row, outcome):
        raise ItemError(row, "is absent.", "Fetch it.")

    found = list(work_on({str(i): str(i) for i in range(15)}, "working", str, make, {}))
    assert [outcome[str(i)]["hint"] for i, (_, outcome) in enumerate(found)] == ["Fetch it."] * 15
    assert caplog.text.count("is absent. Fetch it.") == resuming._SHOWN


def test_items_that_no_job_came_to_are_named_and_stop_what_follows():
    told = [("a", {"error": "", "hint": ""}), ("d", {"error": "unasked", "hint": ""})]
    failures = outcome_failures(dict.fromkeys("abc"), told, lambda row: None, Shard())
    assert [failure.item for failure in failures] == ["b", "c"]
    with pytest.raises(Unreached, match=r"no job has come to 2 models: b, c\. Run that job"):
        check_failures(failures_frame(failures), 1, False, "models")
    assert outcome_failures(dict.fromkeys("abc"), told, lambda row: None, Shard(count=2)) == []


def test_an_outcome_made_from_other_files_than_the_present_ones_is_none():
    def present(row: str) -> str | None:
        if row == "gone":
            raise OSError(row)
        return None if row == "elsewhere" else row

    rows = {"same": "1", "changed": "2", "old": "3", "failed": "3", "lost": "gone", "hub": "elsewhere", "twice": "4"}
    made = {"same": "1", "changed": "1", "old": None, "lost": "1", "hub": "1"}
    told = [(name, {"error": "", "hint": "", "made_from": of}) for name, of in made.items()]
    told += [("twice", {"error": "", "hint": "", "made_from": of}) for of in "34"]
    told += [("failed", {"error": "broken", "hint": "mend"})]
    failures = outcome_failures(rows, told, present, Shard())
    assert [failure.item for failure in failures] == ["failed", "changed", "old"]
    assert failures[0] == Failure("failed", "broken", "mend")


def test_what_was_made_kept_and_failed_is_counted(caplog):
    caplog.set_level("INFO")
    work = Work()
    work.run()
    assert caplog.messages[-1] == "working: 2 made, 0 kept, 1 failed"
    work.run()
    assert caplog.messages[-1] == "working: 0 made, 2 kept, 1 failed"


def test_notes_are_rows_up_to_a_number():
    notes = [[f"skipped {i}", "remove"] for i in range(30)]
    few = outcome_failures({"d": ""}, [("d", {"error": "", "hint": "", "notes": notes[:20]})], str, Shard())
    assert [failure.error for failure in few[:20]] == [error for error, _ in notes[:20]]
    assert not any("more" in failure.error for failure in few)
    told = [("d", {"error": "broken", "hint": "mend", "notes": notes})]
    rows = outcome_failures({"d": ""}, told, str, Shard())
    assert len(rows) == 1 + 20 + 1
    assert rows[1] == Failure("d", "skipped 0", "remove")
    assert "10 more" in rows[-1].error
