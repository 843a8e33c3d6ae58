"""The loss and the figures of all metric plugins, of a live or a finished run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msft_core.errors import PluginError
from msft_core.plugins.registry import Plugins
from msft_core.runs.measures import losses
from msft_core.types import Kind, Predictions


def figures_of(
    predictions: Predictions,
    loss: float,
    plugins: Plugins,
    enabled: Callable[[Kind, str], bool],
) -> Mapping[str, float]:
    """The loss and every figure that a plugin computes, by name; it cannot be changed.

    Args:
        predictions: of a split.
        loss: mean cross-entropy in nats.
        plugins: whose hook ``compute_metrics`` is called.
        enabled: whether a component takes part.

    Raises:
        PluginError: a metric failed, or two have one name.
    """
    figures = {"loss": loss}
    givers = {"loss": "the core"}
    hook = "compute_metrics"
    for plugin, result in plugins.call_each(hook, enabled, predictions=predictions):
        if result is None:
            raise PluginError(plugin, hook, "returned None, not a mapping")
        for name, value in result.items():
            if name in givers:
                raise PluginError(
                    plugin, hook, f"metric {name!r} is already computed by {givers[name]}"
                )
            figures[name], givers[name] = float(value), f"plugin {plugin!r}"
    # All plugins get the same mapping, so no plugin may change it.
    return MappingProxyType(figures)


def loss_of(predictions: Predictions) -> float:
    """Mean cross-entropy in nats, from probabilities that are clipped as in ``losses``."""
    return float(losses(predictions).mean())
