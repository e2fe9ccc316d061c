"""Weights that a run keeps from iterations before its last: for scores over time, and for each level of a system."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from dtri.experiment import TrainSpec
from dtri.weights import save_weights, snapshot_path


class Snapshots:
    """Iterations whose weights are kept; the engine adds the model's milestones. This base class writes nothing."""

    def __init__(self, iterations: Iterable[int] = ()):
        self.iterations = set(iterations)

    def due(self, t: int) -> bool:
        """Whether the weights after iteration t are to be saved."""
        return t in self.iterations

    def save(self, t: int, weights: dict[str, Tensor]) -> None:
        """Keep the weights after iteration t. A killed run repeats t and calls this again with the same weights."""

    def exists(self, t: int) -> bool:
        """Whether the weights of iteration t can still be read."""
        return True

    def lost(self, t: int) -> list[int]:
        """Iterations up to t whose weights were saved and are now missing, in increasing order."""
        return [earlier for earlier in sorted(self.iterations) if earlier <= t and not self.exists(earlier)]


class SnapshotFiles(Snapshots):
    """Snapshots as files in the run's folder `run`."""

    def __init__(self, run: Path, spec: TrainSpec):
        super().__init__(spec.final_snapshots)
        self.run, self.spec = run, spec

    def save(self, t: int, weights: dict[str, Tensor]) -> None:
        save_weights(snapshot_path(self.run, t), weights, self.spec)

    def exists(self, t: int) -> bool:
        return snapshot_path(self.run, t).exists()

    def remove_others(self) -> None:
        """Remove snapshots of an earlier specification from the same folder."""
        for path in snapshot_path(self.run, 0).parent.glob("*.safetensors"):
            if int(path.stem) not in self.iterations:
                path.unlink()

    def files(self) -> list[Path]:
        """The files that exist, by iteration; a diverged run lacks those after its end."""
        return [snapshot_path(self.run, t) for t in sorted(self.iterations) if self.exists(t)]
