"""Progress: a bar where a person looks on, a line now and then in a log."""

from __future__ import annotations

import sys
from typing import Iterable, TypeVar

import tqdm

T = TypeVar("T")
_LOG_SECONDS = 15.0  # between two lines where nobody watches


class _Log:
    """A line for each state of a bar, instead of one line written over and over."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def bar(items: Iterable[T] | None = None, *, total: int | None = None, what: str = "", unit: str = "it") -> tqdm.tqdm:
    """tqdm's bar over `items`, on the error stream; call update() yourself when there are none."""
    watched = sys.stderr.isatty()
    return tqdm.tqdm(items, total=total, desc=what, unit=unit, file=sys.stderr if watched else _Log(), dynamic_ncols=watched,
                     mininterval=0.1 if watched else _LOG_SECONDS, maxinterval=_LOG_SECONDS, leave=True)


def say(text: str) -> None:
    tqdm.tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()
