"""Check the raw files of a dataset in its drop folder and download the missing ones where that is possible.

    python -m workflow.commands.fetch --module dtri.data.mnist --raw downloads/mnist --out results/data/mnist/fetch.json

The record holds per file its name, its sha256, and the size and md5 (of the decompressed content where that identifies
the file; those two are what is compared with the publisher's). `--archive` names a
file or folder that the user provides (dtri.data.image_folder): it must be there, and match `--sha256` when given.
After a failure, a kill or a full disk the same command continues where it stopped. No later stage opens a socket.
"""

import argparse
import hashlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from dtri.data import download, store
from workflow.commands.cli import run
from workflow.commands.prepare import dataset_module  # not the other way: how a file came here changes no image


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
    provide(args.raw, module, args.offline)
    record = store.verify_raw(args.raw, module.FILES)
    for name, file in module.FILES.items():
        path = store.find_raw(args.raw, name, file)
        if not file.md5:
            download.check_whole(path, name)
        record[name] |= {"file": path.name, "sha256": store.digest(path, "sha256")}
    if args.archive or args.sha256:
        record |= archive_record(args.raw, args.archive, args.sha256)
    store.write_json(args.out, record)
    return 0


def provide(raw: Path, module: ModuleType, offline: bool) -> None:
    """Download the files that are missing; a file that is there is left alone, right or wrong.

    FileNotFoundError for the first that cannot be had: what was tried, and which others are missing.
    """
    absent = {}
    for name, file in module.FILES.items():
        try:
            store.find_raw(raw, name, file)
        except FileNotFoundError as error:
            absent[name] = error
    for name, missing in list(absent.items()):
        tried = _bring(raw, name, module, offline)
        if tried:
            others = [other for other in absent if other != name]
            also = f"; also missing there: {', '.join(others)}" if others else ""
            raise FileNotFoundError(f"{missing} ({tried}){also}") from None
        del absent[name]


def _bring(raw: Path, name: str, module: ModuleType, offline: bool) -> str:
    """Download one file; "" on success, or why there is none."""
    if offline:
        return "--offline: not downloaded"
    urls = module.urls(name) if hasattr(module, "urls") else []
    if not urls:
        return "no address to download it from"
    errors = download.download(raw, name, module.FILES[name], urls)
    return f"download failed: {'; '.join(errors)}" if errors else ""


def archive_record(raw: Path, name: str | None, sha256: str | None) -> dict[str, Any]:
    """{name: {"file", "size", "md5", "sha256"}} of the user's archive.

    Of a folder size and md5, over its sorted relative paths and their md5.
    """
    from dtri.data import image_folder

    archive = image_folder.inside(raw, name, "archive")
    image_folder.check_archive(archive, sha256)
    if archive.is_file():
        hashes = {algorithm: store.digest(archive, algorithm) for algorithm in ("md5", "sha256")}
        return {name: {"file": name, "size": archive.stat().st_size, **hashes}}
    md5, size = hashlib.md5(usedforsecurity=False), 0
    for path in sorted(path for path in archive.rglob("*") if path.is_file()):
        md5.update(f"{path.relative_to(archive).as_posix()}\0{store.digest(path, 'md5')}\n".encode())
        size += path.stat().st_size
    return {name: {"size": size, "md5": md5.hexdigest()}}


if __name__ == "__main__":
    sys.exit(run(main))
