"""``report.html``: a whole run on one page.

Everything on it comes from the files of the run folder and from ``Run``, so a report is the same
whether a run writes it at its end or ``msft report`` writes it later. A part that cannot be had any
more, such as images that were moved, is left out, and the page says so.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from msft_core.errors import first_line
from msft_core.files import json_value
from msft_core.pages import charts
from msft_core.pages.classes import class_section, probability_section
from msft_core.pages.drawing import most_telling
from msft_core.pages.rendering import write_page
from msft_core.pages.texts import counted, duration, number, percent
from msft_core.pages.thumbnails import data_uri, overlay
from msft_core.runs.intervals import accuracy_interval
from msft_core.runs.measures import measure
from msft_core.runs.opening import read_facts
from msft_core.types import EpochRecord, Predictions, Run

_MISTAKES, _DOUBTS, _BATCH = 12, 6, 14
"""Numbers of pictures."""

_LISTED = 100
"""Most rows of a table of files."""


@dataclass(frozen=True)
class Facts:
    """What the files of a run folder say. A file that is missing or damaged is empty here."""

    environment: Mapping[str, Any]
    skipped: Sequence[Mapping[str, Any]]
    config: str

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Read ``environment.json``, ``skipped.jsonl`` and ``config.toml``."""

        def text(name: str) -> str:
            try:
                return (folder / name).read_text(encoding="utf-8", errors="surrogateescape")
            except OSError:
                return ""

        try:
            skipped = [json_value(line) for line in text("skipped.jsonl").splitlines()]
        except ValueError:
            skipped = []
        return cls(read_facts(folder), skipped, text("config.toml"))

    def of(self, *keys: str, default: Any = None) -> Any:
        """A value inside ``environment.json``."""
        value: Any = self.environment
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return default if value is None else value


def write_report(run: Run, path: Path) -> Path:
    """Write the report of a run that has at least one finished epoch. See ``Pages.report``."""
    facts = Facts.read(run.folder)
    # As metrics.jsonl has them, so that a report written late says the same.
    history = [
        replace(r, seconds=round(r.seconds, 3), step_ms=round(r.step_ms, 3)) for r in run.history
    ]
    predictions, why_none = _predictions(run, facts)
    content: dict[str, Any] = {
        "heading": _heading(run, facts),
        "subtitle": facts.of("dataset", "description", default=""),
        "started": _moment(facts.of("started", default="")),
        "outcome": _outcome(run, facts, predictions, why_none),
        "failure": facts.of("reason", default="") if facts.of("status") == "failed" else "",
        "highlights": _highlights(run, facts),
        "warnings": [str(line) for line in facts.of("warnings", default=())],
        "curves": charts.curves(history, run.best),
        "epochs": _epochs(history),
        "predictions": predictions is not None,
        "trained": _trained(run, facts),
        "data": _data(run, facts),
        "batch": _batch(run),
        "again": _again(run, facts),
        "machine": _machine(history, facts),
    }
    sections = [("curves", "Training curves")]
    if predictions is not None:
        content["telling"] = _telling(run, predictions)
        measures = measure(predictions)
        content |= class_section(measures)
        content["probabilities"] = probability_section(measures)
        sections += [("mistakes", "Mistakes and doubts"), ("classes", "Classes")]
        if content["probabilities"]["charts"]:
            sections.append(("probabilities", "Probabilities"))
    sections += [
        ("trained", "What was trained"),
        ("data", "Data"),
        ("again", "Configuration"),
        ("machine", "Machine and versions"),
    ]
    return write_page(path, "report.html.j2", {**content, "sections": sections})


T = TypeVar("T")


def _or_why(get: Callable[[], T]) -> tuple[T | None, str]:
    """A value, or in a line why it cannot be had: a report leaves out what it has not."""
    try:
        return get(), ""
    except Exception as error:
        return None, first_line(error)


def _predictions(run: Run, facts: Facts) -> tuple[Predictions | None, str]:
    """Those of the best checkpoint, else of the last weights unless these may be at fault."""
    if run.best is None and facts.of("status") in ("failed", "interrupted"):
        return None, "the run ended before there was a best checkpoint"
    return _or_why(lambda: run.predictions("val"))


def _heading(run: Run, facts: Facts) -> str:
    config = run.config
    data = config.dataset.name
    if data == "folder":
        data = Path(str(getattr(config.dataset.settings, "data_dir", "") or data)).name or data
    return f"{data}, {config.backbone.name}, {config.strategy.name}"


