"""Encoding detection, for error messages only: a guess is never applied silently."""

from __future__ import annotations

import codecs
import re

SAMPLE = 1 << 15
# Candidates for charset-normalizer: given all of Python's codecs it prefers rare ones.
WESTERN = ["cp1252", "cp1250", "cp1254", "cp1257"]
WORLD = [
    *("gb18030", "cp932", "cp949", "big5", "euc_jp"),
    *("cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874", "cp1252", "cp1250"),
]
FALLBACKS = ["cp1252", "gb18030", "shift_jis", "euc-kr", "latin-1"]
# Codecs of Python that are not file encodings: their texts may hold lone surrogates.
NOT_OF_FILES = {"unicode-escape", "raw-unicode-escape", "utf-7", "punycode", "idna", "undefined"}
# Windows' superset of a standard is named only if the file needs it.
STANDARD = {"cp932": "shift_jis", "cp949": "euc-kr", "koi8_r": "koi8-r", "euc_jp": "euc-jp"}


def codec_of(encoding: str) -> str:
    """Return Python's codec for an encoding; for UTF-8, the one that skips a byte order mark.

    Raises LookupError or ValueError if the encoding is unknown or not one of files.
    """
    if codecs.lookup(encoding).name.replace("_", "-") in NOT_OF_FILES:
        raise LookupError(f"'{encoding}' is no encoding of files")
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def decodes(data: bytes, codec: str) -> bool:
    """Return whether all of the data decodes with this codec."""
    try:
        return data.decode(codec) is not None
    except (UnicodeError, LookupError):
        return False


def failing_line(data: bytes, codec: str) -> int:
    """Return the number of the first line, from 1, that does not decode with this codec."""
    try:
        data.decode(codec)
    except UnicodeDecodeError as e:
        return data.count(b"\n", 0, e.start) + 1
    except UnicodeError:  # UTF-16 without a byte order mark
        pass
    return 1


def likely_encoding(data: bytes) -> str | None:
    """Return the most likely encoding in which all of the data decodes; None if it is not text.

    charset-normalizer ranks encodings by up to 32 KiB of the lines that are not ASCII.
    """
    if decodes(data, "utf-8"):
        return "utf-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16" if decodes(data, "utf-16") else None
    if b"\0" in data:  # an archive, an image
        return None
    ranked = _ranked(data)
    names = [name for codec in ranked for name in (STANDARD.get(codec, codec), codec)]
    return next((name for name in [*names, *FALLBACKS] if decodes(data, name)), None)


def _ranked(data: bytes) -> list[str]:
    """Return the likely encodings of a bounded sample, most likely first."""
    from charset_normalizer import from_bytes  # here: only a wrong encoding needs it

    sample = _non_ascii_lines(data)
    high = len(re.findall(rb"[\x80-\xff]", sample))
    lone = len(re.findall(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])", sample))
    # Accents stand alone among ASCII letters; other scripts come in runs.
    western = high < len(sample) / 4 and lone > high / 2
    sample = (sample + b"\n") * max(1, 512 // len(sample))  # a shorter sample is ranked badly
    found = from_bytes(sample, cp_isolation=WESTERN if western else WORLD)
    names = [match.encoding for match in found]
    if any(_same(sample, "cp1252", name) for name in names):
        names.insert(0, "cp1252")  # by far the most frequent of those that decode to the same text
    return names


def _non_ascii_lines(data: bytes) -> bytes:
    found, size = [], 0
    for line in re.finditer(rb"[^\n]*[\x80-\xff][^\n]*", data):
        found.append(line.group()[:SAMPLE])
        size += len(found[-1])
        if size >= SAMPLE:
            break
    return b"\n".join(found)


def _same(data: bytes, one: str, other: str) -> bool:
    return decodes(data, one) and decodes(data, other) and data.decode(one) == data.decode(other)
