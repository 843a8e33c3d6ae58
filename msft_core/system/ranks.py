"""Which of several processes this one is: from what started them, through the environment.

Imports nothing heavy: the command line asks it before anything else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from msft_core.errors import UsageError

LAUNCH = "MSFT_LAUNCH"
"""The variable that names the folder of the ``msft run`` that started this process."""

HERE = "MSFT_LOCAL_PROCESSES"
"""The variable that says how many of the processes that msrun started are on this host."""

PORT = 8118
"""MindSpore's own default port of its scheduler."""


@dataclass(frozen=True)
class Ranks:
    """The place of a process among those that train together.

    Args:
        rank: from 0.
        size: number of processes in all.
        local: from 0, among those of this host.
        local_size: number of processes on this host.
        started_by: the launcher, in words.
        master: address of the host of rank 0; empty where MindSpore's variables have it already.
        port: of MindSpore's scheduler there.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    local_size: int = 1
    started_by: str = ""
    master: str = ""
    port: int = PORT


ALONE = Ranks()


def is_scheduler(env: Mapping[str, str] = os.environ) -> bool:
    """Whether msrun started this process to bring the others together, and not to train."""
    return env.get("MS_ROLE") == "MS_SCHED"


def ranks_of(env: Mapping[str, str] = os.environ) -> Ranks:
    """Read the place of this process from the variables of whatever started it.

    Known are msrun (``msft run --processes`` uses it), Slurm's ``srun``, Open MPI's ``mpirun``, and
    everything that sets ``RANK`` and ``WORLD_SIZE`` as PyTorch's launchers do, such as the training
    operators of Kubernetes.

    Raises:
        UsageError: a variable is missing or is no number, or they contradict each other.
    """
    if env.get("MS_ROLE") == "MS_WORKER":
        size, local = _number(env, "MS_WORKER_NUM"), _number(env, "DEVICE_ID")
        rank = _number(env, "MS_NODE_ID")
        return _checked(Ranks(rank, size, local, _number(env, HERE, size), "msrun"))
    if _number(env, "SLURM_STEP_NUM_TASKS", 1) > 1 and "SLURM_PROCID" in env:
        size = _number(env, "SLURM_STEP_NUM_TASKS")
        tasks = _tasks_of_nodes(env.get("SLURM_STEP_TASKS_PER_NODE", ""))
        node = _number(env, "SLURM_NODEID", 0)
        here = tasks[node] if node < len(tasks) else size
        first = env.get("MASTER_ADDR") or _first_host(env.get("SLURM_STEP_NODELIST", ""))
        local = _number(env, "SLURM_LOCALID")
        return _of(env, "SLURM_PROCID", size, local, here, "Slurm", first)
    if _number(env, "OMPI_COMM_WORLD_SIZE", 1) > 1:
        size = _number(env, "OMPI_COMM_WORLD_SIZE")
        here = _number(env, "OMPI_COMM_WORLD_LOCAL_SIZE")
        local = _number(env, "OMPI_COMM_WORLD_LOCAL_RANK")
        first = env.get("MASTER_ADDR") or ("127.0.0.1" if here == size else "")
        return _of(env, "OMPI_COMM_WORLD_RANK", size, local, here, "mpirun", first)
    if _number(env, "WORLD_SIZE", 1) > 1 and "RANK" in env:
        size = _number(env, "WORLD_SIZE")
        # Where there is no LOCAL_RANK, as with Kubernetes, each process has a host of its own.
        here = _number(env, "LOCAL_WORLD_SIZE", size if "LOCAL_RANK" in env else 1)
        local = _number(env, "LOCAL_RANK", 0)
        first = env.get("MASTER_ADDR", "")
        return _of(env, "RANK", size, local, here, "RANK and WORLD_SIZE", first)
    return ALONE


def _of(
    env: Mapping[str, str], rank: str, size: int, local: int, here: int, by: str, master: str
) -> Ranks:
    if not master:
        raise UsageError(
            f"{by} started {size} processes, but MASTER_ADDR does not say where rank 0 is: set it "
            "to the address of its host."
        )
    port = _number(env, "MASTER_PORT", PORT)
    return _checked(Ranks(_number(env, rank), size, local, here, by, master, port))


def _checked(ranks: Ranks) -> Ranks:
    if ranks.rank < ranks.size and ranks.local < ranks.local_size <= ranks.size:
        return ranks
    raise UsageError(
        f"{ranks.started_by}: the environment says that this is process {ranks.rank} of "
        f"{ranks.size}, and number {ranks.local} of {ranks.local_size} on its host. They are "
        "counted from 0, so that cannot be."
    )


def _number(env: Mapping[str, str], name: str, default: int | None = None) -> int:
    """A variable's value; where it is not set, the default if there is one."""
    text = env.get(name, "")
    if not text and default is not None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UsageError(f"the environment says {name}={text!r}, which must be a number.")
    return int(text)


def _tasks_of_nodes(text: str) -> list[int]:
    """The number of tasks of each host, from such as ``2(x3),1``."""
    found = re.findall(r"([0-9]+)(?:\(x([0-9]+)\))?", text)
    return [int(tasks) for tasks, times in found for _ in range(min(int(times or 1), 1 << 20))]


def _first_host(text: str) -> str:
    """The first host of such as ``node[01-03,7],login``."""
    found = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\]([^,]*))?", text)
    return "".join(part or "" for part in found.groups()) if found else ""
