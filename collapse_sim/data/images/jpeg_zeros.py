"""Detects runs of zeros in a JPEG, as left by broken disks and downloads: libjpeg decodes them without an error."""

from __future__ import annotations

import re
from collections.abc import Iterator

SCAN_END = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # a marker that is neither a stuffed byte nor a restart
SHORT, LONG = 32, 512  # zero bytes; LONG is a disk sector
BAND = 5  # coefficients of a progressive scan: with this many they are not all -1 in successive blocks
TABLES, SCAN, END, PROGRESSIVE, ARITHMETIC = 0xC4, 0xDA, 0xD9, 0xC2, (0xC9, 0xCA, 0xCB)  # markers


def zeroed(content: bytes) -> bool:
    """Whether a JPEG's compressed pixels contain zeros that no encoder has written.

    Zero bits encode the first symbol of a Huffman table. If that is a coefficient of -1, a few dozen zero bytes would
    be blocks whose coefficients are all -1, which no image has. If it is a step of the mean followed by the end of a
    block, they would be a ramp of some hundred blocks. If it is no step (a flat area, with its own tables), or in the
    refining scans of a progressive JPEG, such zeros cannot be detected.
    """
    if bytes(SHORT) not in content:
        return False
    try:
        return any(content.find(bytes(limit), first, last) >= 0 for first, last, limit in _scans(content))
    except IndexError:
        return False  # truncated, which decoding detects


def _scans(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(first byte, byte after the last, impossible number of zeros) for each scan of the first image in a file."""
    first_symbol: dict[int, int] = {}  # by table class (16: AC) and number
    position, progressive = 2, False
    while content[position] == 0xFF and content[position + 1] != END and content[position + 1] not in ARITHMETIC:
        marker = content[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
        segment = content[position + 4 : end]
        position = end
        if marker == TABLES:
            first_symbol.update(_tables(segment))
        elif marker == PROGRESSIVE:
            progressive = True
        elif marker == SCAN:
            match = SCAN_END.search(content, end)
            position = match.end() - 2 if match else len(content)
            limit = _zero_limit(segment, first_symbol, progressive)
            if limit:
                yield end, position, limit


def _tables(segment: bytes) -> Iterator[tuple[int, int]]:
    """(class and number, first symbol) of each table; the code of the first symbol is all zeros."""
    while segment:
        yield segment[0], segment[17]
        segment = segment[17 + sum(segment[1:17]) :]


def _zero_limit(header: bytes, first_symbol: dict[int, int], progressive: bool) -> int:
    """The number of zero bytes that a valid scan cannot contain; 0: any number may be valid."""
    components = header[0]
    selectors = [header[2 + 2 * i] for i in range(components)]
    first, last, bits = header[1 + 2 * components : 4 + 2 * components]
    if bits >> 4:
        return 0
    steps = any(first_symbol.get(tables >> 4) for tables in selectors) if first == 0 else False
    coefficients = any(first_symbol.get(0x10 | tables & 15, 0) & 15 for tables in selectors) if last else False
    if not progressive:
        return SHORT if coefficients else LONG if steps else 0
    if first == 0:
        return LONG if steps else 0
    return (SHORT if last - first + 1 >= BAND else LONG) if coefficients else 0
