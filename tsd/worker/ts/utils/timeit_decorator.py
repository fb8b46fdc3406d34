"""How long a call takes, printed."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

logger = logging.getLogger(__name__)


def timeit(func: Function) -> Function:
    """Decorate a function: each call logs its seconds on the clock and on the processor."""

    @functools.wraps(func)
    def measured(*args: Any, **kwargs: Any) -> Any:
        begin, begin_cpu = time.perf_counter(), time.process_time()
        result = func(*args, **kwargs)
        elapsed, elapsed_cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
        logger.info("%s took %.4f s, %.4f s of CPU", func.__name__, elapsed, elapsed_cpu)
        return result

    return measured  # type: ignore[return-value]
