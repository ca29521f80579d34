"""Files that are complete or absent, and folders that only one run at a time writes into."""

import contextlib
import csv
import errno
import io
import json
import os
import secrets
from pathlib import Path

import filelock


class BusyError(ValueError):
    """A folder that another run is writing into."""


class DamagedError(ValueError):
    """A file of this package that cannot be read; the message says which and what to do."""


@contextlib.contextmanager
def replacing(path):
    """Context of a temporary path beside `path`, which replaces `path` when the block succeeds.

    A reader sees the old file or the complete new one. If the block fails or is killed, the old
    file stays. :func:`sweep` deletes what a killed block leaves beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name has the ending of the path, which tells the format. File systems allow 255 bytes.
    temporary = path.with_name(f".{secrets.token_hex(4)}.tmp-{path.name[-40:]}")
    temporary.touch(mode=0o666, exist_ok=False)  # minus what the umask forbids
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # on the disk before its name is, in case of a power cut
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # and not the temporary path
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder, ending=""):
    """Deletes the temporary files that killed runs left in a folder; call it within :func:`alone`.

    Args:
        ending: a glob of the names that the files would have got; by default all are deleted.
    """
    for left in Path(folder).glob(f".*.tmp-*{ending}"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder, wait=False, part=""):
    """Context that only one process at a time may enter for a folder; it ends with the process.

    Args:
        folder: created if it does not exist.
        wait: wait for the other process instead of refusing.
        part: of the folder; different parts do not exclude each other.

    Raises:
        BusyError: another process is in it.
    """
    path = Path(folder) / f".busy{part}"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout:
        raise BusyError(
            f"{folder}: another run is writing there; wait until it is done, or choose another"
            " folder."
        ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows does not delete an open file
            path.unlink()
        lock.release()


def make_room(path, size):
    """Raises the OSError of a full disk or quota if a file of so many bytes does not fit."""
    with Path(path).open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(0)


def read_json(path, remedy):
    """The dict in a file that this package wrote.

    Raises:
        DamagedError: it is not one; the message ends with `remedy`.
        FileNotFoundError: the file does not exist.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:  # not JSON, or not even text
        content = None
    if not isinstance(content, dict):
        raise DamagedError(f"{path}: damaged; {remedy}.")
    return content


def explain(error):
    """One sentence on what an OSError of the command line means and what to do."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"{where}the disk is full; make room and run the command again, what is done is kept."
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"{where}may not be written or read ({error.strerror}); choose another folder, or ask"
            " for permission."
        )
    return f"{where}{error.strerror or error}."


def read_rows(path):
    """The rows of a csv file: one dict from column to text per line below the header.

    Raises:
        DamagedError: not a csv file in UTF-8.
        FileNotFoundError: the file does not exist.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as lines:
            return list(csv.DictReader(lines))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DamagedError(f"{path}: not a csv file in UTF-8 ({error}).") from None


def write_rows(rows, path, columns=None, append=False):
    """Writes rows as a csv file with a header.

    Args:
        rows: dicts from column to value; numbers are written as `str` shows them, None as nothing.
        path: of the file, which is replaced as a whole; its folder is created if it is missing.
        columns: the header; by default the keys of the first row.
        append: adds the rows to the file instead; only a new file gets the header.
    """
    rows, path = list(rows), Path(path)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    if not (append and path.exists() and path.stat().st_size):
        writer.writeheader()
    writer.writerows(rows)
    if append:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", newline="", encoding="utf-8") as lines:
            lines.write(text.getvalue())
    else:
        with replacing(path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8", newline="")
