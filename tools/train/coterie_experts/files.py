"""Files that are whole or not there: every result is written beside its place and renamed into it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import secrets
import shutil
from typing import Any, Iterator

from coterie_experts.errors import Refused


def beside(path: pathlib.Path, what: str) -> pathlib.Path:
    """A name in the same folder that nobody else takes: not another process, nor one on another machine of a shared volume."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.{what}")


def made_after(path: pathlib.Path, seconds: float) -> bool:
    """Whether a file is there that was written after `seconds` since the epoch."""
    return path.is_file() and path.stat().st_mtime >= seconds


def write_atomically(path: pathlib.Path, content: bytes | str) -> None:
    """Replaces `path` in one step. After a failure the old content is still there, and nothing else."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    partial = beside(path, "partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise Refused(f"cannot write {path} ({len(data)} bytes): {error.strerror or error}") from error


@contextlib.contextmanager
def folder_in_making(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to fill, which takes the place of `path` when the block ends well and vanishes when it does not."""
    partial, before = beside(path, "partial"), beside(path, "before")
    try:
        partial.mkdir(parents=True)
        yield partial
        for file in partial.iterdir():
            with open(file, "rb") as written:
                os.fsync(written.fileno())
        if path.exists():
            os.replace(path, before)
        os.replace(partial, path)
    except OSError as error:
        if before.exists() and not path.exists():
            os.replace(before, path)
        raise Refused(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


def write_json(path: pathlib.Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # bad JSON, or bytes that are no UTF-8
        raise Refused(f"{path} is no JSON: {error}") from error


def sha256(data: bytes | str) -> str:
    return hashlib.sha256(data.encode("utf-8") if isinstance(data, str) else data).hexdigest()


def sha256_of_file(path: pathlib.Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from error


def cache_folder() -> pathlib.Path:
    """$COTERIE_CACHE, as in tools/lib/common.sh."""
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return pathlib.Path(os.environ.get("COTERIE_CACHE") or home / "coterie")
