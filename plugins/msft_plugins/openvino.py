"""The extractor ``openvino``: computes a backbone's frozen stages with OpenVINO on the CPU."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from msft_core import (
    Component,
    Context,
    ExportError,
    FeatureExtractor,
    Settings,
    UsageError,
    hookimpl,
)

if TYPE_CHECKING:
    from mindspore import nn
    from numpy.typing import NDArray

NAME = "openvino"

# Relative differences measured with EfficientNet-Lite0 (ImageNet weights) and ResNet-50 (random
# weights), cut at several stages. float32: 4e-6 on photographs, and 3e-5 on uniform grey, whose
# features are almost zero; one convolution in bfloat16 gives 1.5e-3. bfloat16: up to 0.13 on
# photographs, mostly 0.05; the features of another photograph differ by 0.8 or more.
TOLERANCE = {"float32": 2e-4, "bfloat16": 0.25}
"""Tolerance for each precision, see ``FeatureExtractor.tolerance``."""

_ONEDNN_CAP = "ONEDNN_MAX_CPU_ISA"


class OpenVinoSettings(Settings):
    """Settings of ``openvino``."""

    enabled: bool | Literal["auto"] = Field(
        "auto",
        description="whether the extractor takes part; auto: on a CPU, where OpenVINO is installed "
        "and no other extractor is enabled, unless the run needs few features",
    )

    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="bfloat16 is twice as fast on a CPU with bfloat16; features change by some 5 %",
    )


@hookimpl
def list_components() -> list[Component]:
    """Offer the extractor."""
    return [
        Component(
            "extractor",
            NAME,
            "frozen stages with OpenVINO, on a CPU 2 to 10 times as fast (msft[openvino])",
            OpenVinoSettings,
        )
    ]


@hookimpl
def build_feature_extractor(
    prefix: nn.Cell, example: NDArray[Any], settings: OpenVinoSettings, context: Context
) -> FeatureExtractor | None:
    """Make an extractor that exports and compiles the stages at its first batch.

    Raises: UsageError if OpenVINO is missing, or if the CPU does not support the chosen bfloat16.
    The extractor raises it at the first batch if MindSpore cannot export an operator.
    """
    if settings.enabled == "auto" and importlib.util.find_spec("openvino") is None:
        return None
    openvino = _import_openvino()
    _heed_onednn_cap(settings, context)
    core = openvino.Core()
    bfloat16 = settings.precision == "bfloat16"
    if bfloat16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError(
            f"extractor {NAME}: this CPU does not support bfloat16. Remove --set "
            f"extractor.{NAME}.precision=bfloat16."
        )
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        # By default OpenVINO uses bfloat16 on every CPU that supports it.
        "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
    }
    compiled: Any = None

    def compute(images: NDArray[Any]) -> NDArray[Any]:
        nonlocal compiled
        if compiled is None:  # not earlier: if all features are stored, a run never needs it
            with tempfile.TemporaryDirectory(prefix="msft-") as folder:
                path = Path(folder) / "prefix.onnx"
                _export(prefix, example, path, asked=settings.enabled is True)
                compiled = core.compile_model(path, "CPU", options)
        return compiled(images)[0]

    return FeatureExtractor(
        compute,
        f"OpenVINO {openvino.__version__.split('-')[0]}, {settings.precision}",
        TOLERANCE[settings.precision],
    )


def _import_openvino() -> Any:
    # Importing openvino sends an event to Google Analytics, through a forked process, and leaves an
    # id in the home folder. It does neither if it cannot import its dependency openvino_telemetry.
    telemetry = "openvino_telemetry"
    blocked = sys.modules.setdefault(telemetry, None) is None  # type: ignore[arg-type]
    try:
        import openvino
    except ModuleNotFoundError:
        raise UsageError(
            f'extractor {NAME} needs the package openvino: pip install "msft[openvino]".'
        ) from None
    finally:
        if blocked:
            del sys.modules[telemetry]
    return openvino


def _heed_onednn_cap(settings: OpenVinoSettings, context: Context) -> None:
    """Handle the user's value of the variable: OpenVINO's oneDNN obeys it as MindSpore's does.

    msft has already removed its own value.
    """
    cap = os.environ.get(_ONEDNN_CAP)
    if not cap:
        return
    if settings.precision == "bfloat16":
        raise UsageError(
            f"extractor {NAME}: OpenVINO fails in bfloat16, because {_ONEDNN_CAP}={cap} is set in "
            "the environment. Unset it: msft sets it itself while MindSpore needs it."
        )
    context.reporter.info(
        f"{_ONEDNN_CAP}={cap} is set in the environment: OpenVINO may be half as fast."
    )


def _export(prefix: nn.Cell, example: NDArray[Any], path: Path, *, asked: bool) -> None:
    from msft_core.onnx import write_onnx

    try:
        write_onnx(prefix, example.shape, path)
    except ExportError as error:
        advice = f" Choose another extractor than {NAME}, or none." if asked else ""
        raise UsageError(
            f"extractor {NAME}: {error}, so this backbone's frozen stages cannot run in "
            f"OpenVINO.{advice}"
        ) from error
