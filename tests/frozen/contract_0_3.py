"""A plugin as msft 0.3 has the contract. It is not to be changed: it stands for those of strangers.

Every hook, every argument, every public name that a plugin of that time may use.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import Field

from msft_core import (
    Backbone,
    Component,
    Context,
    DatasetSplits,
    FeatureExtractor,
    OptimizerSpec,
    ParameterGroup,
    Predictions,
    Preprocessing,
    Run,
    RunReport,
    Settings,
    Stage,
    Trainable,
    hookimpl,
)

msft_api = "0.3"


class Seeds(Settings):
    """Settings of the dataset."""

    per_class: int = Field(6, ge=1, description="images of each class and split")


class Net(Settings):
    """Settings of the backbone."""

    width: int = Field(4, ge=1, description="channels")


class Rates(Settings):
    """Settings of the strategy."""

    learning_rate: float = Field(0.05, gt=0, description="peak rate")


class Log(Settings):
    """Settings of the callback."""

    file: str = Field("frozen.log", description="name in the run folder")


class Engine(Settings):
    """Settings of the extractor."""

    one_by_one: bool = Field(True, description="image by image")


@hookimpl
def list_components() -> Iterable[Component]:
    return [
        Component("dataset", "frozen", "dark and light", Seeds, fetch=nothing),
        Component("backbone", "frozen", "one convolution", Net),
        Component("strategy", "frozen", "the head", Rates),
        Component("callback", "frozen", "a line for each call", Log),
        Component("metric", "frozen", "error rate", Settings),
        Component("extractor", "frozen", "MindSpore again", Engine, urls=()),
    ]


def nothing(settings: Seeds, context: Context) -> Iterable[Path]:
    return []


@hookimpl
def build_dataset(name: str, settings: Seeds, context: Context) -> DatasetSplits | None:
    if name != "frozen":
        return None
    from msft_core.images import MemoryTable

    def table(split: int) -> MemoryTable:
        rows = [(c, n) for c in (0, 1) for n in range(settings.per_class)]
        return MemoryTable(
            tuple(f"{split}-{c}-{n}" for c, n in rows),
            tuple(c for c, _ in rows),
            tuple(draw(c, n + 100 * split) for c, n in rows),
        )

    context.reporter.info("frozen dataset")
    return DatasetSplits(("dark", "light"), table(0), table(1), "Greys", notes=("drawn",))


def draw(label: int, number: int) -> bytes:
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng([label, number]).integers(0, 128, (20, 20, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels + np.uint8(120 * label)).save(buffer, "PNG")
    return buffer.getvalue()


@hookimpl
def build_backbone(name: str, num_classes: int, settings: Net, context: Context) -> Backbone | None:
    if name != "frozen":
        return None
    from mindspore import nn

    from msft_core.stages import Head, Pool, prefix_names

    body = nn.SequentialCell([nn.Conv2d(3, settings.width, 3, 2), nn.ReLU()])
    return Backbone(
        name=name,
        stages=(Stage("body", prefix_names(body, "body")), Stage("pool", Pool())),
        head=Head(settings.width, num_classes, context.seed),
        preprocessing=Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        dialect="frozen",
        weights="random",
    )


@hookimpl
def select_trainable(
    name: str, backbone: Backbone, settings: Rates, epoch: int
) -> Trainable | None:
    if name != "frozen":
        return None
    from msft_core.stages import learned_names

    group = ParameterGroup(learned_names(backbone.head), rate_factor=1.0, weight_decay=None)
    return Trainable((group,), OptimizerSpec("momentum", settings.learning_rate), "frozen_eval")


@hookimpl
def build_feature_extractor(
    prefix: object, example: object, settings: Engine, context: Context
) -> FeatureExtractor | None:
    import mindspore as ms

    def compute(images: object) -> object:
        return prefix(ms.Tensor(images)).asnumpy()

    return FeatureExtractor(compute, "frozen 1", tolerance=1e-3)


@hookimpl
def compute_metrics(predictions: Predictions) -> Mapping[str, float]:
    return {"error_rate": float((predictions.predicted != predictions.labels).mean())}


def write(run: Run, line: str) -> None:
    with (run.folder / run.settings("callback", "frozen").file).open("a") as file:
        file.write(f"{line}\n")


@hookimpl
def on_run_start(run: Run) -> None:
    write(run, f"start {len(run.splits.train.ids)} {run.backbone.name}")


@hookimpl(trylast=True)
def on_epoch_end(epoch: int, run: Run) -> None:
    accuracy = run.evaluate("val")["accuracy"]
    assert len(run.predictions("val").ids) == len(run.splits.val.ids)
    assert run.images("train", 2).pixels.shape[1:] == (16, 16, 3)
    run.save_checkpoint(run.folder / "mine.ckpt")
    run.record("twice", 2 * accuracy)
    write(run, f"epoch {epoch} {run.history[-1].epoch} {run.best is not None}")
    if epoch == 2:
        run.stop("enough")


@hookimpl
def on_run_end(run: Run, report: RunReport, error: BaseException | None) -> None:
    write(run, f"end {report.status} {report.reason} {error}")
