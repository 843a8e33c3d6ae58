"""The processes that train together: how they meet, and what they tell each other.

Gradients go through MindSpore's collective library (HCCL, NCCL, or mccl on CPUs). Everything else
is small and goes over a connection from each process to rank 0: commands, agreements, outputs of
evaluation, who was interrupted, who died. There a process may wait for as long as rank 0 draws
pictures or compiles a step; mccl gives up when one process comes 30 s after another. So the
processes agree over these connections before each call of the library.
"""

from __future__ import annotations

import hmac
import json
import os
import queue
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from msft_core.errors import MsftError, UsageError
from msft_core.system.ranks import ALONE, HERE, Ranks
from msft_core.types import Array

_HEADER = struct.Struct("<IQ")  # lengths of the JSON text and of the bytes after it
_TOKEN_BYTES = 16
_MEETING_SECONDS = 300.0
_GRACE_SECONDS = 3.0
"""So long may rank 0 take to end in order when another process has died."""

_BUCKET = 1_000_000
"""Values in one collective call. Of 25 million, mccl takes 0.7 s in calls of a million and 1.4 s in
one call; where a part is not copied first but is a view of the whole, 1.7 s."""


class PeerDied(MsftError):
    """Another process of the group is gone."""


@dataclass
class Frame:
    """What one process tells another.

    Args:
        value: a JSON value.
        data: bytes that belong to it.
    """

    value: Any
    data: bytes = b""


class Group:
    """The processes of a run. Of one process alone, every method does nothing but give back.

    Args:
        ranks: the place of this process.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.rank, self.size = ranks.rank, ranks.size
        self.pids: list[int] = [os.getpid()]
        """The process id of each rank."""
        self.hosts: list[str] = [socket.gethostname()]
        """The host of each rank."""
        self.hurried = threading.Event()
        """Set when rank 0 was interrupted, so that others end what they do alone."""
        self.interrupted: Callable[[], bool] = lambda: False
        """Whether a signal has come to this process."""
        self.stops = False
        """Whether all processes end the epoch after this step: one was interrupted before it."""

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder and calls the plugins."""
        return self.rank == 0

    # Agreements

    def all(self, value: Any, what: str = "") -> list[Any]:
        """What each process says, a JSON value, in the order of ranks. All must call it.

        Args:
            value: of this process.
            what: the same in all processes; where it is not, they have come apart.
        """
        return [value]

    def from_first(self, value: Any = None) -> Any:
        """What rank 0 says, a JSON value. All must call it."""
        return value

    def rows(self, array: Array) -> list[Array] | None:
        """The arrays of all processes, in the order of ranks; None except at rank 0."""
        return [array]

    def sum(self, tensor: Any) -> Any:
        """The sum of a float32 tensor (n,) over all processes, through MindSpore."""
        return tensor

    def tell(self, do: str, **arguments: Any) -> None:
        """At rank 0: have the others do something. See ``commands``."""

    def hurry(self) -> None:
        """At rank 0: tell the others that the run was interrupted."""

    def commands(self) -> Iterator[Mapping[str, Any]]:
        """At the other ranks: what rank 0 tells them to do, until the run ends.

        Raises:
            MsftError: the run failed, or rank 0 is gone.
            KeyboardInterrupt: it was interrupted.
        """
        return iter(())

    @contextmanager
    def leader_of_host_first(self) -> Iterator[None]:
        """One process of each host does the block; then the others, who find it done."""
        yield

    def close(self, error: BaseException | None = None) -> None:
        """Leave the group in order. Rank 0 has the others do so too.

        Args:
            error: what ended the run, if it did not come to its end.
        """