def _outcome(
    run: Run, facts: Facts, predictions: Predictions | None, why_none: str
) -> dict[str, Any]:
    status, reason = facts.of("status", default=""), facts.of("reason", default="")
    ended = {
        "interrupted": "The run was interrupted.",
        "stopped": f"The run stopped early: {reason}.",
    }.get(status, "")
    if predictions is None:
        sentence = f"This report has no predictions: {why_none}."
        return {"value": "", "of": "", "sentence": " ".join([sentence, ended]), "meaning": []}
    total = len(predictions.labels)
    right = int((predictions.predicted == predictions.labels).sum())
    low, high = accuracy_interval(predictions.predicted == predictions.labels)
    best, last = run.best, run.history[-1].epoch
    by = f"epoch {best.epoch} of {last}, the best by {best.metric}" if best else f"epoch {last}"
    sentence = (
        f"The network of {by}, classifies {number(right)} of {counted(total, 'validation image')} "
        f"correctly: {percent(right / total)}, with a 95 % interval from {percent(low)} to "
        f"{percent(high)}."
    )
    if not best:
        sentence = sentence.replace(", classifies", " classifies")
    majority = np.bincount(predictions.labels, minlength=len(predictions.classes))
    frequent = predictions.classes[int(majority.argmax())]
    meaning = [
        f"The interval shows how much chance decides with {counted(total, 'image')}: one more "
        f"mistake changes the accuracy by {100 / total:.2g} points. Always answering “{frequent}” "
        f"would be right for {percent(majority.max() / total)}."
    ]
    if best:
        meaning.append(
            "The best epoch was chosen on these same images, so expect slightly less on new ones."
        )
    if ended:
        meaning.append(ended)
    return {
        "value": percent(right / total),
        "of": f"validation accuracy, {number(right)} of {number(total)}",
        "sentence": sentence,
        "meaning": meaning,
    }


def _highlights(run: Run, facts: Facts) -> list[tuple[str, str]]:
    best = run.best
    data = facts.of("dataset", default={})
    seconds = facts.of("seconds")
    pairs = [("Best epoch", f"{best.epoch} of {run.history[-1].epoch}" if best else "none chosen")]
    if best and best.metric != "accuracy":
        pairs.append((f"Best {best.metric}", f"{best.value:.4g}"))
    if "train" in data:
        pairs.append(
            ("Images", f"{number(data['train'])} training, {number(data['val'])} validation")
        )
    pairs.append(("Weights", str(facts.of("backbone", "weights", default="unknown"))))
    stages = facts.of("stages", default=[])
    if stages:
        trained, total = (sum(s[key] for s in stages) for key in ("trained", "parameters"))
        pairs.append(("Parameters trained", f"{number(trained)} of {number(total)}"))
    if seconds is not None:
        pairs.append(("Time", duration(seconds)))
    return pairs


def _epochs(history: Sequence[EpochRecord]) -> dict[str, Any]:
    metrics = dict.fromkeys(name for record in history for name in record.val)
    extra = dict.fromkeys(name for record in history for name in record.extra)

    def row(record: EpochRecord) -> list[str]:
        return [
            str(record.epoch),
            _figure(record.train, "loss"),
            *(_figure(record.val, name) for name in metrics),
            *(_figure(record.extra, name) for name in extra),
            f"{record.learning_rate:.3g}",
            f"{record.seconds:.2f}",
            f"{record.step_ms:.1f}",
        ]

    heads = ["epoch", "training loss", *(f"validation {name}" for name in metrics), *extra]
    heads += ["learning rate", "seconds", "ms per step"]
    return {"columns": heads, "rows": [row(record) for record in history]}


def _figure(values: Mapping[str, float], name: str) -> str:
    value = values.get(name, math.nan)
    return f"{value:.5g}" if math.isfinite(value) else "–"


