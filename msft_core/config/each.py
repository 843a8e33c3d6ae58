"""One configuration for each strategy that the command line names, such as ``freeze,finetune``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msft_core.config.sources import merge
from msft_core.errors import UsageError


def listed_strategies(raw: Mapping[str, Any]) -> list[str]:
    """The strategies that a configuration lists with commas; empty if it names one or none.

    Raises:
        UsageError: the list names a strategy twice, or a name is empty.
    """
    name = _name(raw)
    if "," not in name:
        return []
    names = [part.strip() for part in name.split(",")]
    if not all(names):
        raise UsageError(f"strategy {name!r}: a name is missing beside a comma.")
    twice = [one for number, one in enumerate(names) if one in names[:number]]
    if twice:
        raise UsageError(f"strategy {name!r}: {twice[0]} is listed twice.")
    return names


def with_strategy(file: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Join a configuration file with what the command line gives, which may name another strategy.

    Args:
        file: the content of the configuration file.
        given: the flags and ``--set``.

    Returns:
        The configuration, and a line for the user if the file's settings are not used.
    """
    name = _name(given)
    if not name:
        return merge(file, given), ""
    configs, note = for_each_strategy([name], file, given)
    return next(iter(configs.values())), note


def for_each_strategy(
    names: list[str], file: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], str]:
    """Make a configuration for each strategy.

    What the command line sets under ``strategy`` applies to each. So does the section of a file,
    unless it names a strategy: then its settings are those of this strategy, whose learning rate,
    say, would be wrong for another.

    Args:
        names: the strategies.
        file: the content of the configuration file.
        given: the flags and ``--set``.

    Returns:
        The configurations by name of the run folder, and a line for the user if the file's
        settings do not apply to each.
    """
    section = dict(merge(file).get("strategy", {}))
    owner = _name(file)
    of_one = owner and "," not in owner and len(section) > 1
    configs = {}
    for name in names:
        kept = section if not of_one or name == owner else {}
        base = {**file, "strategy": {**kept, "name": name}}
        # A component's name may have slashes, a folder's may not.
        configs[name.replace("/", "-")] = merge(base, given, {"strategy": {"name": name}})
    others = [name for name in names if name != owner]
    if not (of_one and others):
        return configs, ""
    users = f"apply to {owner} only" if owner in names else "are not used"
    to_each = "" if len(names) == 1 else " --set strategy.KEY=VALUE applies to each."
    return configs, (
        f"The settings of strategy {owner} in the configuration file {users}: "
        f"{' and '.join(others)} {'starts' if len(others) == 1 else 'start'} from the defaults."
        f"{to_each}"
    )


def _name(raw: Mapping[str, Any]) -> str:
    section = merge(raw).get("strategy", {})
    name = section.get("name", "") if isinstance(section, Mapping) else ""
    return name if isinstance(name, str) else ""
