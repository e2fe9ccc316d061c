"""Seeds by name: `derive("sample", "cifar10", "vae", 0)` is always the same number, on every machine."""

import hashlib
import json


def derive(*names: str | int) -> int:
    """A seed in [0, 2**63) that depends on the names and their order, and on nothing else."""
    text = json.dumps(names, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
