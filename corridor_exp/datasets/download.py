"""Downloads that resume after an interruption, and are used only if their checksum is right."""

from __future__ import annotations

import hashlib
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm import tqdm

from corridor_exp.errors import RunError

CHUNK = 1 << 20
TIMEOUT = 60.0  # seconds without a byte
RANGE_NOT_SATISFIABLE = 416


def fetch(url: str, path: Path, md5: str) -> None:
    """Download `url` to `path`, unless the file is there. `md5` is its checksum. An interrupted download resumes.

    Where several processes want the file, one downloads it, and the others wait. Raises `RunError` if the download is
    interrupted or has another checksum.
    """
    if path.exists() and _md5(path) == md5:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not (path.exists() and _md5(path) == md5):
            _download(url, path, md5)


def _download(url: str, path: Path, md5: str) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        _fetch(url, part)
    except (OSError, HTTPException) as error:
        done = part.stat().st_size if part.exists() else 0
        resume = f" ({done:,} bytes are here; the same command goes on from there)" if done else ""
        raise RunError(f"{url}: {error}{resume}") from error
    if _md5(part) != md5:
        part.unlink()
        raise RunError(f"{url} is not what it should be (its MD5 is not {md5}); it was deleted, try again later")
    part.replace(path)


def _fetch(url: str, part: Path) -> None:
    """Append the missing bytes of the file to `part`. Raises `OSError` or `HTTPException` if the download fails."""
    done = part.stat().st_size if part.exists() else 0
    try:
        response = urlopen(Request(url, headers={"Range": f"bytes={done}-"}), timeout=TIMEOUT)
    except HTTPError as error:
        if done and error.code == RANGE_NOT_SATISFIABLE:
            return  # all bytes are here: the checksum tells whether they are right
        raise
    with response:
        if response.status != 206:  # the server does not support ranges and sends the whole file
            done = 0
        length = response.headers["Content-Length"]  # some servers do not say it
        total = done + int(length) if length else None
        with (
            open(part, "ab" if done else "wb") as file,
            tqdm(desc=part.stem, total=total, initial=done, unit="B", unit_scale=True, mininterval=1) as bar,
        ):
            while chunk := response.read(CHUNK):
                bar.update(file.write(chunk))
    if total and part.stat().st_size < total:
        raise OSError(f"cut after {part.stat().st_size:,} of {total:,} bytes")


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
