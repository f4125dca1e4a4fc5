"""Long work on many items that can be killed at any moment: what is done isn't repeated, what fails stops no other.

The steps ``model_extraction``, ``dataset_features``, ``ground_truth`` and ``hardware_profiling`` are all made alike:

1. A job works on its items one by one (:func:`work_on`). What becomes of one is its *outcome*, a dictionary with
   ``error`` and ``hint`` (those of its failure, empty after success), ``made_from`` (a hash of all that its results
   depend on, as far as it can be told without reading much), ``results`` (the keys of those that are kept beside it),
   ``notes`` (pairs of an error and a hint, on what was left out) and what else the step tells of it. Results and
   outcomes are saved as they come.
2. Once all jobs have ended, their outcomes are joined to the table of failures (:func:`outcome_failures`), to which
   items belong that no job has come to.
3. :func:`~thesis_rec.base.errors.check_failures` stops the run where that table asks for it.

Outcomes of older versions, which lack something, or that can't be read, are those of items that aren't done.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from thesis_rec.base.errors import UNREACHED, ConfigurationError, Failure
from thesis_rec.base.progress import track
from thesis_rec.base.settings import Shard

logger = logging.getLogger(__name__)

Row = TypeVar("Row")
Outcome = dict[str, Any]
Results = dict[str, Any]


class Stored(Protocol):
    """An outcome or a result of an earlier run."""

    def __call__(self, *names: str) -> Any:
        """All of it, or the arrays of these names."""

    def changed(self) -> int:
        """When it was last written or put in its place."""


#: What to do about an error that no code of this project explains.
UNEXPECTED = "Check its files and its row in the manifest; the log at level DEBUG says more."
#: Failures that are logged: without network a whole zoo fails alike, and the table has them all.
_SHOWN = 10
#: Rows of the failures table that the notes on one item may take.
MAX_NOTES = 20


def work_on(
    items: Mapping[str, Row],
    what: str,
    made_from: Callable[[Row], str],
    make: Callable[[Row, Outcome], Iterable[Results]],
    outcomes: Mapping[str, Stored],
    existing: Mapping[str, Stored] = MappingProxyType({}),
) -> Iterator[tuple[Results, dict[str, Outcome]]]:
    """Make the results of all items that lack them; an item that fails stops no other.

    Args:
        items: Rows by the key of their outcome.
        what: What is done, for the log.
        made_from: What tells, without much work, that the results of a row would be the same as before.
        make: Gives the results of a row, as they are to be saved, and adds to its outcome what the step tells of it.
        outcomes: Those of earlier runs. An item is passed over whose outcome says that it succeeded and was made from
            the same, and whose results are there.
        existing: Results of earlier runs. Those that were changed after their outcome aren't the ones that it tells of.

    Yields:
        Results and outcomes by their keys: both are to be saved at once. Nothing for an item that was passed over.

    Raises:
        ConfigurationError: What ``make`` raises of this kind is the fault of no single item.
    """

    def is_done(name: str, now: str) -> bool:
        if name not in outcomes:
            return False
        try:
            before = outcomes[name]()
            same = not before["error"] and before["made_from"] == now
            return same and all(existing[key].changed() <= outcomes[name].changed() for key in before["results"])
        except Exception as error:
            # Whatever is wrong with what an earlier run left, the remedy is to make it again.
            logger.info("%s: what an earlier run left is incomplete (%s) and is made again", name, error)
            return False

    kept = failed = 0
    for name, row in track(items.items(), what):
        try:
            # Before the work: what changes while files are read is read again by the next run.
            now = made_from(row)
            if is_done(name, now):
                kept += 1
                continue
            outcome: Outcome = {"error": "", "hint": "", "made_from": now, "results": []}
            for results in make(row, outcome):
                yield results, {}
        except ConfigurationError:
            raise
        except Exception as error:  # libraries raise anything at all for bad files
            failure = Failure.of(name, error, UNEXPECTED)
            level = logging.WARNING if failed < _SHOWN else logging.DEBUG
            logger.log(level, "%s: %s %s", name, failure.error, failure.hint)
            logger.debug("", exc_info=True)
            outcome = asdict(failure)
            failed += 1
        yield {}, {name: outcome}
    logger.info("%s: %d made, %d kept, %d failed", what, len(items) - kept - failed, kept, failed)


def outcome_failures(
    asked: Mapping[str, Row], told: Iterable[tuple[str, Outcome]], made_from: Callable[[Row], str | None], shard: Shard
) -> list[Failure]:
    """Rows of the failures table: what failed, what was left out, and what no job has come to.

    Args:
        asked: Rows of the items that count.
        told: Items, and what jobs and earlier runs have told of them; of one item there may be several outcomes.
        made_from: What an outcome would be made from now; None, or any error, where that can't be told: what was made
            of files that are gone counts.
        shard: One job of several doesn't look for what the others do.
    """

    def is_of_now(row: Row, outcome: Outcome) -> bool:
        with suppress(Exception):  # as any loader may raise
            return made_from(row) in (None, outcome.get("made_from"))
        return True

    failures, reached = list[Failure](), set[str]()
    for name, outcome in told:
        if name not in asked:
            continue
        if outcome["error"]:
            failures.append(Failure(name, outcome["error"], outcome["hint"]))
        notes = outcome.get("notes", ())
        failures += [Failure(name, error, hint) for error, hint in notes[:MAX_NOTES]]
        if (more := len(notes) - MAX_NOTES) > 0:
            failures.append(Failure(name, f"{more} more images or classes were skipped.", "See the rows above."))
        if shard.count == 1 and (outcome["error"] or is_of_now(asked[name], outcome)):
            reached.add(name)
    hint = "Run that job, or the whole pipeline, again: what is done isn't repeated."
    absent = [name for name in asked if name not in reached] if shard.count == 1 else []
    return failures + [Failure(name, UNREACHED, hint) for name in absent]
