"""Stretches of zeros in a JPEG, as broken disks and downloads leave them: libjpeg decodes them without a complaint."""

from __future__ import annotations

import re
from collections.abc import Iterator

SCAN_END = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # a marker that is neither a stuffed byte nor a restart
SHORT, LONG = 32, 512  # bytes of zeros; LONG is a sector of a disk
BAND = 5  # coefficients of a progressive scan: so many that they are not all -1 in block after block
TABLES, SCAN, END, PROGRESSIVE, ARITHMETIC = 0xC4, 0xDA, 0xD9, 0xC2, (0xC9, 0xCA, 0xCB)  # markers


def zeroed(content: bytes) -> bool:
    """Whether a JPEG's compressed pixels hold zeros that no encoder has written.

    Zero bits stand for the first symbol of a Huffman table. Where that is a coefficient of -1, a few dozen zero bytes
    would be blocks whose coefficients are all -1, which no picture has. Where it is a step of the mean and then the end
    of a block, they would be a ramp of some hundred blocks. Where it is no step (a flat area, written with tables of
    its own) nothing can be told, and so for the refining scans of a progressive JPEG.
    """
    if bytes(SHORT) not in content:
        return False
    try:
        return any(content.find(bytes(least), first, last) >= 0 for first, last, least in _scans(content))
    except IndexError:
        return False  # cut short, which decoding finds


def _scans(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(first byte, byte after the last, how many zeros are too many) of the scans of the first image in a file."""
    first_symbol: dict[int, int] = {}  # by class (16: AC) and number of a table
    place, progressive = 2, False
    while content[place] == 0xFF and content[place + 1] != END and content[place + 1] not in ARITHMETIC:
        marker = content[place + 1]
        if marker == 0xFF:  # a byte that fills up
            place += 1
            continue
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        segment = content[place + 4 : end]
        place = end
        if marker == TABLES:
            first_symbol.update(_tables(segment))
        elif marker == PROGRESSIVE:
            progressive = True
        elif marker == SCAN:
            found = SCAN_END.search(content, end)
            place = found.end() - 2 if found else len(content)
            least = _too_many(segment, first_symbol, progressive)
            if least:
                yield end, place, least


def _tables(segment: bytes) -> Iterator[tuple[int, int]]:
    """A table's class and number, and its first symbol, whose code is all zeros."""
    while segment:
        yield segment[0], segment[17]
        segment = segment[17 + sum(segment[1:17]) :]


def _too_many(header: bytes, first_symbol: dict[int, int], progressive: bool) -> int:
    """How many zero bytes a scan can't have; 0: any number may be right."""
    components = header[0]
    chosen = [header[2 + 2 * i] for i in range(components)]
    first, last, bits = header[1 + 2 * components : 4 + 2 * components]
    if bits >> 4:
        return 0
    steps = any(first_symbol.get(tables >> 4) for tables in chosen) if first == 0 else False
    coefficients = any(first_symbol.get(0x10 | tables & 15, 0) & 15 for tables in chosen) if last else False
    if not progressive:
        return SHORT if coefficients else LONG if steps else 0
    if first == 0:
        return LONG if steps else 0
    return (SHORT if last - first + 1 >= BAND else LONG) if coefficients else 0
