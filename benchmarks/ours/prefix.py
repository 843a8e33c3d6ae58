"""The frozen part of ResNet-50, forward: ``python -m benchmarks.ours.prefix BATCH SIZE``."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable

from benchmarks.serving import Channel


def main(batch: int, size: int) -> None:
    """Serve ``mindspore``, ``openvino float32`` and ``openvino bfloat16``: one batch each."""
    channel = Channel()
    import numpy as np

    from msft_core.config import RuntimeSettings
    from msft_core.system import device as runtime
    from msft_core.system import onednn
    from msft_core.system.cache_folder import cache_dir
    from msft_core.system.console import PlainReporter
    from msft_core.types import Context

    reporter = PlainReporter()
    runtime.prepare(RuntimeSettings(), reporter)
    import mindspore as ms

    import msft_plugins.resnet
    from msft_core.features import prefix as features
    from msft_core.stages import Chain

    if batch != features.BATCH:
        raise ValueError(f"a batch of {batch} where msft_core.features computes {features.BATCH}")
    context = Context(0, cache_dir(), reporter)
    settings = msft_plugins.resnet.ResNetSettings(weights="none", image_size=size)

    def frozen_part() -> Chain:
        """A new one each time: MindSpore 2.10 fails to export a Cell to ONNX a second time."""
        backbone = msft_plugins.resnet.build_backbone("resnet50", 2, settings, context)
        assert backbone is not None
        chain = Chain([stage.cell for stage in backbone.stages])
        chain.set_train(False)
        return chain

    prefix = frozen_part()
    images = np.random.default_rng(0).standard_normal((batch, 3, size, size), np.float32)

    @ms.jit
    def forward(x: ms.Tensor) -> ms.Tensor:
        return prefix(x)

    def mindspore() -> object:
        return forward(ms.Tensor(images)).asnumpy()

    tasks: dict[str, Callable[[], object]] = {"mindspore": mindspore}
    missing: dict[str, str] = {}
    mindspore()
    onednn.release()  # after a convolution: OpenVINO in bfloat16 fails under the cap
    for precision in ("float32", "bfloat16"):
        name = f"openvino {precision}"
        try:
            plugin = importlib.import_module("msft_plugins.openvino")
            component = next(iter(plugin.list_components()))
            extractor = plugin.build_feature_extractor(
                frozen_part(), images, component.settings(precision=precision), context
            )
        except Exception as error:
            missing[name] = str(error).strip().splitlines()[0]
            continue
        tasks[name] = functools.partial(extractor.compute, images)
    channel.serve(tasks, missing)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
