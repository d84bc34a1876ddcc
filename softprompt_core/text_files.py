"""Text files that users wrote: read as UTF-8 and within bounds, or refused with words about what they are instead."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from softprompt_core.errors import InvalidInput

_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def read_text(path: Path, kind: str, *, max_bytes: int) -> str:
    """The text of a small file.

    Args:
        kind: what the file should be, for messages: ``spec file``.
        max_bytes: no more than one byte above this is read; the caller refuses what is too long.

    Raises:
        InvalidInput: missing, a folder, something without an end, not readable, or not UTF-8.
    """
    try:
        require_regular(path)
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise InvalidInput(f"no such {kind}", where=str(path), do="check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a character that no system allows
        do = "check the file and its permissions"
        raise InvalidInput(f"cannot be read: {error}", where=str(path), do=do) from None
    if len(data) > max_bytes:  # the end may cut a character in two
        return data.decode("utf-8", errors="replace")
    try:
        return decoded(data, path)
    except InvalidInput as error:
        raise InvalidInput(f"cannot be read: {error.what}", where=str(path), do=error.do) from None


def require_regular(path: Path) -> None:
    """Raise InvalidInput for a pipe or a device that bears a file's name: reading it might never end.

    What the shell hands over under ``/dev`` (``/dev/stdin``, ``<(command)``) is somebody's wish and has an end.
    """
    is_special = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    if is_special and path.absolute().parts[:2] != ("/", "dev"):
        raise InvalidInput("is a pipe or a device, not a file", where=str(path), do="name a file")


def decoded(data: bytes, path: Path) -> str:
    """A file's bytes as text, without the byte order mark that spreadsheets put first.

    Args:
        path: the file, for messages.

    Raises:
        InvalidInput: the bytes are not UTF-8; says how to convert them.
    """
    encoding = _wide_encoding(data)
    if encoding is not None:
        raise InvalidInput(f"is {encoding}, not UTF-8", where=str(path), do=_conversion(path, encoding))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        problem = f"is not UTF-8 (byte 0x{data[error.start]:02x})"
        raise InvalidInput(problem, where=f"{path}:{line}", do=_conversion(path, "latin1")) from None


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32, by the byte order mark or by the zero bytes that Latin letters have there."""
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return encoding
    start = data[:1000]
    for first, encoding in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        zeros = start[first::2].count(0)
        if len(start) >= 8 and zeros > len(start) / 5 and not start[1 - first :: 2].count(0):
            return encoding
    return None


def _conversion(path: Path, encoding: str) -> str:
    name = path.name.removesuffix(".gz")
    source = shlex.quote(path.name)
    to = shlex.quote(f"{Path(name).stem}-utf8{Path(name).suffix}")
    if path.suffix.lower() == ".gz":
        return f"convert it, for instance: gunzip -c {source} | iconv -f {encoding} -t UTF-8 > {to}"
    return f"convert it, for instance: iconv -f {encoding} -t UTF-8 {source} > {to}"
