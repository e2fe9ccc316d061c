"""Peak memory and speed of preparing an LMDB database, by its number of images.

    python -m bench.streaming                        20,000 and 200,000 images, 5 GB in the temporary folder
    python -m bench.streaming --images 1000 4000     does it work?

The databases are made like LSUN's: hashes are keys, and photographs of 256x341 as JPEG files of quality 75 are values.
The prepare command prepares each database at 64x64 in a new process. The kernel reports the process's peak resident
memory, which includes shared libraries and pages of the mapped database.
"""

import argparse
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lmdb
from PIL import Image
from sklearn.datasets import load_sample_images

from workflow.commands.cli import run

ROOT = Path(__file__).resolve().parent.parent
HELD_OUT = 100
SIZE = (341, 256)  # width, height
# The peak since this program began; rusage would include the memory that its parent held at the fork.
MEASURED = """
import sys
from pathlib import Path
from workflow.commands import prepare
prepare.main(sys.argv[1:])
print(Path("/proc/self/status").read_text("utf-8").split("VmHWM:")[1].split()[0])
"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--folder", type=Path, help="where to make the databases (default: the temporary folder)")
    arguments = parser.parse_args(argv)
    print(f"{'images':>9} {'database':>10} {'peak memory':>12} {'images/s':>9}")
    for n in arguments.images:
        with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="dtri-streaming-") as folder:
            size = make(Path(folder), n)
            peak, seconds = prepare(Path(folder))
        print(f"{n:>9} {size / 2**20:>6.0f} MiB {peak / 2**20:>8.0f} MiB {n / seconds:>9.0f}", flush=True)
    return 0


def make(folder: Path, n: int) -> int:
    """Write data.mdb with n images into `folder`, and return its size in bytes."""
    values = photographs()
    with lmdb.open(str(folder / "data.mdb"), subdir=False, lock=False, map_size=n * 2**16 + 2**24) as environment:
        for start in range(0, n, 10_000):
            with environment.begin(write=True) as transaction:
                for k in range(start, min(start + 10_000, n)):
                    key = hashlib.sha1(str(k).encode(), usedforsecurity=False).hexdigest()
                    transaction.put(key.encode(), values[k % len(values)])
    return (folder / "data.mdb").stat().st_size


def photographs() -> list[bytes]:
    """64 JPEG files, which show parts of scikit-learn's two photographs."""
    values, photos = [], load_sample_images().images
    for k in range(64):
        photo = Image.fromarray(photos[k % 2])
        left, top = 9 * (k // 8), 5 * (k % 8)
        buffer = io.BytesIO()
        photo.crop((left, top, left + 500, top + 375)).resize(SIZE).save(buffer, "JPEG", quality=75)
        values.append(buffer.getvalue())
    return values


def prepare(folder: Path) -> tuple[int, float]:
    """(bytes, seconds): peak resident memory and time of the prepare command."""
    options = json.dumps({"archive": "data.mdb", "holdout": HELD_OUT})
    command = ["--module", "dtri.data.lsun", "--name", "scenes", "--image-shape", "3,64,64", "--options", options]
    command += ["--raw", str(folder), "--out", str(folder / "out")]
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", MEASURED, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ValueError(f"expected prepare to finish, found exit code {done.returncode}")
    return int(done.stdout.split()[-1]) * 1024, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(run(main))
