"""Kill training over and over, resume it, and compare the end with a run that nobody disturbed.

    python tests/faults/kills.py --kills 200
    python tests/faults/kills.py --every-call --case tiny
    python tests/faults/kills.py --kills 10 --case lite-gradual --spawn
    python tests/faults/kills.py --signals --full-disk --most 40

Half of the random kills come at a random time, the others at a random call that changes a file.
After each kill the checkpoints that are there are loaded. The exit status is 1 if anything was
different.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from fault_kit import CASES, Failed, Harness, every
from fork_kit import forks_of_one_process


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", choices=CASES, action="append", help="kind of training")
    parser.add_argument("--kills", type=int, default=0, help="number of random kills of each case")
    parser.add_argument("--every-call", action="store_true", help="kill once at each call")
    parser.add_argument(
        "--signals", action="store_true", help="SIGINT, SIGTERM, SIGHUP at each call"
    )
    parser.add_argument("--full-disk", action="store_true", help="a full disk from each call on")
    parser.add_argument("--first", type=int, default=1, help="the first call that counts")
    parser.add_argument("--most", type=int, default=10**6, help="at most so many calls")
    parser.add_argument("--seed", type=int, default=0, help="of the random instants")
    parser.add_argument("--spawn", action="store_true", help="a new interpreter for each process")
    parser.add_argument("--work", type=Path, help="where to work; kept. By default /tmp")
    parser.add_argument("more", nargs="*", help="after --: further arguments of msft run")
    given = parser.parse_args()
    os.environ.update(GLOG_v="3", ONEDNN_MAX_CPU_ISA="AVX2")
    work = given.work or Path(tempfile.mkdtemp(prefix="msft-kills-"))
    wrong = 0
    with nullcontext() if given.spawn else forks_of_one_process() as forks:
        for case in given.case or ["tiny"]:
            harness = Harness(case, work / case, forks, given.more)
            wrong += _case(harness, given)
    if not given.work and not wrong:
        shutil.rmtree(work)
    return bool(wrong)


def _case(harness: Harness, given: argparse.Namespace) -> int:
    began = time.monotonic()
    harness.reference()
    calls = len(harness.calls)
    print(f"{harness.case}: undisturbed in {harness.seconds:.1f} s, {calls} calls", flush=True)
    wrong = done = 0
    if given.every_call:
        for number in every(given.first, calls, given.most):
            done += 1
            wrong += _tell(lambda number=number: harness.killed_at(number))
    for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if given.signals else ():
        for number in every(given.first, calls, given.most):
            done += 1
            wrong += _tell(lambda number=number, sent=sent: harness.signalled_at(number, sent))
    if given.full_disk:
        for number in every(given.first, calls, given.most):
            done += 1
            wrong += _tell(lambda number=number: harness.without_room_at(number))
    draw = random.Random(given.seed)
    kills_before = harness.kills
    while harness.kills - kills_before < given.kills:
        done += 1
        left = given.kills - (harness.kills - kills_before)
        wrong += _tell(
            lambda left=left: harness.killed_at_random(draw, min(left, draw.randint(1, 5)))
        )
    minutes = (time.monotonic() - began) / 60
    print(
        f"{harness.case}: {done} runs with {harness.kills} kills, {done - wrong} of {done} ended "
        f"like the undisturbed one; {minutes:.1f} min",
        flush=True,
    )
    return wrong


def _tell(do: object) -> int:
    """1 if it failed."""
    try:
        do()  # type: ignore[operator]
    except Failed as failure:
        print(f"FAILED: {failure}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
