"""Which encoding a file has: a guess for an error message, never applied in silence."""

from __future__ import annotations

import codecs
import re

from charset_normalizer import from_bytes

SAMPLE = 1 << 15
# What charset-normalizer chooses among: with every codec of Python it prefers curiosities.
WESTERN = ["cp1252", "cp1250", "cp1254", "cp1257"]
WORLD = [
    *("gb18030", "cp932", "cp949", "big5", "euc_jp"),
    *("cp1251", "koi8_r", "cp1253", "cp1255", "cp1256", "cp874", "cp1252", "cp1250"),
]
FALLBACKS = ["cp1252", "gb18030", "shift_jis", "euc-kr", "latin-1"]
# Codecs of Python that are no encodings of files: their texts may hold halves of surrogate pairs.
NOT_OF_FILES = {"unicode-escape", "raw-unicode-escape", "utf-7", "punycode", "idna", "undefined"}
# Windows' superset of a standard is named only where the file needs it.
STANDARD = {"cp932": "shift_jis", "cp949": "euc-kr", "koi8_r": "koi8-r", "euc_jp": "euc-jp"}


def codec_of(encoding: str) -> str:
    """Python's codec for an encoding; that of UTF-8 passes over a byte order mark.

    Raises LookupError or ValueError where there is none, or where it is not one of files.
    """
    if codecs.lookup(encoding).name.replace("_", "-") in NOT_OF_FILES:
        raise LookupError(f"'{encoding}' is no encoding of files")
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def decodes(data: bytes, codec: str) -> bool:
    """Whether the whole of the data is in this encoding."""
    try:
        return data.decode(codec) is not None
    except (UnicodeError, LookupError):
        return False


def failing_line(data: bytes, codec: str) -> int:
    """The first line, from 1, that is not in this encoding."""
    try:
        data.decode(codec)
    except UnicodeDecodeError as e:
        return data.count(b"\n", 0, e.start) + 1
    except UnicodeError:  # UTF-16 without its mark
        pass
    return 1


def likely_encoding(data: bytes) -> str | None:
    """The encoding a text most likely has, in which all of it can be read; None for no text.

    charset-normalizer judges the lines that are not ASCII, up to 32 KiB of them.
    """
    if decodes(data, "utf-8"):
        return "utf-8"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16" if decodes(data, "utf-16") else None
    if b"\0" in data:  # an archive, a picture
        return None
    ranked = _ranked(data)
    names = [name for codec in ranked for name in (STANDARD.get(codec, codec), codec)]
    return next((name for name in [*names, *FALLBACKS] if decodes(data, name)), None)


def _ranked(data: bytes) -> list[str]:
    """Likely encodings of a bounded sample, the most likely first."""
    sample = _telling_lines(data)
    high = len(re.findall(rb"[\x80-\xff]", sample))
    lone = len(re.findall(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])", sample))
    # Accents stand alone among ASCII letters; other scripts come in runs.
    western = high < len(sample) / 4 and lone > high / 2
    sample = (sample + b"\n") * max(1, 512 // len(sample))  # shorter ones are judged badly
    found = from_bytes(sample, cp_isolation=WESTERN if western else WORLD)
    names = [match.encoding for match in found]
    if any(_same(sample, "cp1252", name) for name in names):
        names.insert(0, "cp1252")  # by far the most frequent of those that read the same
    return names


def _telling_lines(data: bytes) -> bytes:
    found, size = [], 0
    for line in re.finditer(rb"[^\n]*[\x80-\xff][^\n]*", data):
        found.append(line.group()[:SAMPLE])
        size += len(found[-1])
        if size >= SAMPLE:
            break
    return b"\n".join(found)


def _same(data: bytes, one: str, other: str) -> bool:
    return decodes(data, one) and decodes(data, other) and data.decode(one) == data.decode(other)
