"""The child's side of ``turns``: does a task when it is told to, and answers how long it took.

Runs under the peers' interpreter too: standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any


class Channel:
    """A line in, a line of JSON out. Make it first of all: other output then goes elsewhere."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w")
        # What libraries print to standard output must not stand between the answers.
        os.dup2(2, 1)

    def serve(
        self, tasks: Mapping[str, Callable[[], object]], missing: Mapping[str, str] | None = None
    ) -> None:
        """Do one task for each line of standard input that names it, until its end.

        Args:
            tasks: by name; only the call itself is timed.
            missing: tasks that can't be done, with the reason.
        """
        self._say({"missing": dict(missing or {})})
        for line in sys.stdin:
            task = tasks[line.strip()]
            started = time.perf_counter()
            task()
            self._say({"seconds": time.perf_counter() - started})

    def _say(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)
