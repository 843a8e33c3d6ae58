"""Compare finished runs: configuration, curves, times, and accuracy on the same pictures."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msft_core.config import flat
from msft_core.errors import UsageError
from msft_core.pages.compared import p_text
from msft_core.runs.comparison import (
    SIGNIFICANCE,
    Comparison,
    Pair,
    Score,
    compare_hits,
    right_on,
)
from msft_core.runs.record import RunRecord, named_apart, read_record
from msft_core.types import Predictions

FACTS = ("device", "mode", "sink", "platform", "features", "versions", "dataset", "backbone")
"""Parts of ``environment.json`` that may explain a difference."""

_LONG = ("classes", "counts", "twins", "near_duplicates")
"""Parts of ``dataset`` that are lists."""


def compare(runs: Sequence[str | Path]) -> Comparison:
    """Compare runs that classify the same pictures. It needs neither MindSpore nor plugins.

    Args:
        runs: two or more run folders. Their files are read: ``config.toml``, ``metrics.jsonl``,
            ``classes.json``, ``environment.json`` and ``predictions.csv``.

    Raises:
        UsageError: fewer than two runs, a run given twice, a path that is no run folder, a damaged
            file, other classes, other true classes, or no picture that all runs have predicted.
    """
    folders = [Path(run).expanduser() for run in runs]
    if len(folders) < 2:
        raise UsageError("give two or more run folders to compare.")
    read = [read_record(folder) for folder in folders]
    seen: dict[Path, Path] = {}
    for folder in folders:
        before = seen.setdefault(folder.resolve(), folder)
        if before is not folder:
            same = f"{folder}" if str(before) == str(folder) else f"{before} and {folder}"
            raise UsageError(f"one run is given twice: {same}.")
    records = named_apart(read)
    _require_same_classes(records)
    predicted = {one.name: one.predictions for one in records if one.predictions is not None}
    ids = _common(predicted)
    right = {name: right_on(predictions, ids) for name, predictions in predicted.items()}
    scores, pairs = compare_hits(right)
    return Comparison(
        runs=tuple(records),
        scores=scores,
        pairs=pairs,
        differences=_differences(records),
        notes=tuple(_notes(records, predicted, len(ids), len(pairs))),
        outcome=_outcome(scores, pairs),
    )


def write_page(comparison: Comparison, path: str | Path) -> Path:
    """Write a comparison as an HTML page that needs no other file.

    Raises:
        UsageError: there is a file that ``msft compare`` did not write.
        OutputError: the file cannot be written.
    """
    from msft_core.pages.comparing import is_comparison, write_comparison

    path = Path(path).expanduser()
    try:
        free = not path.exists() or (path.is_file() and is_comparison(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not free:
        raise UsageError(
            f"{path} is there already and is no page of msft compare: choose another file."
        )
    return write_comparison(comparison, path)


def _require_same_classes(records: Sequence[RunRecord]) -> None:
    first = records[0]
    for other in records[1:]:
        if set(other.classes) != set(first.classes):
            raise UsageError(
                f"{first.name} and {other.name} have other classes: {_some(first.classes)}; "
                f"{_some(other.classes)}. Runs are compared on the same classes."
            )
    for record in records:
        predictions = record.predictions
        if predictions is not None and set(predictions.classes) != set(record.classes):
            raise UsageError(
                f"{record.folder}: predictions.csv has the classes {_some(predictions.classes)}, "
                f"classes.json {_some(record.classes)}. One of the files is of another run."
            )


def _common(predicted: Mapping[str, Predictions]) -> list[str]:
    """Ids of the pictures that all runs have, in the order of the first.

    Raises:
        UsageError: there is none, or the true class of one differs.
    """
    if not predicted:
        return []
    (first, reference), *others = predicted.items()
    truth = _truth(reference)
    common = dict(truth)
    for name, predictions in others:
        found = _truth(predictions)
        common = {one: true for one, true in common.items() if one in found}
        if not common:
            all_of_them = f"{first} and {name}" if len(others) == 1 else f"the runs up to {name}"
            raise UsageError(
                f"{all_of_them} have no validation picture in common, so their accuracies cannot "
                f"be compared: {first} has {reference.ids[0]}, {name} has {predictions.ids[0]}."
            )
        for one, true in common.items():
            if found[one] != true:
                raise UsageError(
                    f"the picture {one} is {true} in {first} and {found[one]} in {name}: the runs "
                    "were judged on other labels."
                )
    return list(common)


def _truth(predictions: Predictions) -> dict[str, str]:
    labels = (predictions.classes[label] for label in predictions.labels.tolist())
    return dict(zip(predictions.ids, labels, strict=True))


def _differences(records: Sequence[RunRecord]) -> dict[str, tuple[Any, ...]]:
    """Settings and facts that are not the same in all runs."""
    facts = [
        {
            **flat(one.config),
            **_facts(one.environment),
        }
        for one in records
    ]
    keys = sorted(dict.fromkeys(itertools.chain.from_iterable(facts)), key=_place)
    rows = {key: tuple(one.get(key) for one in facts) for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row[1:])}


def _facts(environment: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in environment.items() if key in FACTS}
    if isinstance(dataset := kept.get("dataset"), Mapping):
        kept["dataset"] = {key: value for key, value in dataset.items() if key not in _LONG}
    return flat(kept, "environment.")


def _place(key: str) -> int:
    """What was asked for comes first: the order of the sections is that of config.toml."""
    sections = ("dataset", "backbone", "strategy", "training", "data", "runtime", "cache")
    name = key.partition(".")[0]
    return sections.index(name) if name in sections else len(sections) + (name == "environment")


def _notes(
    records: Sequence[RunRecord],
    predicted: Mapping[str, Predictions],
    common: int,
    pairs: int,
) -> list[str]:
    """What a reader has to know before they believe the figures."""
    notes = [note for record in records for note in _notes_of(record)]
    left_out = {name: len(p.ids) - common for name, p in predicted.items() if len(p.ids) > common}
    if left_out:
        of_each = ", ".join(f"{count} of {name}" for name, count in left_out.items())
        notes.append(
            f"Only the {common} pictures that all runs have predicted count; left out: {of_each}."
        )
    if len({_pictures_of(record) for record in records}) > 1 and predicted:
        notes.append(
            "The runs have other settings of the dataset. Pictures are matched by file name: make "
            "sure that a name means the same picture in each run."
        )
    if any(record.config.get("data", {}).get("augment_validation") for record in records):
        notes.append(
            "A run with data.augment_validation was judged on randomly augmented pictures."
        )
    if scored := bool(pairs):
        notes.append(
            "Each run's best epoch was chosen on these same pictures, so the accuracies are "
            "somewhat too high; pictures that no run has seen would tell more."
        )
    if pairs > 1:
        notes.append(
            f"{pairs} pairs are tested, so a p below {SIGNIFICANCE} / {pairs} = "
            f"{SIGNIFICANCE / pairs:.4f} counts as evidence."
        )
    if scored:
        notes.append(
            "Intervals and tests cover the choice of pictures, not that of the seed: train with "
            "several seeds before you rely on a small difference."
        )
    return notes


def _notes_of(record: RunRecord) -> list[str]:
    of_all = f"{record.trained} of {record.epochs} epochs"
    reason = str(record.environment.get("reason", "")).rstrip(".")
    ended = {
        "": f"has {of_all}: it is still running, was killed, or an msft before 0.4 trained it",
        "failed": f"failed after {of_all} ({reason})",
        "interrupted": f"was interrupted after {of_all}",
        "stopped": f"stopped after {of_all} ({reason})",
    }.get(record.status)
    predictions, best = record.predictions, record.best
    if predictions is None:
        lacks = f"{record.name} has no predictions.csv, so its accuracy is not compared. "
        if ended is None:
            ended = "chose no best checkpoint" if best is None else "has lost it since"
        return [f"{lacks}It {ended}."]
    notes = [f"{record.name} {ended}."] if ended else []
    accuracy = float((predictions.predicted == predictions.labels).mean())
    if best and best.metric == "accuracy" and abs(best.value - accuracy) > 1e-6:
        notes.append(
            f"{record.name}: accuracy is {best.value:.4f} in environment.json (epoch {best.epoch}) "
            f"but {accuracy:.4f} in predictions.csv. The latter counts here."
        )
    return notes


def _pictures_of(record: RunRecord) -> str:
    return str(sorted(flat(record.config.get("dataset", {})).items()))


def _some(classes: Sequence[str]) -> str:
    return ", ".join(classes[:5]) + (f", ... ({len(classes)})" if len(classes) > 5 else "")


def _outcome(scores: Mapping[str, Score], pairs: Sequence[Pair]) -> str:
    """What came of it, for everybody, and no more than the test says."""
    if not scores:
        return "No run has predictions, so there are no accuracies to compare."
    names = list(scores)
    first = scores[names[0]]
    counts = f"{names[0]} is right on {first.right} of {first.pictures} pictures"
    others = [f"{name} on {scores[name].right}" for name in names[1:]]
    counts += "".join(f", {other}" for other in others[:-1])
    counts += f"{' and' if len(others) > 1 else ','} {others[-1]}. " if others else ". "
    if not pairs:
        return counts + "There is no other run with predictions to compare it with."
    if len(pairs) == 1:
        return counts + _verdict(pairs[0])
    clear = [pair for pair in pairs if pair.p_value < SIGNIFICANCE / len(pairs)]
    if not clear:
        return counts + (
            f"None of the {len(pairs)} differences is evidence that a run is better than another: "
            "each may well be due to chance."
        )
    found = "; ".join(f"{_better(pair)} is better than {_worse(pair)}" for pair in clear)
    text = f"{counts}As trained here, and on pictures like these: {found}."
    if len(clear) < len(pairs):
        text += " The other differences are no evidence."
    return text


def _verdict(pair: Pair) -> str:
    p = p_text(pair.p_value)
    if not pair.only_first + pair.only_second:
        return (
            "They are right on the very same pictures, so these pictures do not tell which is "
            "better."
        )
    if pair.p_value < SIGNIFICANCE:
        return (
            f"Chance alone rarely makes such a difference ({p}): as trained here, and on pictures "
            f"like these, {_better(pair)} is better."
        )
    if pair.only_first == pair.only_second:
        return f"These pictures do not tell which is better ({p})."
    return (
        f"Such a difference may well be due to chance ({p}), so it is no evidence that either is "
        "better."
    )


def _better(pair: Pair) -> str:
    return pair.first if pair.only_first > pair.only_second else pair.second


def _worse(pair: Pair) -> str:
    return pair.second if pair.only_first > pair.only_second else pair.first
