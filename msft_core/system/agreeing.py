"""Do something in each of several processes, and let all of them end it alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msft_core.errors import MsftError, first_line
from msft_core.system.group import Group
from msft_core.system.interrupts import Interrupts

_INTERRUPTED = "interrupted"


def agreed(
    group: Group, do: Callable[[], object], like: Sequence[type[Exception]] = (MsftError,)
) -> None:
    """Do something; where it fails in one process, raise in all of them.

    An interrupt of rank 0 reaches the others while they are at it: ``checking`` raises there.

    Args:
        group: all of its processes must call this.
        do: is called once.
        like: classes of errors that another process raises too where one raises them, with the
            text of the first; the first class is for all other errors.

    Raises:
        KeyboardInterrupt: in all, where one of them was interrupted.
        Exception: what ``do`` raised here, or in another process.
    """
    if group.size == 1:
        do()
        return
    own: BaseException | None = None
    try:
        do()
    except KeyboardInterrupt as interrupt:
        own = interrupt
        if group.leads:
            group.hurry()
    except Exception as error:
        own = error
    told = group.all(_told(own, like))
    group.hurried.clear()
    problems = [(rank, *one) for rank, one in enumerate(told) if one]
    if not problems:
        return
    if any(kind == _INTERRUPTED for _, kind, _ in problems):
        raise KeyboardInterrupt
    rank, kind, text = problems[0]
    found = next((one for one in like if one.__name__ == kind), like[0])
    if isinstance(own, found):
        raise own
    raise found(f"process {rank} of {group.size}: {text}") from own


def checking(group: Group, check: Callable[[], None]) -> Callable[[], None]:
    """What to call again and again in ``agreed``: raises ``KeyboardInterrupt`` where one came.

    Args:
        group: the processes.
        check: raises it where a signal came to this process.
    """

    def both() -> None:
        check()
        if group.hurried.is_set():
            raise KeyboardInterrupt

    return both if group.size > 1 else check


def check_after_step(group: Group, interrupts: Interrupts) -> None:
    """Raise ``KeyboardInterrupt`` where a signal came; of several processes in all, or in none.

    A signal that came to one of them after they agreed waits for the next step.
    """
    if group.size == 1:
        interrupts.check()
    elif group.stops:
        group.stops = False
        interrupts.forget()
        raise KeyboardInterrupt


def require_same(group: Group, value: str, what: str, why: str = "") -> None:
    """Compare something in all processes.

    Args:
        group: the processes.
        value: that of this process.
        what: names it, in the plural.
        why: a sentence for the message, after a space.

    Raises:
        MsftError: it is not the same everywhere.
    """
    told = group.all(value, "compare")
    for rank, other in enumerate(told):
        if other != told[0]:
            raise MsftError(
                f"{what} are not the same in process {rank} as in process 0 "
                f"({group.hosts[rank]}, {group.hosts[0]}).{why}"
            )


def _told(error: BaseException | None, like: Sequence[type[Exception]]) -> list[str] | None:
    if error is None:
        return None
    if isinstance(error, KeyboardInterrupt):
        return [_INTERRUPTED, ""]
    kind = next((one for one in like if isinstance(error, one)), like[0])
    return [kind.__name__, str(error) if isinstance(error, kind) else first_line(error)]
