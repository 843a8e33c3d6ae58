"""Write ``msft_mindcv/models.json`` from mindcv and from ``tried.jsonl``.

    python tools/make_table.py

Takes from mindcv the names of its classifiers, the URLs of their weights and their preprocessing;
from what ``try_all.py`` found, the numbers of parameters and which networks do not run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mindcv import list_models
from mindcv.models import registry
from msft_mindcv.table import IMAGENET_MEAN, IMAGENET_STD, Model

FOLDER = Path(__file__).parent.parent
TABLE = FOLDER / "msft_mindcv" / "models.json"
TRIED = FOLDER / "tried.jsonl"

SIZES = {
    # Where mindcv's configuration says nothing, the papers and mindcv's own recipes do.
    r"inception_v\d": 299,
    r"xception": 299,
    r"mobilevit_.*": 256,
    r"swinv2_.*": 256,
    r"efficientnet_b1": 240,
    r"efficientnet_b2": 260,
    r"efficientnet_b3": 300,
    r"efficientnet_b4": 380,
    r"efficientnet_b5": 456,
    r"efficientnet_b6": 528,
    r"efficientnet_b7": 600,
    r"efficientnet_v2_s": 384,
    r"efficientnet_v2_(m|l)": 480,
    r"efficientnet_v2_xl": 512,
    r"resnest101": 256,
    r"resnest200": 320,
    r"resnest269": 416,
}


def main() -> None:
    """Write the table."""
    tried = read_tried()
    rows = {name: row(name, tried.get(name)) for name in classifiers()}
    lines = [f"{json.dumps(name)}: {json.dumps(values)}" for name, values in rows.items()]
    TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{TABLE}: {len(rows)} classifiers, {sum('problem' in r for r in rows.values())} fail")


def classifiers() -> list[str]:
    """Names of mindcv's networks, but for those that are pretrained by painting in."""
    return [name for name in list_models() if not name.endswith("_pretrain")]


def read_tried() -> dict[str, dict[str, Any]]:
    """The last result for each network."""
    if not TRIED.exists():
        return {}
    results = map(json.loads, TRIED.read_text(encoding="utf-8").splitlines())
    return {result["name"]: result for result in results}


def row(name: str, result: dict[str, Any] | None) -> dict[str, Any]:
    """What ``table.Model`` takes, but for what is its default."""
    config = registry.get_pretrained_cfg(name)
    values: dict[str, Any] = {
        "url": config.get("url", ""),
        "size": size(name, config),
        "mean": unit(config.get("mean", IMAGENET_MEAN)),
        "std": unit(config.get("std", IMAGENET_STD)),
        # VOLO's 1.15 would enlarge the image less than the crop asks for.
        "crop_fraction": min(1.0, config.get("crop_pct", 0.875)),
        "interpolation": config.get("interpolation", "bilinear"),
        "tried": result is not None and "unfinished" not in result,
    }
    if result is not None:
        values["parameters"] = result.get("parameters", 0)
        values["problem"] = result.get("problem", "")
    defaults = {key: field.default for key, field in Model.__dataclass_fields__.items()}
    return {"family": family(name)} | {k: v for k, v in values.items() if v != defaults[k]}


def family(name: str) -> str:
    """Which of ``FAMILIES`` a network is of."""
    for special in ("coat_lite", "visformer_v2"):
        if name.startswith(special.split("_")[0]) and special.split("_")[1] in name:
            return special
    return str(registry._model_to_module[name])


def size(name: str, config: dict[str, Any]) -> int:
    """Side of the images a network is made for, pixels."""
    if "input_size" in config:
        return int(config["input_size"][-1])
    if match := re.fullmatch(r"mobilenet_v2_\d{3}_(\d+)", name):
        return int(match[1])
    return next((size for pattern, size in SIZES.items() if re.fullmatch(pattern, name)), 224)


def unit(values: Any) -> tuple[float, ...]:
    """Values on a scale of 0 to 1; mindcv has both scales."""
    scale = 255 if max(values) > 1 else 1
    return tuple(round(value / scale, 6) for value in values)


if __name__ == "__main__":
    main()
