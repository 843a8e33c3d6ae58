"""Fine-tuning steps of mindcv: ``python -m benchmarks.peers.mindcv_step BATCH SIZE``.

mindcv's own way: graph mode, and the step that its ``create_trainer`` makes. With the cap on oneDNN
that msft sets, or each step would take most of a minute on a CPU with AVX-512.
"""

from __future__ import annotations

import os
import sys

from benchmarks.serving import Channel


def main(batch: int, size: int) -> None:
    """Serve ``step``: one step of ResNet-50 on one batch."""
    channel = Channel()
    from msft_core.system import onednn
    from msft_core.system.console import PlainReporter

    onednn.cap(os.environ, PlainReporter())
    import mindspore as ms
    import numpy as np
    from mindcv.loss import create_loss
    from mindcv.models import create_model
    from mindcv.optim import create_optimizer
    from mindcv.utils.trainer_factory import create_trainer

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_seed(0)
    network = create_model("resnet50", num_classes=2)
    optimizer = create_optimizer(
        network.trainable_params(), opt="momentum", lr=1e-4, momentum=0.9, weight_decay=0.0
    )
    trainer = create_trainer(
        network,
        create_loss("CE"),
        optimizer,
        metrics=set(),
        amp_level="O0",
        amp_cast_list=None,
        loss_scale_type="fixed",
    )
    random = np.random.default_rng(0)
    images = ms.Tensor(random.standard_normal((batch, 3, size, size), np.float32))
    labels = ms.Tensor(random.integers(0, 2, batch, np.int32))
    step = trainer.train_network.set_train()
    channel.serve({"step": lambda: step(images, labels).asnumpy()})


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
