"""Check the raw files of a dataset in its drop folder and download the missing ones where that is possible.

    python -m workflow.commands.fetch --module dtri.data.mnist --raw downloads/mnist --out results/data/mnist/fetch.json

The record holds the name, sha256, size and md5 of each file. Size and md5 are compared with the publisher's; they are
of the decompressed content where that identifies the file. `--archive` names a file or folder that the user provides
(dtri.data.image_folder): it must be there, and match `--sha256` when given; `--index` names a list of its images.
`--replaced` is kept in the record (dtri.data.rawfiles.replaced). After a failure, a kill or a full disk the same
command continues where it stopped. No later stage opens a socket.
"""

import argparse
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from dtri.data import archives, download, image_folder, rawfiles
from dtri.files import digest
from dtri.sealed import write_sealed
from workflow.commands.cli import run
from workflow.commands.prepare import dataset_module  # not the other way: how a file came here changes no image


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", required=True, help="dataset module, e.g. dtri.data.mnist")
    parser.add_argument("--raw", required=True, type=Path, help="drop folder")
    parser.add_argument("--out", required=True, type=Path, help="record to write (JSON)")
    parser.add_argument("--archive", help="name of the user's file or folder inside the drop folder")
    parser.add_argument("--sha256", help="expected hash of the archive")
    parser.add_argument("--index", help="name of a file inside the drop folder that splits the archive")
    parser.add_argument("--replaced", default="", help="what the plan saw in place of the raw files fetched before")
    parser.add_argument(
        "--offline", action="store_true", default=bool(os.environ.get("DTRI_OFFLINE")), help="never download"
    )
    args = parser.parse_args(argv)

    module = dataset_module(args.module)
    download_missing(args.raw, module, args.offline)
    record = rawfiles.verify_raw(args.raw, module.FILES)
    for name, file in module.FILES.items():
        path = rawfiles.find_raw(args.raw, name, file)
        if not file.md5:
            download.check_whole(path, name)
        record[name] |= {"file": path.name, "sha256": rawfiles.sha256_of(path)}
    if args.archive or args.sha256:
        record |= archive_record(args.raw, args.archive, args.sha256, module)
    if args.index:
        index = image_folder.find_index(args.raw, args.index)
        record[args.index] = described(args.raw, index, rawfiles.sha256_of(index))
    for name, file in record.items():
        rawfiles.remember(args.out, name, args.raw / file["file"], file["sha256"])
    write_sealed(args.out, record | ({"replaced": args.replaced} if args.replaced else {}))
    return 0


def download_missing(raw: Path, module: ModuleType, offline: bool) -> None:
    """Download the files that are missing; a file that is there is left alone, right or wrong.

    Args:
        raw: the drop folder.
        module: of the dataset; it lists the files, and their addresses in `urls` where there are any.
        offline: whether downloads are refused.

    Raises:
        FileNotFoundError: a file cannot be had; the message says what was tried, and which others are missing.
    """
    absent = {}
    for name, file in module.FILES.items():
        try:
            rawfiles.find_raw(raw, name, file)
        except FileNotFoundError as error:
            absent[name] = error
    for name, missing in list(absent.items()):
        tried = _download_one(raw, name, module, offline)
        if tried:
            others = [other for other in absent if other != name]
            also = f"; also missing there: {', '.join(others)}" if others else ""
            raise FileNotFoundError(f"{missing} ({tried}){also}") from None
        del absent[name]


def _download_one(raw: Path, name: str, module: ModuleType, offline: bool) -> str:
    """Download one file; "" on success, or why there is none."""
    if offline:
        return "--offline: not downloaded"
    urls = module.urls(name) if hasattr(module, "urls") else []
    if not urls:
        return "no address to download it from"
    errors = download.download(raw, name, module.FILES[name], urls)
    return f"download failed: {'; '.join(errors)}" if errors else ""


def archive_record(raw: Path, name: str | None, sha256: str | None, module: ModuleType) -> dict[str, Any]:
    """{name: described} of the user's archive, or of the part of it that the module reads.

    Args:
        raw: the drop folder.
        name: of the archive in it; None is an error.
        sha256: expected of the archive; None: any.
        module: of the dataset.
    """
    archive = archives.inside(raw, name, "archive")
    if hasattr(module, "database"):
        archive = module.database(archive)
    return {name: described(raw, archive, archives.check_archive(archive, sha256))}


def described(raw: Path, path: Path, sha256: str) -> dict[str, Any]:
    """{"file", "size", "sha256"} of a file or a folder of images; of a file also "md5".

    "file" is its path in `raw`.
    """
    found = {"file": path.relative_to(raw).as_posix(), "size": rawfiles.size_of(path)}
    if path.is_file():
        found["md5"] = digest(path, "md5")
    return found | {"sha256": sha256}


if __name__ == "__main__":
    sys.exit(run(main))
