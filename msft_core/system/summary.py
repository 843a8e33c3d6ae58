"""The table at the end of a run on a terminal, with paths that one can click."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from rich.style import Style
from rich.text import Text

from msft_core.system.display import Outcome

_COLUMN = 17


def summary(outcome: Outcome) -> Iterator[Text]:
    """The lines of the table. None is to be broken: a path is copied as a whole."""
    report = outcome.report
    folder = report.folder
    run = shlex.quote(_shown(folder))
    yield Text("")
    yield Text("Training is done." if not report.reason else f"Stopped: {report.reason}.", "bold")
    metric = report.best.metric if report.best else "metric"
    yield _row(f"best {metric}", Text(outcome.best_metric, "bold green" if report.best else ""))
    yield _row("time", Text(_duration(outcome.seconds)))
    images = f"{outcome.training} training, {outcome.validation} validation"
    yield _row("images", Text(f"{images}, in {outcome.classes} classes"))
    yield _row("engine", Text(outcome.engine))
    yield _row("checkpoint", _link(outcome.checkpoint))
    if (folder / "report.html").is_file():
        yield _row("report", _link(folder / "report.html"))
    for number, picture in enumerate(sorted(folder.glob("*.png"))):
        yield _row("" if number else "pictures", _link(picture))
    yield _row("run folder", _link(folder))
    log = _link(folder / "log.txt")
    if outcome.warnings:
        count = "1 warning" if outcome.warnings == 1 else f"{outcome.warnings} warnings"
        log.append(f" ({count})", "yellow")
    yield _row("log", log)
    yield _row("next", Text(f"msft predict {run} IMAGE"))
    yield _row("", Text(f"msft evaluate {run}"))


def _row(name: str, value: Text) -> Text:
    return Text.assemble("  ", (name.ljust(_COLUMN), "dim"), value)


def _link(path: Path) -> Text:
    """The path as text, which terminals that know OSC 8 open on a click."""
    return Text().append(_shown(path), Style(link=path.absolute().as_uri()))


def _shown(path: Path) -> str:
    """The path, in short where it lies below the working directory."""
    text = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
