"""Check the raw files of a dataset in its drop folder and download the missing ones where that is possible.

    python -m workflow.commands.fetch --module dtri.data.mnist --raw downloads/mnist --out results/data/mnist/fetch.json

The record holds size and md5 per file (of the decompressed content where that identifies the file). `--archive` names a
file or folder that the user provides (dtri.data.image_folder): it must be there, and match `--sha256` when given.
No later stage opens a socket.
"""

import argparse
import hashlib
import http.client
import importlib
import os
import socket
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from dtri.data import store
from workflow.commands.cli import run

TIMEOUT_S = 60


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", required=True, help="dataset module, e.g. dtri.data.mnist")
    parser.add_argument("--raw", required=True, type=Path, help="drop folder")
    parser.add_argument("--out", required=True, type=Path, help="record to write (JSON)")
    parser.add_argument("--archive", help="name of the user's file or folder inside the drop folder")
    parser.add_argument("--sha256", help="expected hash of the archive")
    parser.add_argument(
        "--offline", action="store_true", default=bool(os.environ.get("DTRI_OFFLINE")), help="never download"
    )
    args = parser.parse_args(argv)

    module = dataset_module(args.module)
    for name, file in module.FILES.items():
        provide(args.raw, name, file, module, args.offline)
    record = store.verify_raw(args.raw, module.FILES)
    if args.archive or args.sha256:
        record |= archive_record(args.raw, args.archive, args.sha256)
    store.write_json(args.out, record)
    return 0


def dataset_module(name: str) -> ModuleType:
    """The module of a dataset; ValueError when it is none."""
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"expected a dataset module such as dtri.data.mnist, found {name!r}: {error}") from error
    missing = [part for part in ("FILES", "prepare") if not hasattr(module, part)]
    if missing:
        raise ValueError(
            f"expected FILES and prepare in a dataset module, found no {' and no '.join(missing)} in {name}"
        )
    return module


def provide(raw: Path, name: str, file: store.RawFile, module: ModuleType, offline: bool) -> None:
    """Download one file if it is missing; a file that is there is left alone, right or wrong."""
    try:
        store.find_raw(raw, name, file)
    except FileNotFoundError as missing:
        if offline:
            raise FileNotFoundError(f"{missing} (--offline: not downloaded)") from None
        if not hasattr(module, "urls"):
            raise
        errors = download(raw, name, file, module.urls(name))
        if errors:
            raise FileNotFoundError(f"{missing} (download failed: {'; '.join(errors)})") from None


def download(raw: Path, name: str, file: store.RawFile, urls: list[str]) -> list[str]:
    """Try each address; a complete and verified file is moved into the drop folder. What failed, [] on success."""
    from torchvision.datasets.utils import download_url  # imports torch: seconds that only a download pays

    raw.mkdir(parents=True, exist_ok=True)
    errors = []
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        for url in urls:
            with tempfile.TemporaryDirectory(dir=raw, prefix=".download.") as folder:
                try:
                    download_url(url, folder, name)
                    store.verify_raw(Path(folder), {name: file})
                except (OSError, ValueError, RuntimeError, http.client.HTTPException) as error:
                    errors.append(f"{url}: {error}")
                else:
                    Path(folder, name).replace(raw / name)
                    return []
    finally:
        socket.setdefaulttimeout(patience)
    return errors


def archive_record(raw: Path, name: str | None, sha256: str | None) -> dict[str, Any]:
    """{name: {"size", "md5"}} of the user's archive; of a folder, over its sorted relative paths and their md5."""
    from dtri.data import image_folder

    archive = image_folder.inside(raw, name, "archive")
    image_folder.check_archive(archive, sha256)
    if archive.is_file():
        return {name: {"size": archive.stat().st_size, "md5": store.digest(archive, "md5")}}
    md5, size = hashlib.md5(usedforsecurity=False), 0
    for path in sorted(path for path in archive.rglob("*") if path.is_file()):
        md5.update(f"{path.relative_to(archive).as_posix()}\0{store.digest(path, 'md5')}\n".encode())
        size += path.stat().st_size
    return {name: {"size": size, "md5": md5.hexdigest()}}


if __name__ == "__main__":
    sys.exit(run(main))