def _telling(run: Run, predictions: Predictions) -> dict[str, Any]:
    """The surest mistakes and the least sure hits, with pictures where there are any."""
    order = most_telling(predictions)
    wrong = int((predictions.predicted != predictions.labels).sum())
    chosen = [*order[: min(wrong, _MISTAKES)], *order[wrong : wrong + _DOUBTS]]
    pixels, notes = _still_there(run, [predictions.ids[index] for index in chosen])
    there = list(pixels)
    heat, why_no_heat = _or_why(lambda: run.explain("val", there)) if there else (None, "")
    if there and heat is None:
        notes.append(f"Grad-CAM cannot be shown: {why_no_heat}")
    heat_of = {} if heat is None else dict(zip(there, heat, strict=True))

    def shown(indices: Sequence[int]) -> list[dict[str, Any]]:
        named = ((index, predictions.ids[index]) for index in indices)
        return [
            _picture(predictions, index, pixels.get(name), heat_of.get(name))
            for index, name in named
            if name in pixels or not pixels
        ]

    mistakes = min(wrong, _MISTAKES)
    lead = "There are no mistakes." if not wrong else f"{counted(wrong, 'mistake')} in all."
    if heat is not None:
        lead += (
            " Beside each picture, Grad-CAM shows in warm colours the places that speak for the "
            "predicted class."
        )
    surest = f"The {mistakes} surest of {number(wrong)} mistakes"
    parts: dict[str, Any] = {
        "lead": lead,
        "note": " ".join(notes),
        "heat": heat is not None,
        "mistakes_title": surest if wrong > mistakes else "Mistakes, the surest first",
        "doubts_title": "Right, but least sure",
        "mistakes": shown(chosen[:mistakes]) if pixels else [],
        "doubts": shown(chosen[mistakes:]) if pixels else [],
        "listed": None,
    }
    if not pixels and wrong:
        parts["listed"] = {
            "columns": ("file", "predicted", "probability", "true"),
            "rows": [
                (s["id"], s["predicted"], s["probability"], s["truth"])
                for s in shown(chosen[:mistakes])
            ],
        }
    return parts


