"""Write pth/: small checkpoints as PyTorch itself writes them, and the values they hold.

Run with the `parity` extra, from the root of the project:
python tests/reference/make_pth_samples.py
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn


def tensors() -> OrderedDict[str, torch.Tensor]:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 8
    shared = torch.arange(10, dtype=torch.float32)
    return OrderedDict(
        plain=base.clone(),
        parameter=nn.Parameter(base * 2),
        transposed=base.t(),
        stepped=base[1::2, ::3],
        shared_head=shared[:4],
        shared_tail=shared[6:],
        expanded=torch.tensor([1.5, 2.5]).reshape(2, 1).expand(2, 5),
        channels_last=torch.arange(48.0).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last),
        scalar=torch.tensor(3.25),
        empty=torch.zeros(0, 3),
        half=(base / 3).half(),
        bfloat16=(base / 3).bfloat16(),
        double=(base / 3).double(),
        count=torch.tensor(7),
        int32=torch.tensor([-1, 2**31 - 1], dtype=torch.int32),
        uint8=torch.tensor([0, 255], dtype=torch.uint8),
        int8=torch.tensor([-128, 127], dtype=torch.int8),
        int16=torch.tensor([-300, 300], dtype=torch.int16),
        uint16=torch.arange(65530, 65536, dtype=torch.int32).to(torch.uint16)[1::2],
        bfloat16_transposed=(base / 3).bfloat16().t(),
        bool=torch.tensor([True, False, True]),
    )


def main() -> None:
    folder = Path(__file__).with_name("pth")
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    state = tensors()
    wrapped = {
        "epoch": 3,
        "best": np.float64(0.5),
        "arch": "tiny",
        "optimizer": {
            "state": {0: {"momentum_buffer": torch.ones(2)}},
            "param_groups": [{"lr": 1}],
        },
        "state_dict": nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict(),
    }
    for name, new in (("zip", True), ("legacy", False)):
        torch.save(state, folder / f"{name}.pth", _use_new_zipfile_serialization=new)
        torch.save(wrapped, folder / f"wrapped_{name}.pth", _use_new_zipfile_serialization=new)
    torch.save(nn.Linear(2, 2), folder / "module.pth")
    state |= {f"wrapped/{name}": tensor for name, tensor in wrapped["state_dict"].items()}
    values = {
        name: (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).detach().numpy()
        for name, tensor in state.items()
    }
    np.savez(folder / "values.npz", **values)
    print(f"wrote {folder}")


if __name__ == "__main__":
    main()
