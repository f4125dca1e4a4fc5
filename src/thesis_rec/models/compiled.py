"""Compiled functions whose machine code is kept where that is possible."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

logger = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Numba's ``njit`` that releases the interpreter's lock and caches its result.

    Where neither the package's folder nor the user's cache can be written (a read-only installation), the function is
    compiled anew in every process, which takes some seconds; ``NUMBA_CACHE_DIR`` names another place.
    """
    # Divisions don't look for zeros, of which there are none: less to compile.
    try:
        return cast(Function, njit(nogil=True, cache=True, error_model="numpy")(function))
    except RuntimeError as error:
        # Numba looks for a place when it decorates, and has no error of its own for not finding one.
        logger.info("Compiled code isn't kept (%s); set NUMBA_CACHE_DIR to a folder that can be written", error)
        return cast(Function, njit(nogil=True, error_model="numpy")(function))
