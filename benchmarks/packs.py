"""What a pack costs, by its number of images: ``python -m benchmarks.packs FOLDER 1000 30000``.

For each number it draws that many JPEG files of 32 x 32 pixels in 100 classes, packs them with
``msft pack``, and trains on the pack with ``freeze`` and a very small backbone, one epoch and one
view of each image. It prints the seconds and the peak of resident memory of each command (VmHWM:
ru_maxrss would have the parent's). What is in FOLDER already is used again. A million images take
4 GB as files, and 2.5 GB packed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 100
RUN = (
    "run --plugin msft_core.testing.tiny --backbone tiny --strategy freeze --batch-size 256 "
    "--epochs 1 --set training.views=1 --without report --without figures"
)


def draw(folder: Path, count: int) -> None:
    """Smooth pictures, all different, in class folders."""
    for label in range(CLASSES):
        of_class = folder / f"class_{label:03d}"
        of_class.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(label)
        hue = random.integers(40, 200, 3)
        for number in range(count // CLASSES):
            small = (random.integers(-60, 60, (6, 6, 1)) + hue).clip(0, 255).astype(np.uint8)
            picture = Image.fromarray(small).resize((32, 32), Image.Resampling.BILINEAR)
            picture.save(of_class / f"{number:06d}.jpg", quality=80)


def measured(arguments: list[str], cache: Path) -> tuple[float, float]:
    """Run a command of msft. Returns seconds, and megabytes at its peak."""
    began, peak = time.monotonic(), 0
    environment = {**os.environ, "MSFT_CACHE": str(cache)}
    process = subprocess.Popen([sys.executable, "-m", "msft_core", *arguments], env=environment)
    while process.poll() is None:
        peak = max(peak, peak_of(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"msft {' '.join(arguments)} ended with {process.returncode}")
    return time.monotonic() - began, peak / 1000


def peak_of(pid: int) -> int:
    """Peak of resident memory so far, kB; 0 if the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(next(found, 0))


def main() -> None:
    """Measure each number of images in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("counts", type=int, nargs="+")
    chosen = parser.parse_args()
    print("images | command | seconds | peak, MB", flush=True)
    for count in chosen.counts:
        files, pack = chosen.folder / f"{count}", chosen.folder / f"{count}-packed"
        cache = chosen.folder / f"{count}-cache"
        if not files.is_dir():
            draw(files, count)
        run = [*RUN.split(), "--dataset", "packed", "--data-dir", str(pack), "--out"]
        out = str(chosen.folder / f"{count}-run-{time.time_ns()}")
        for name, arguments in (("pack", ["pack", str(files), str(pack)]), ("run", [*run, out])):
            seconds, peak = measured([*arguments, "--quiet"], cache)
            print(f"{count} | {name} | {seconds:.1f} | {peak:.0f}", flush=True)


if __name__ == "__main__":
    main()
