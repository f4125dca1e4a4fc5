"""Progress of long work: a bar on a terminal, plain lines in a log."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")
logger = logging.getLogger(__name__)

_LINE_EVERY_SECONDS = 30.0


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Yield ``items`` and show how far the work is.

    Args:
        items: What is worked on.
        description: Short text for the bar or the log line.
        total: Number of items; taken from ``len(items)`` when it has one.

    Yields:
        The items, unchanged.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=description, total=total, leave=False)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if (now := time.monotonic()) - last > _LINE_EVERY_SECONDS:
            logger.info("%s: %d of %s after %.0f s", description, done, total or "?", now - started)
            last = now
