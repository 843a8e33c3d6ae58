"""Change valid files a little: random bytes alone find little, since readers refuse them early."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

NUMBERS = (0, 1, 2, 7, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
TOKENS = (
    b"", b"\0", b"-1", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b"9" * 5000,
    b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"\xff\xfe", b"\xed\xa0\x80", b"\n", b",", b'"',
    b"=", b"a." * 3000, b"x" * 100_000,
)  # fmt: skip
ODD_VALUES = (
    None, True, -1, 0, 1, 2**31, 2**64, -(2**63), 1e300, 5e-324, float("nan"), float("inf"),
    "", "x", "\ud800", "../..", "/etc/passwd", "0", "nan", "x" * 10_000, [], [[]], {}, {"a": 1},
    [None], [1, 2, 3], [["a", "b"]], {"": {}}, [10**400 % 10**18],
)  # fmt: skip


@st.composite
def changed(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """One of the samples with one to four changes."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 8)):
            case 0 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1 if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + draw(st.integers(1, 40))]
            case 4:
                size = draw(st.sampled_from((1, 2, 4, 8)))
                order = draw(st.sampled_from(("little", "big")))
                number = draw(st.sampled_from(NUMBERS)) % 256**size
                data[at : at + size] = number.to_bytes(size, order)  # type: ignore[arg-type]
            case 5:
                other = draw(st.sampled_from(samples))
                start = draw(st.integers(0, len(other)))
                data[at:] = other[start:]
            case 6:
                part = data[at : at + draw(st.integers(1, 200))]
                data[at:at] = part * draw(st.sampled_from((1, 2, 50)))
            case 7:
                data[at : at + draw(st.integers(0, 12))] = draw(st.sampled_from(TOKENS))
            case _:
                data[at:at] = draw(st.binary(max_size=20))
    return bytes(data)


@st.composite
def changed_json(draw: st.DrawFn, text: str) -> Any:
    """A JSON value in which one or two values or keys are others, or missing."""
    value = json.loads(text)
    for _ in range(draw(st.integers(1, 2))):
        holders: list[Any] = []

        def walk(item: Any, holders: list[Any] = holders) -> None:
            if isinstance(item, (dict, list)) and item:
                holders.append(item)
                for inner in item.values() if isinstance(item, dict) else item:
                    walk(inner)

        walk(value)
        if not holders:
            break
        holder = draw(st.sampled_from(range(len(holders))))
        item = holders[holder]
        key = draw(st.sampled_from(list(item) if isinstance(item, dict) else range(len(item))))
        match draw(st.integers(0, 5)):
            case 0:
                del item[key]
            case 1 if isinstance(item, dict):
                item[draw(st.sampled_from(("", "x", "\u0000", "a.b")))] = item.pop(key)
            case 1:
                item.append(deepcopy(item[key]))
            case _:
                item[key] = deepcopy(draw(st.sampled_from(ODD_VALUES)))
    return value


def rebuilt(text: str, build: Callable[[Any], bytes]) -> st.SearchStrategy[bytes]:
    """Files with changed values, but with lengths and checksums that are right."""
    return changed_json(text).map(build)


def footer(text: bytes, crc: int, magic: bytes) -> bytes:
    """The end of a segment of features."""
    return struct.pack("<II8s", crc, len(text), magic)
