"""What processes that train together tell each other, in threads of this process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msft_core.cli import run
from msft_core.data.pipeline import Batch, first_of, part_of
from msft_core.engine import launch, launched
from msft_core.engine.processes import require_together
from msft_core.errors import DataError, MsftError, UsageError
from msft_core.system import relay
from msft_core.system.agreeing import agreed, check_after_step, checking, require_same
from msft_core.system.group import ConnectedGroup, Group, PeerDied
from msft_core.system.interrupts import Interrupts
from msft_core.system.ranks import ALONE, Ranks, ranks_of
from msft_core.testing import RecordingReporter


class Trio:
    """Three processes, as threads."""

    def __init__(self) -> None:
        self.died: list[tuple[int, int]] = []
        self.pairs = {rank: socket.socketpair() for rank in (1, 2)}
        ends = [{rank: pair[0] for rank, pair in self.pairs.items()}]
        ends += [{0: self.pairs[rank][1]} for rank in (1, 2)]

        def make(rank: int) -> ConnectedGroup:
            ranks = Ranks(rank, 3, rank, 3, "a test")
            return ConnectedGroup(ranks, ends[rank], lambda who: self.died.append((rank, who)))

        self.groups: list[ConnectedGroup] = _together([partial(make, rank) for rank in range(3)])

    def each(self, do: Callable[[ConnectedGroup], Any]) -> list[Any]:
        """What a function returns or raises in each process."""
        return _together([partial(do, group) for group in self.groups])

    def close(self) -> None:
        for pair in self.pairs.values():
            for end in pair:
                end.close()


def _together(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    results: list[Any] = [None] * len(functions)

    def call(number: int) -> None:
        try:
            results[number] = functions[number]()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=call, args=(n,), daemon=True) for n in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads), "they wait for each other"
    return results


def _leave(group: ConnectedGroup) -> None:
    """Go as a process that dies."""
    for peer in group._peers.values():
        peer.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def trio() -> Any:
    three = Trio()
    yield three
    three.close()


# Groups


def test_what_each_process_says_reaches_all_in_the_order_of_ranks(trio: Trio) -> None:
    assert trio.each(lambda g: g.all({"rank": g.rank})) == [[{"rank": r} for r in range(3)]] * 3
    assert trio.each(lambda g: g.from_first(f"of {g.rank}")) == ["of 0"] * 3


def test_rows_of_all_processes_reach_rank_0_with_their_type_and_shape(trio: Trio) -> None:
    told = trio.each(lambda g: g.rows(np.full((g.rank, 2), g.rank, np.float32)))
    assert told[1:] == [None, None]
    assert [one.shape for one in told[0]] == [(0, 2), (1, 2), (2, 2)]
    assert [one.dtype for one in told[0]] == [np.dtype(np.float32)] * 3
    assert told[0][2].tolist() == [[2, 2], [2, 2]]


def test_processes_at_different_places_do_not_take_each_others_words(trio: Trio) -> None:
    def do(group: ConnectedGroup) -> Any:
        try:
            return group.all(1, "step" if group.rank else "compare")
        except PeerDied:
            _leave(group)
            raise

    assert all(isinstance(one, PeerDied) for one in trio.each(do))


def test_a_process_that_waits_for_a_step_notices_that_rank_0_is_elsewhere(trio: Trio) -> None:
    def do(group: ConnectedGroup) -> Any:
        return group.all(1, "step") if group.rank else group.tell("load", path="x")

    told = trio.each(do)
    assert told[0] is None
    assert all(isinstance(one, PeerDied) for one in told[1:])


def test_commands_reach_the_others_until_the_run_ends(trio: Trio) -> None:
    def do(group: ConnectedGroup) -> Any:
        if group.rank:
            return [command["do"] for command in group.commands()]
        group.tell("train", epoch=1)
        group.close()
        return None

    assert trio.each(do) == [None, ["train"], ["train"]]
    assert not trio.died


@pytest.mark.parametrize(
    ("error", "raised"), [(KeyboardInterrupt(), KeyboardInterrupt), (ValueError("x"), MsftError)]
)
def test_the_others_end_a_run_as_rank_0_does(
    trio: Trio, error: BaseException, raised: type[BaseException]
) -> None:
    def do(group: ConnectedGroup) -> Any:
        return list(group.commands()) if group.rank else group.close(error)

    told = trio.each(do)
    assert [type(one) for one in told[1:]] == [raised, raised]
    assert not trio.died


def test_a_process_that_is_gone_is_noticed_by_whoever_asks(trio: Trio) -> None:
    def do(group: ConnectedGroup) -> Any:
        if group.rank:
            return _leave(group)
        told = []
        for ask in (lambda: group.rows(np.zeros(1)), lambda: group.all(0)):
            with pytest.raises(PeerDied) as death:
                ask()
            told.append(str(death.value))
        return told

    assert trio.each(do)[0] == ["process 1 of the 3 of this run is gone."] * 2


def test_a_network_that_a_plugin_changed_in_one_process_is_noticed_in_all(trio: Trio) -> None:
    told = trio.each(lambda g: require_same(g, f"digest {g.rank // 2}", "the values", " So there."))
    assert [type(one) for one in told] == [MsftError] * 3
    assert all("in process 2 as in process 0" in str(one) for one in told)
    assert all(str(one).endswith(". So there.") for one in told)


# Agreements


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_what_fails_in_one_process_fails_in_all(trio: Trio, fails: int) -> None:
    class NoRoom(Exception):
        pass

    def do(group: ConnectedGroup) -> None:
        def fail() -> None:
            if group.rank == fails:
                raise NoRoom("the disk is full")

        agreed(group, fail, (MsftError, NoRoom))

    told = trio.each(do)
    assert [type(one) for one in told] == [NoRoom] * 3
    assert str(told[fails]) == "the disk is full"
    assert str(told[fails - 1]) == f"process {fails} of 3: the disk is full"
    assert trio.each(lambda g: agreed(g, lambda: None)) == [None] * 3, "they are together again"


@pytest.mark.parametrize("of", [0, 1])
def test_an_interrupt_in_one_process_is_one_in_all_and_is_over_then(trio: Trio, of: int) -> None:
    def do(group: ConnectedGroup) -> None:
        def check() -> None:
            if group.rank == of:
                raise KeyboardInterrupt

        def work() -> None:
            while True:
                checking(group, check)()
                if of:  # only rank 0 hurries the others
                    return

        agreed(group, work)

    assert [type(one) for one in trio.each(do)] == [KeyboardInterrupt] * 3
    assert not any(group.hurried.is_set() for group in trio.groups)
    assert trio.each(lambda g: agreed(g, checking(g, lambda: None))) == [None] * 3


def test_rank_0_can_leave_an_epoch_while_the_others_are_in_its_next_step(trio: Trio) -> None:
    from msft_core.training.together import SharedStep

    none = Batch(np.empty(0, np.float32), np.empty(0, np.int32), np.empty(0, np.int64))
    unused: Any = None

    def do(group: ConnectedGroup) -> Any:
        step = SharedStep(unused, unused, 0, [], unused, group)
        return step.do(iter([none]), unused) if group.rank else step.leave(OSError("disk full"))

    told = trio.each(do)
    assert told[0] is None
    assert [str(one) for one in told[1:]] == ["process 0 of 3: OSError: disk full"] * 2
    # Nor has any of them done a step where the batch of one cannot be read.
    told = trio.each(
        lambda g: SharedStep(unused, unused, 0, [], unused, g).do(
            _unreadable() if g.rank == 2 else iter([none]), unused
        )
    )
    assert [str(one) for one in told] == ["process 2 of 3: no image"] * 2 + ["no image"]
    assert trio.each(lambda g: agreed(g, lambda: None)) == [None] * 3, "they are together again"


def _unreadable() -> Iterator[Batch]:
    raise DataError("no image")
    yield


# Interrupts


@pytest.mark.parametrize("patient", [False, True])
def test_a_second_signal_does_not_end_a_step_of_several_processes(patient: bool) -> None:
    interrupts = Interrupts()
    interrupts.patient = patient

    def step() -> str:
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append("step")
        return "not interrupted"

    done: list[str] = []
    with interrupts.caught(), pytest.raises(KeyboardInterrupt):
        step()
    assert done == (["step"] if patient else [])


def test_after_a_step_all_processes_stop_or_none_does() -> None:
    group, interrupts = Group(Ranks(1, 2, 1, 2, "a test")), Interrupts()
    with interrupts.caught(), interrupts.held(then_check=False):
        signal.raise_signal(signal.SIGINT)
        check_after_step(group, interrupts)  # the others do not know it yet
        group.stops = True
        with pytest.raises(KeyboardInterrupt):
            check_after_step(group, interrupts)
        assert not interrupts.pending
        check_after_step(group, interrupts)


# Parts of a batch


@given(st.integers(0, 60), st.integers(1, 9))
def test_the_parts_of_a_batch_are_the_batch_in_order(count: int, processes: int) -> None:
    portion = np.arange(count)
    parts = [part_of(portion, (rank, processes)) for rank in range(processes)]
    assert np.concatenate(parts).tolist() == portion.tolist()
    assert [first_of(count, (rank, processes)) for rank in range(processes)] == [
        sum(map(len, parts[:rank])) for rank in range(processes)
    ]
    sizes = [len(part) for part in parts if len(part)]
    assert not sizes or max(sizes) - min(sizes) <= 1
    if count > 1:
        assert 1 not in sizes, "batch norm would take the statistics of one image for those of all"


@pytest.mark.parametrize(("batch", "warned"), [(3, True), (4, False), (1, None)])
def test_processes_without_an_image_are_told_of(batch: int, warned: bool | None) -> None:
    config: Any = SimpleNamespace(
        runtime=SimpleNamespace(processes=2, sink=False),
        data=SimpleNamespace(pipeline="keyed"),
        training=SimpleNamespace(batch_size=batch, sync_batch_norm=False, drop_remainder=False),
    )
    reporter = RecordingReporter()
    ranks = Ranks(0, 2, 0, 2, "a test")
    if warned is None:
        with pytest.raises(UsageError, match="larger --batch-size"):
            require_together(config, ranks, reporter)
    else:
        require_together(config, ranks, reporter)
    told = any("1 of the 2 processes have nothing to do" in line for line in reporter.lines)
    assert told is bool(warned)


@pytest.mark.parametrize(
    ("batch", "drops", "fits"), [(4, True, True), (4, False, False), (5, True, False), (2, True, 0)]
)
def test_synchronised_batch_norm_needs_equal_parts(batch: int, drops: bool, fits: bool) -> None:
    config: Any = SimpleNamespace(
        runtime=SimpleNamespace(processes=2, sink=False),
        data=SimpleNamespace(pipeline="keyed"),
        training=SimpleNamespace(batch_size=batch, sync_batch_norm=True, drop_remainder=drops),
    )
    with nullcontext() if fits else pytest.raises(UsageError, match="equally many images"):
        require_together(config, Ranks(0, 2, 0, 2, "a test"), RecordingReporter())


def test_rank_0_alone_says_how_it_goes_where_all_print_to_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in MPIRUN.items():
        monkeypatch.setenv(name, value)
    assert run._is_overheard()
    monkeypatch.setattr(launched, "_launch", tmp_path)  # its output goes to a log of its own
    assert not run._is_overheard()
    monkeypatch.setattr(launched, "_launch", None)
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    assert not run._is_overheard()


@pytest.mark.parametrize("begun", [False, True])
def test_a_scheduler_that_dies_at_the_start_may_lack_its_port(tmp_path: Path, begun: bool) -> None:
    started = launch._Launch(tmp_path, launch.Cluster(2, master_port=4321), {}, port=4321)
    (tmp_path / "pid-scheduler").write_text("9")
    if begun:
        (tmp_path / "run").write_text(str(tmp_path))
    assert ("port 4321 in use on 127.0.0.1" in str(started._death(["scheduler"]))) is not begun


# Places


MSRUN = {
    "MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "4", "MS_NODE_ID": "3", "DEVICE_ID": "1",
    "MSFT_LOCAL_PROCESSES": "2",
}  # fmt: skip
SLURM = {
    "SLURM_STEP_NUM_TASKS": "7", "SLURM_PROCID": "6", "SLURM_LOCALID": "0", "SLURM_NODEID": "3",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3),1", "SLURM_STEP_NODELIST": "node[01-03,7],login",
}  # fmt: skip
MPIRUN = {
    "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
}  # fmt: skip
KUBERNETES = {"WORLD_SIZE": "3", "RANK": "2", "MASTER_ADDR": "job-0", "MASTER_PORT": "23456"}


@pytest.mark.parametrize(
    ("env", "place"),
    [
        ({}, ALONE),
        (MSRUN, Ranks(3, 4, 1, 2, "msrun")),
        (SLURM, Ranks(6, 7, 0, 1, "Slurm", "node01")),
        (SLURM | {"SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1"},
         Ranks(3, 7, 1, 2, "Slurm", "node01")),
        (MPIRUN, Ranks(1, 2, 1, 2, "mpirun", "127.0.0.1")),
        (KUBERNETES, Ranks(2, 3, 0, 1, "RANK and WORLD_SIZE", "job-0", 23456)),
        (KUBERNETES | {"LOCAL_RANK": "2"},
         Ranks(2, 3, 2, 3, "RANK and WORLD_SIZE", "job-0", 23456)),
        # One process alone
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, ALONE),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, ALONE),
        (MPIRUN | {"OMPI_COMM_WORLD_SIZE": "1"}, ALONE),
        ({"WORLD_SIZE": "1", "RANK": "0"}, ALONE),
        ({"WORLD_SIZE": "", "RANK": ""}, ALONE),
    ],
)  # fmt: skip
def test_a_place_is_read_from_what_started_the_process(env: dict[str, str], place: Ranks) -> None:
    assert ranks_of(env) == place


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({"MS_ROLE": "MS_WORKER"}, "MS_WORKER_NUM=''"),
        (MSRUN | {"MSFT_LOCAL_PROCESSES": "two"}, "MSFT_LOCAL_PROCESSES='two'"),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "many"}, "SLURM_STEP_NUM_TASKS='many'"),
        (SLURM | {"SLURM_STEP_NODELIST": ""}, "MASTER_ADDR"),
        (MPIRUN | {"OMPI_COMM_WORLD_SIZE": "-2"}, "OMPI_COMM_WORLD_SIZE='-2'"),
        (MPIRUN | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "0"},
         "MASTER_ADDR"),
        (KUBERNETES | {"WORLD_SIZE": "3.0"}, "WORLD_SIZE='3.0'"),
        (KUBERNETES | {"RANK": "3"}, "process 3 of 3"),
        (KUBERNETES | {"LOCAL_RANK": "x"}, "LOCAL_RANK='x'"),
        (KUBERNETES | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "1"}, "number 1 of 1 on its host"),
        (KUBERNETES | {"MASTER_ADDR": ""}, "MASTER_ADDR"),
        (KUBERNETES | {"MASTER_PORT": "any"}, "MASTER_PORT='any'"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused(env: dict[str, str], problem: str) -> None:
    with pytest.raises(UsageError) as refusal:
        ranks_of(env)
    assert problem in str(refusal.value)


# The launch


def test_an_output_that_is_closed_or_no_terminal_has_no_terminals_name(tmp_path: Path) -> None:
    terminal, other = os.openpty()
    with (tmp_path / "out.txt").open("w") as file:
        assert relay._name_of(file.fileno()) == ""
        closed = file.fileno()
    assert relay._name_of(closed) == os.devnull
    assert relay._name_of(other) == os.ttyname(other)
    os.close(terminal)
    os.close(other)


def test_a_process_gets_its_share_of_the_cpus_or_all_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: taken.append(cpus), False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for local in range(2):
        launched._take_share_of_cpus(local, 2)
    for local in range(4):  # more than there are: none is bound to a CPU that another has too
        launched._take_share_of_cpus(local, 4)
    assert taken == [[0], [1, 2]]


def test_a_signal_reaches_processes_that_begin_after_it_and_each_of_them_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append(pid))
    started = launch._Launch(tmp_path, launch.Cluster(3), {})
    for name, pid in (("pid-1", 11), ("pid-0", 10), ("pid-scheduler", 9)):
        (tmp_path / name).write_text(str(pid))
    started._pass_on(signal.SIGTERM)
    (tmp_path / "pid-2").write_text("12")
    started._pass_on(signal.SIGTERM, started.told)
    assert sent == [10, 11, 12], "rank 0 first, and not the scheduler"


def test_a_programs_name_with_any_character_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / 'a "b" $HOME `c`' / "python3.11"
    odd.parent.mkdir()
    odd.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(odd))
    name, path = launch._python(tmp_path)
    asked = [str(Path(path.split(os.pathsep)[0]) / name), "-c", "print('here')"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "here\n"


def test_the_launcher_shows_the_last_words_of_a_process_that_rank_0_saw_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = launch._Launch(tmp_path, launch.Cluster(2), {})
    assert started.about_lost() == ""
    (tmp_path / "pid-1").write_text("77")
    (tmp_path / "worker_1.log").write_text("step 3\nno memory\n")
    (tmp_path / "msrun.log").write_text("Worker process 77 exit with exception. Error code: -9.")
    (tmp_path / "run").write_text("my run")
    monkeypatch.setattr(launched, "_launch", tmp_path)
    launched.note_lost(1)
    launched.note_lost(0)  # the first counts
    assert started.about_lost().splitlines() == [
        "process 1 of 2 (pid 77) was killed by signal 9.",
        "Its last words:",
        "  step 3",
        "  no memory",
        "Go on with: msft run --resume 'my run'",
    ]
    (tmp_path / "ended-1").write_text("130")
    assert started.about_lost() == ""  # it left in order


def test_a_process_that_leaves_after_rank_0_is_not_called_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ended-0").write_text("1")
    monkeypatch.setattr(launched, "_launch", tmp_path)
    launched.note_lost(1)
    assert launch._Launch(tmp_path, launch.Cluster(2), {}).about_lost() == ""
