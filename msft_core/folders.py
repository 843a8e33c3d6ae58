"""Class folders on disk: from ``train/CLASS/*`` and ``val/CLASS/*`` to splits. Public.

This module ignores file extensions. The check of images reads the content of the files later.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from hashlib import blake2b
from pathlib import Path

import numpy as np

from msft_core.columns import FilePaths, Numbers, Texts
from msft_core.errors import DataError
from msft_core.images import FileTable
from msft_core.types import DatasetSplits, Reporter

TRAIN_NAMES = ("train",)
VAL_NAMES = ("val", "valid", "validation")
TEST_NAMES = ("test", "testing")
"""Names of split folders, in upper or lower case. No run reads a test folder; `msft evaluate` does
when it is asked to."""

SPLITS = {"train": TRAIN_NAMES, "val": VAL_NAMES, "test": TEST_NAMES}

_LISTED_AT_ONCE = 8

# What file managers, cloud drives and archivers leave between the images.
_LITTER = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"}


def scan_class_folders(root: Path) -> dict[str, list[Path]]:
    """Return the files of each class: all files below the sub-folder of the class.

    Skips hidden files and folders, and files that file managers create. Follows links, also round
    a loop once. Lists a broken link like a file, so that the check of images reports it.

    Returns: class names in order, each with its files in the order of their relative paths; an
    empty list for a class without files.
    Raises: DataError if ``root`` is not a folder or cannot be read.
    """
    require_folder(root)
    return {name: [root / one for one in files] for name, files in _scan(root).items()}


def files_below(root: Path) -> list[Path]:
    """Return all files below a folder, sorted by path, as ``scan_class_folders`` finds them.

    Raises: DataError if ``root`` is not a folder or cannot be read.
    """
    require_folder(root)
    return [root / one for one in sorted(_files(str(root), ""))]


def sub_folders(root: Path) -> list[Path]:
    """Return the sub-folders, sorted by name, without hidden ones. Raises DataError."""
    return [root / name for name in sorted(e.name for e in _entries(root, _is_folder))]


def require_folder(path: Path) -> None:
    """Raise DataError unless ``path`` is a folder. The message suggests similar names."""
    if path.is_dir():
        return
    if path.exists():
        raise DataError(f"{path} is a file, not a folder of images")
    existing = next((parent for parent in path.absolute().parents if parent.is_dir()), None)
    hint = ""
    if existing is not None:
        missing = path.absolute().relative_to(existing).parts[0]
        near = difflib.get_close_matches(missing, [p.name for p in sub_folders(existing)], n=3)
        if near:
            hint = ": did you mean " + " or ".join(str(existing / name) for name in near) + "?"
    raise DataError(f"there is no folder {path}{hint}")


def find_folder(root: Path, names: Sequence[str]) -> Path | None:
    """Return the sub-folder with one of these names, in upper or lower case, or None.

    Raises: DataError if there are several.
    """
    return _find_among(sub_folders(root), root, names)


def _find_among(folders: Sequence[Path], root: Path, names: Sequence[str]) -> Path | None:
    found = [path for path in folders if path.name.lower() in names]
    if len(found) > 1:
        listing = " and ".join(f"{path.name}/" for path in found)
        raise DataError(f"{root} has {listing}: keep only one of them")
    return found[0] if found else None


def find_split_roots(root: Path, depth: int = 3) -> list[Path]:
    """Return ``root`` or the folders up to ``depth`` levels below it that hold train/CLASS/."""
    folders = sub_folders(root)
    train = _find_among(folders, root, TRAIN_NAMES)
    if train is not None and sub_folders(train):
        return [root]
    if depth == 0:
        return []
    return [found for sub in folders for found in find_split_roots(sub, depth - 1)]


def read_splits(
    root: Path | str,
    *,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    description: str = "",
    reporter: Reporter | None = None,
) -> DatasetSplits:
    """Return the train and val images of a folder, with one class list, fixed from train.

    The folder has ``train/CLASS`` and ``val/CLASS`` (or ``valid``, ``validation``), or only
    ``train/CLASS``, or bare ``CLASS`` folders. Without a val folder, part of each class is held out
    for validation. The hash of a file's path decides, so new files move few of the others.

    Args:
        root: the folder.
        val_fraction: fraction of each class that is held out, at least one image.
        split_seed: another seed holds out other images.
        description: a name of the images.
        reporter: for progress; by default there is none.

    Returns: splits whose ids are paths relative to ``root``. Their notes tell the user about
    assumptions.
    Raises: DataError.
    """
    root = Path(root)
    require_folder(root)
    train_root, val_root = _train_folder(root), find_folder(root, VAL_NAMES)
    notes = []
    if train_root is None:
        _require_bare_class_folders(root)
        train_root = root
        notes.append(f"no train folder in {root}: each folder in it is taken as a class")
        notes += _hint_at_sibling(root)
    train = _read_train(train_root, _below(root, train_root), reporter)
    classes = tuple(train)
    if val_root is not None:
        if val_root.name != "val":
            notes.append(f"the validation images are in {val_root.name}/")
        val, val_notes = _read_val(root, val_root, train_root, classes, reporter)
        notes += val_notes
        notes += _note_of_test(root)
    else:
        train, val, held_out_notes = _hold_out(
            train, train_root, len(_below(root, train_root)), val_fraction, split_seed
        )
        notes += held_out_notes
        notes += _note_of_test(root)
    return DatasetSplits(
        classes=classes,
        train=_table(train, classes, root),
        val=_table(val, classes, root),
        description=description or f"images in {root}",
        notes=tuple(notes),
    )


def read_split(
    root: Path | str, split: str, classes: Sequence[str], *, bare: bool = True
) -> tuple[FileTable, Path, tuple[str, ...]]:
    """Return the images of one split of a folder, for a class list that is fixed already.

    Args:
        root: has the split's folder of class folders, such as ``val/CLASS``.
        split: train, val or test.
        classes: class names in label order. The folder may have fewer.
        bare: if the folder has no folder of a split, take bare ``CLASS`` folders: all images.

    Returns: the images, with paths relative to ``root`` as ids; the folder that has the class
    folders; notes for the user.
    Raises: DataError; for a class that is not in ``classes`` its message names both lists.
    """
    root = Path(root)
    require_folder(root)
    of_splits = {
        name: found for name in SPLITS if (found := _split_folder(root, name, classes)) is not None
    }
    notes = []
    chosen = of_splits.get(split)
    if chosen is None:
        if of_splits:
            there = ", ".join(f"{path.name}/ (--split {name})" for name, path in of_splits.items())
            raise DataError(f"{root} has no {split} folder; it has {there}")
        if not bare:
            raise DataError(f"{root} has no {split} folder")
        if nested := find_split_roots(root):
            raise DataError(f"no {split} folder in {root}: did you mean {nested[0]}?")
        chosen = root
        notes.append(f"no {split} folder in {root}: all images of its class folders are taken")
    files = {name: found for name, found in _scan(chosen, _below(root, chosen)).items() if found}
    if not files:
        raise DataError(f"no images in {chosen}: put images in {chosen}/CLASS/")
    unknown = [name for name in files if name not in classes]
    if unknown:
        raise DataError(
            f"{_classes(unknown)} in {chosen} but not in the class list: the folder has "
            f"{listed(list(files))}; the classifier has {listed(classes)}"
        )
    if lacking := [name for name in classes if name not in files]:
        notes.append(f"{chosen} has no image of {_classes(lacking)}")
    return _table(files, classes, root), chosen, tuple(notes)


def _split_folder(root: Path, split: str, classes: Sequence[str]) -> Path | None:
    """The folder of a split, unless a class is called so and the folder has images itself."""
    found = find_folder(root, SPLITS[split])
    if found is not None and found.name in classes and not sub_folders(found):
        return None
    return found


def _note_of_test(root: Path) -> list[str]:
    found = [path.name for path in sub_folders(root) if path.name.lower() in TEST_NAMES]
    return [f"{name}/ is left alone: no run uses its images" for name in found]


def _train_folder(root: Path) -> Path | None:
    """Return the train folder, unless it is a class folder of images of trains."""
    train = find_folder(root, TRAIN_NAMES)
    if train is None or sub_folders(train):
        return train
    others = [folder.name.lower() for folder in sub_folders(root) if folder != train]
    is_class = others and not set(others) & {*VAL_NAMES, *TEST_NAMES}
    return None if is_class else train


def _below(root: Path, folder: Path) -> str:
    """How the id of each image in a folder begins: it is ``root``, or a folder in it."""
    return "" if folder == root else f"{folder.name}/"


def _scan(root: Path, prefix: str = "", reporter: Reporter | None = None) -> dict[str, Texts]:
    """The files of each class, as paths relative to ``root``, sorted, each after a prefix.

    Several class folders are listed at once: a network file system takes its time for each.
    """
    require_folder(root)

    def scan(folder: Path) -> Texts:
        # Only the names of one class are Python strings at a time.
        return Texts.of(sorted(_files(str(folder), f"{prefix}{folder.name}/")))

    folders = sub_folders(root)
    found: dict[str, Texts] = {}
    progress = reporter.progress("listing images", None, "images") if reporter else nullcontext()
    with progress as advance, ThreadPoolExecutor(_LISTED_AT_ONCE, "msft-list") as pool:
        for folder, files in zip(folders, pool.map(scan, folders), strict=True):
            found[folder.name] = files
            if advance:
                advance(len(files))
    return found


def _read_train(train_root: Path, prefix: str, reporter: Reporter | None) -> dict[str, Texts]:
    train = _scan(train_root, prefix, reporter)
    if not train:
        raise DataError(f"no class folders in {train_root}: put images in {train_root}/CLASS/")
    for name, files in train.items():
        if not files:
            raise DataError(f"class {name!r} has no images: {train_root / name} is empty")
    if len(train) == 1:
        only = next(iter(train))
        raise DataError(f"only one class, {only!r}, in {train_root}: at least two are needed")
    return train


def _read_val(
    root: Path,
    val_root: Path,
    train_root: Path,
    classes: Sequence[str],
    reporter: Reporter | None,
) -> tuple[dict[str, Texts], list[str]]:
    found = _scan(val_root, _below(root, val_root), reporter)
    val = {name: files for name, files in found.items() if files}
    unknown = [name for name in val if name not in classes]
    if unknown:
        raise DataError(
            f"{_classes(unknown)} in {val_root} but not in {train_root}, which has "
            + ", ".join(classes)
        )
    if not val:
        raise DataError(f"no images in {val_root}: put images in {val_root}/CLASS/")
    lacking = [name for name in classes if name not in val]
    notes = [f"{val_root.name}/ has no image of {_classes(lacking)}"] if lacking else []
    return val, notes


def _hold_out(
    train: Mapping[str, Texts], root: Path, before: int, fraction: float, seed: int
) -> tuple[dict[str, Texts], dict[str, Texts], list[str]]:
    """Split each class in two; both parts keep the order of the files.

    The first ``before`` letters of each name are those of the folder ``root``.
    """
    kept: dict[str, Texts] = {}
    held_out: dict[str, Texts] = {}
    for name, files in train.items():
        count = min(max(1, round(fraction * len(files))), len(files) - 1)
        draws = b"".join(_draw(seed, file[before:]) for file in files)
        order = np.argsort(np.frombuffer(draws, ">u8"), kind="stable")
        kept[name] = files.take(np.sort(order[count:]))
        held_out[name] = files.take(np.sort(order[:count]))
    if not any(held_out.values()):
        raise DataError(
            f"each class in {root} has a single image, so none can be held out for validation: add "
            "images, or a val folder"
        )
    total = sum(map(len, train.values()))
    count = sum(map(len, held_out.values()))
    notes = [f"no val folder: {count} of the {total} images are held out for validation"]
    lone = [name for name, files in held_out.items() if not files]
    if lone:
        notes.append(
            f"validation has no image of {_classes(lone)}: a class with a single image keeps it "
            "for training"
        )
    return kept, held_out, notes


def _draw(seed: int, path: str) -> bytes:
    """Return the hash of a file's relative path, which does not depend on the folder's place."""
    name = f"{seed}\0{path}".encode("utf-8", "surrogateescape")
    return blake2b(name, digest_size=8).digest()


def _table(files: Mapping[str, Texts], classes: Sequence[str], root: Path) -> FileTable:
    of_classes = [files.get(name, Texts.of(())) for name in classes]
    ids = Texts.joined(of_classes)
    counts = [len(names) for names in of_classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    return FileTable(ids, Numbers(labels), FilePaths(root, ids))


def _require_bare_class_folders(root: Path) -> None:
    """Raise DataError if the sub-folders of ``root`` are probably not classes."""
    splits = [
        path.name for path in sub_folders(root) if path.name.lower() in (*VAL_NAMES, *TEST_NAMES)
    ]
    if splits:
        listing = " and ".join(f"{name}/" for name in splits)
        raise DataError(f"{root} has {listing} but no train/: put training images in train/CLASS/")
    nested = find_split_roots(root)
    if nested:
        raise DataError(f"no train folder in {root}: did you mean {nested[0]}?")


def _hint_at_sibling(root: Path) -> list[str]:
    """Return a note for a user who gave the train folder instead of its parent."""
    above = root.absolute().parent
    if root.absolute().name.lower() not in TRAIN_NAMES or find_folder(above, VAL_NAMES) is None:
        return []
    return [f"to validate on the val folder beside it, point at {above}"]


def _classes(names: Sequence[str]) -> str:
    return ("class " if len(names) == 1 else "classes ") + listed([repr(name) for name in names])


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names as a text, with the number of those beyond ``most``: ``cats, dogs and 3 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _entries(
    folder: Path | str, wanted: Callable[[os.DirEntry[str]], bool] = lambda _: True
) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if wanted(entry) and not _is_litter(entry.name)]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror or error}") from error


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LITTER


def _files(folder: str, prefix: str, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """The files below a folder, each as a prefix and its relative path with slashes."""
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that holds it
        return
    for entry in _entries(folder):
        name = entry.name
        if _is_folder(entry):
            yield from _files(f"{folder}{os.sep}{name}", f"{prefix}{name}/", above | {real})
        elif entry.is_symlink() or entry.is_file():
            yield prefix + name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: it is listed like a file, so that the check names it
        return False
