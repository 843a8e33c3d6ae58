"""``python -m tools.painter OUT``: draw pictures into a folder for the dataset ``folder``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from tools.painter.drawing import CLASSES, encode

_ID = re.compile(rf"(train|val)/({'|'.join(CLASSES)})/\d{{3,}}\.jpg")


def main() -> None:
    """Draw the pictures asked for."""
    asked = _parse()
    ids = asked.ids or [
        f"{split}/{name}/{number:03}.jpg"
        for split, count in (("train", asked.train_per_class), ("val", asked.val_per_class))
        for name in CLASSES
        for number in range(count)
    ]
    for image_id in ids:
        path = asked.out / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(image_id, asked.seed))
    print(f"{len(ids)} pictures drawn in {asked.out}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.painter",
        description="Draw dogs and wolves: by default the pictures that msft ships.",
    )
    parser.add_argument("out", type=Path, help="folder that the pictures go into")
    parser.add_argument(
        "ids", nargs="*", type=_image_id, help="draw only these, such as train/dogs/000.jpg"
    )
    parser.add_argument("--seed", type=int, default=0, help="each seed gives other pictures (0)")
    parser.add_argument("--train-per-class", type=int, default=80, help="pictures (80)")
    parser.add_argument("--val-per-class", type=int, default=24, help="pictures (24)")
    return parser.parse_args()


def _image_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no id such as train/dogs/000.jpg")
    return text


if __name__ == "__main__":
    main()