class ConnectedGroup(Group):
    """Several processes.

    Args:
        ranks: the place of this process.
        peers: for rank 0 a connection from each other process by rank; for the others one to
            rank 0.
        died: called, in another thread, with the rank of a process that is gone unexpectedly.
    """

    def __init__(
        self, ranks: Ranks, peers: Mapping[int, socket.socket], died: Callable[[int], None]
    ) -> None:
        super().__init__(ranks)
        self._peers, self._died = peers, died
        self._received: dict[int, queue.Queue[Frame | None]] = {r: queue.Queue() for r in peers}
        self._closing = False
        self._write = threading.Lock()
        for rank, peer in peers.items():
            threading.Thread(
                target=self._listen, args=(rank, peer), daemon=True, name=f"msft-rank-{rank}"
            ).start()
        facts = self.all([os.getpid(), socket.gethostname()])
        self.pids, self.hosts = [pid for pid, _ in facts], [host for _, host in facts]

    def all(self, value: Any, what: str = "") -> list[Any]:
        """See ``Group``."""
        if not self.leads:
            self._send(0, Frame([what, value]))
            return list(self._said(0, what))
        values = [value] + [self._said(rank, what) for rank in range(1, self.size)]
        self._send_all(Frame([what, values]))
        return values

    def _said(self, rank: int, what: str) -> Any:
        """The value in the next frame of a process, which must be about the same."""
        return self._content(self._receive(rank), rank, what)

    def _content(self, frame: Frame, rank: int, what: str) -> Any:
        if isinstance(frame.value, list) and len(frame.value) == 2 and frame.value[0] == what:
            return frame.value[1]
        raise PeerDied(
            f"process {rank} of {self.size} is no longer where this one is "
            f"({what or 'the next step'}): its log says why."
        )

    def from_first(self, value: Any = None) -> Any:
        """See ``Group``."""
        if not self.leads:
            return self._said(0, "first")
        self._send_all(Frame(["first", value]))
        return value

    def rows(self, array: Array) -> list[Array] | None:
        """See ``Group``."""
        import numpy as np

        if not self.leads:
            data = np.ascontiguousarray(array).tobytes()
            self._send(0, Frame(["rows", [array.dtype.str, list(array.shape)]], data))
            return None
        found = [array]
        for rank in range(1, self.size):
            frame = self._receive(rank)
            dtype, shape = self._content(frame, rank, "rows")
            found.append(np.frombuffer(frame.data, dtype).reshape(shape))
        return found

    def sum(self, tensor: Any) -> Any:
        """See ``Group``."""
        from mindspore import ops

        reduce = ops.AllReduce()
        if tensor.size <= _BUCKET:
            return reduce(tensor)
        parts = [tensor[start : start + _BUCKET] for start in range(0, tensor.size, _BUCKET)]
        return ops.concat([reduce(part.contiguous()) for part in parts])

    def tell(self, do: str, **arguments: Any) -> None:
        """See ``Group``."""
        self._send_all(Frame({"do": do, **arguments}))

    def hurry(self) -> None:
        """See ``Group``."""
        if not self.hurried.is_set():
            self.hurried.set()
            self._send_all(Frame("hurry"))

    def commands(self) -> Iterator[Mapping[str, Any]]:
        """See ``Group``."""
        while True:
            command = self._receive(0).value
            if not isinstance(command, dict):
                raise PeerDied("process 0 went on without this one: its log says why.")
            if command["do"] != "end":
                yield command
            elif command["error"] == KeyboardInterrupt.__name__:
                raise KeyboardInterrupt
            elif command["error"]:
                raise MsftError("the run failed: what process 0 printed says why.")
            else:
                return

    @contextmanager
    def leader_of_host_first(self) -> Iterator[None]:
        """See ``Group``."""
        if self.ranks.local == 0:
            yield
        self.all(None)
        if self.ranks.local != 0:
            yield
        self.all(None)

    def close(self, error: BaseException | None = None) -> None:
        """See ``Group``."""
        self._closing = True
        if self.leads:
            with suppress(MsftError):
                self.tell("end", error=type(error).__name__ if error else "")
        for peer in self._peers.values():
            with suppress(OSError):
                peer.shutdown(socket.SHUT_WR)

    # Frames

    def _send_all(self, frame: Frame) -> None:
        for rank in self._peers:
            self._send(rank, frame)

    def _send(self, rank: int, frame: Frame) -> None:
        text = json.dumps(frame.value).encode()
        try:
            with self._write:
                peer = self._peers[rank]
                peer.sendall(_HEADER.pack(len(text), len(frame.data)) + text)
                peer.sendall(frame.data)
        except OSError as error:
            raise self._gone(rank) from error

    def _receive(self, rank: int) -> Frame:
        frame = self._received[rank].get()
        if frame is None:
            self._received[rank].put(None)  # whoever asks again learns it too
            raise self._gone(rank)
        return frame

    def _gone(self, rank: int) -> PeerDied:
        return PeerDied(f"process {rank} of the {self.size} of this run is gone.")

    def _listen(self, rank: int, peer: socket.socket) -> None:
        """Take in what a peer sends, for as long as it lives."""
        while frame := _read_frame(peer):
            if frame.value == "hurry":
                self.hurried.set()
            else:
                if isinstance(frame.value, dict) and frame.value.get("do") == "end":
                    self._closing = True
                self._received[rank].put(frame)
        self._received[rank].put(None)
        if not self._closing:
            self._died(rank)


def _read_frame(peer: socket.socket) -> Frame | None:
    """The next frame; None where the connection has ended."""
    try:
        header = _read(peer, _HEADER.size)
        if len(header) < _HEADER.size:
            return None
        of_text, of_data = _HEADER.unpack(header)
        text, data = _read(peer, of_text), _read(peer, of_data)
        if len(text) < of_text or len(data) < of_data:
            return None
        return Frame(json.loads(text), data)
    except OSError:
        return None