def _still_there(run: Run, ids: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The images that can be shown, uint8 (size, size, 3), and lines about the others.

    In a report that is written late, images may be gone, or have another content than the one that
    was judged.
    """
    pixels, why = _or_why(lambda: run.read_images("val", ids).pixels)
    notes: list[str] = []
    if pixels is not None:
        found: dict[str, Any] = dict(zip(ids, pixels, strict=True))
    else:
        found, reasons = {}, {}
        for name in ids:
            one, reason = _or_why(partial(_one_image, run, name))
            if one is None:
                reasons[name] = reason
            else:
                found[name] = one
        if not found:
            return {}, [f"The pictures cannot be shown: {why}"]
        first, reason = next(iter(reasons.items()))
        notes.append(f"Not shown: {_some(list(reasons))} ({first}: {reason}).")
    changed_of = getattr(run, "changed", None)  # of a finished run
    there = list(found)
    changed, _ = _or_why(lambda: changed_of("val", there)) if changed_of else ([], "")
    for name in changed or ():
        del found[name]
    if changed:
        notes.append(f"Not shown, because their content has changed since: {_some(changed)}.")
    return found, notes


def _one_image(run: Run, name: str) -> Any:
    return run.read_images("val", [name]).pixels[0]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _picture(predictions: Predictions, index: int, pixels: Any, heat: Any) -> dict[str, Any]:
    guess, truth = int(predictions.predicted[index]), int(predictions.labels[index])
    predicted, name = predictions.classes[guess], predictions.ids[index]
    return {
        "image": "" if pixels is None else data_uri(pixels),
        "heat": "" if heat is None else data_uri(overlay(pixels, heat)),
        "alt": f"Validation image {name}",
        "predicted": predicted,
        "probability": percent(float(predictions.probabilities[index, guess])),
        "right": guess == truth,
        "truth": "" if guess == truth else predictions.classes[truth],
        "file": name.rpartition("/")[2],
        "id": name,
    }


def _batch(run: Run) -> dict[str, Any]:
    batch, why = _or_why(lambda: run.images("train", _BATCH))
    if batch is None:
        return {"shown": [], "note": f"Training images cannot be shown: {why}"}
    classes = run.splits.classes
    shown = [
        {
            "image": data_uri(pixels),
            "heat": "",
            "alt": f"Training image {name}",
            "predicted": "",
            "truth": classes[int(label)],
            "file": "",
            "id": name,
        }
        for pixels, label, name in zip(batch.pixels, batch.labels, batch.ids, strict=True)
    ]
    return {"shown": shown, "note": ""}


def _trained(run: Run, facts: Facts) -> dict[str, Any]:
    stages = facts.of("stages", default=[])
    strategy, rates = run.config.strategy.name, charts.learning_rates(run.history)
    if not stages:
        lead = f"Strategy {strategy}. The run folder does not say more."
        return {"lead": lead, "rows": [], "rates": rates}

    def state(stage: Mapping[str, Any]) -> str:
        if not stage["parameters"]:
            return "no parameters"
        if not stage["trained"]:
            return "frozen"
        share = "" if stage["trained"] == stage["parameters"] else " in part"
        since = stage["from_epoch"]
        return f"trained{share}" + (f" from epoch {since}" if since != 1 else "")

    rows = [(s["name"], number(s["parameters"]), number(s["trained"]), state(s)) for s in stages]
    trained, total = (sum(s[key] for s in stages) for key in ("trained", "parameters"))
    lead = (
        f"Strategy {strategy} trained {number(trained)} of {number(total)} parameters "
        f"({percent(trained / max(total, 1))}); the others kept their values. Stages are in the "
        "order in which an image passes them."
    )
    columns = ("stage", "parameters", "trained", "state")
    return {"lead": lead, "columns": columns, "rows": rows, "rates": rates}


def _data(run: Run, facts: Facts) -> dict[str, Any]:
    data = facts.of("dataset", default={})
    classes, counts = data.get("classes", []), data.get("counts", {})
    rows = [
        (name, number(train), number(val))
        for name, train, val in zip(
            classes, counts.get("train", []), counts.get("val", []), strict=False
        )
    ]
    lines = []
    if "train" in data:
        many = f" in {len(classes)} classes" if classes else ""
        train = counted(data["train"], "training image")
        lines.append(f"{train} and {counted(data['val'], 'validation image')}{many}.")
    twins, skipped = data.get("twins", []), facts.skipped
    near = data.get("near_duplicates", [])
    if not skipped:
        lines.append("No file was skipped.")
    if "twins" in data:
        lines.append(
            f"{counted(len(twins), 'validation image')} "
            f"{'is also a training image' if len(twins) == 1 else 'are also training images'}, "
            "so the accuracy looks better than it is."
            if twins
            else "No image is in both splits."
        )
    if near:
        lines.append(
            f"{counted(len(near), 'validation image')} {'looks' if len(near) == 1 else 'look'} "
            "like a training image; copies of training images make the accuracy look better than "
            "it is."
        )
    return {
        "lines": lines,
        "columns": ("class", "training images", "validation images"),
        "rows": rows,
        "skipped": [
            (str(one.get("id", "")), str(one.get("split", "")), str(one.get("reason", "")))
            for one in skipped[:_LISTED]
        ],
        "more_skipped": _more(skipped, "skipped.jsonl"),
        "twins": [(str(of_val), str(of_train)) for of_train, of_val in twins[:_LISTED]],
        "more_twins": _more(twins, "environment.json"),
        "near": [(str(of_val), str(of_train)) for of_train, of_val in near[:_LISTED]],
        "more_near": _more(near, "environment.json"),
    }


def _more(rows: Sequence[Any], file: str) -> str:
    more = len(rows) - _LISTED
    return f"And {number(more)} more; {file} lists all." if more > 0 else ""


def _again(run: Run, facts: Facts) -> dict[str, Any]:
    config = run.folder.resolve() / "config.toml"
    given = facts.of("objects", default=[])
    lines = []
    if given:
        lines.append(
            "The run was started from Python with plugins that no file names: "
            f"{', '.join(map(str, given))}. Give them to run(plugins=[...]) again."
        )
    command = f"msft run --config {shlex.quote(str(config))}" if facts.config else ""
    return {"command": command, "lines": lines, "config": facts.config.strip()}


def _machine(history: Sequence[EpochRecord], facts: Facts) -> dict[str, Any]:
    epochs = [record.seconds for record in history]
    times = [("Started", _moment(facts.of("started", default="unknown")))]
    if facts.of("seconds") is not None:
        times.append(("Whole run", duration(facts.of("seconds"))))
    times.append(("First epoch", duration(epochs[0])))
    if len(epochs) > 1:
        times.append(("Later epochs, median", duration(float(np.median(epochs[1:])))))
    times.append(
        ("Training step, median", f"{np.median([record.step_ms for record in history]):.1f} ms")
    )
    engine = facts.of("features", default="")
    device = [
        ("Device", str(facts.of("device", default="unknown"))),
        ("Mode", str(facts.of("mode", default="unknown"))),
        ("Engine of the frozen stages", str(engine) or "none"),
        ("Seed", str(facts.of("seed", default="unknown"))),
        ("Platform", str(facts.of("platform", default="unknown"))),
    ]
    versions = [(key, str(value)) for key, value in facts.of("versions", default={}).items()]
    plugins = [(key, str(value)) for key, value in facts.of("plugins", default={}).items()]
    return {"times": times, "device": device, "versions": versions, "plugins": plugins}


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return text
