"""Protobuf's wire format: https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

_LENGTH_DELIMITED = 2
"""The wire type of strings, bytes and messages."""


def field(number: int, content: bytes) -> bytes:
    """A field of strings, bytes or messages: its key, the length, the content."""
    return key(number) + varint(len(content)) + content


def key(number: int) -> bytes:
    """What a field of strings, bytes or messages begins with."""
    return varint(number << 3 | _LENGTH_DELIMITED)


def varint(number: int) -> bytes:
    """An integer, 0 or above: seven bits a byte, the lowest first; the upper bit says that there
    are more.
    """
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