def _read(peer: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = peer.recv(min(count - len(parts), 1 << 20))
        if not part:
            break
        parts += part
    return bytes(parts)


# How they meet


def set_mindspore_variables(ranks: Ranks) -> None:
    """Tell MindSpore the places, where something else than msrun has started the processes."""
    if not ranks.master:
        return
    try:
        host = socket.gethostbyname(ranks.master)
    except OSError as error:
        raise UsageError(
            f"{ranks.master}, where {ranks.started_by} has started process 0, is not known here "
            f"({error.strerror or error}): set MASTER_ADDR to an address that all hosts know."
        ) from error
    os.environ.update(
        MS_WORKER_NUM=str(ranks.size),
        MS_SCHED_HOST=host,
        MS_SCHED_PORT=str(ranks.port),
        MS_NODE_ID=str(ranks.rank),
        MS_ROLE="MS_WORKER",
        RANK_ID=str(ranks.rank),
        RANK_SIZE=str(ranks.size),
        DEVICE_ID=str(ranks.local),
    )
    os.environ[HERE] = str(ranks.local_size)  # a second run of this process reads these
    if ranks.rank == 0:
        subprocess.Popen(
            [sys.executable, "-c", "from msft_core.system.group import schedule; schedule()"],
            # Not with modules of the working directory.
            env={**os.environ, "MS_ROLE": "MS_SCHED", "RANK_ID": "0", "PYTHONSAFEPATH": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def schedule() -> None:
    """What MindSpore's scheduler does: bring the others together, and end when they have ended."""
    parent = os.getppid()  # at once: it may die while MindSpore is imported
    import mindspore

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    mindspore.set_device("CPU")
    from mindspore import communication

    communication.init("mccl")


def join(
    ranks: Ranks, device: str, say: Callable[[str], None], lost: Callable[[int], None]
) -> Group:
    """Meet the other processes. MindSpore must have been pointed at its device.

    Args:
        ranks: the place of this process.
        device: cpu, gpu or ascend.
        say: prints a line for the user where another process dies and this one must end.
        lost: is called before that, at once, with the rank of the other process.

    Raises:
        MsftError: they do not come together.
    """
    if ranks.size == 1:
        return Group(ranks)
    from mindspore import communication

    library = {"cpu": "mccl", "gpu": "nccl", "ascend": "hccl"}[device]
    try:
        communication.init(library)
        if (communication.get_rank(), communication.get_group_size()) != (ranks.rank, ranks.size):
            raise RuntimeError(f"MindSpore calls it process {communication.get_rank()}")
        peers = _connect(ranks)
    except (RuntimeError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MsftError(
            f"process {ranks.rank} does not meet the other {ranks.size - 1} ({library}): {reason}."
        ) from error

    def died(rank: int) -> None:
        lost(rank)
        # The other threads may be waiting inside the collective library, for ever.
        time.sleep(_GRACE_SECONDS)
        say(f"process {rank} of {ranks.size} died, so this one ends.")
        os._exit(1)

    return ConnectedGroup(ranks, peers, died)


def _connect(ranks: Ranks) -> dict[int, socket.socket]:
    """Connect each process with rank 0, whose port and secret go through MindSpore."""
    import mindspore as ms
    import numpy as np
    from mindspore import ops

    # As numbers of 16 bits: every collective library takes int32.
    greeting = np.zeros(1 + _TOKEN_BYTES // 2, np.int32)
    listener = None
    host = os.environ["MS_SCHED_HOST"]
    if ranks.rank == 0:
        listener = socket.create_server((host, 0), backlog=ranks.size)
        token = secrets.token_bytes(_TOKEN_BYTES)
        greeting[0] = listener.getsockname()[1]
        greeting[1:] = np.frombuffer(token, np.uint16)
    greeting = ops.Broadcast(0)((ms.Tensor(greeting),))[0].asnumpy()
    token = greeting[1:].astype(np.uint16).tobytes()
    if listener is None:
        peer = socket.create_connection((host, int(greeting[0])), _MEETING_SECONDS)
        peer.sendall(token + struct.pack("<I", ranks.rank))
        return {0: _ready(peer)}
    found: dict[int, socket.socket] = {}
    listener.settimeout(_MEETING_SECONDS)
    with listener:
        while len(found) < ranks.size - 1:
            peer, _ = listener.accept()
            peer.settimeout(10.0)
            with suppress(OSError, struct.error):
                said = _read(peer, _TOKEN_BYTES + 4)
                (rank,) = struct.unpack("<I", said[_TOKEN_BYTES:])
                if hmac.compare_digest(said[:_TOKEN_BYTES], token) and 0 < rank < ranks.size:
                    found[rank] = _ready(peer)
                    continue
            peer.close()
    return found


def _ready(peer: socket.socket) -> socket.socket:
    peer.settimeout(None)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer
