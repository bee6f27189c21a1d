"""Files that are whole or absent."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from arena.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` beside `path`, then rename: a reader sees the old file or the whole new one.

    Missing parent folders are made. A failure leaves nothing behind.

    Raises:
        UserError: the folder cannot be written to, or the disk is full.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # a rename may reach the disk before the content does
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; make room there or choose another folder") from error
