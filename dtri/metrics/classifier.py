"""A small image classifier: the feature network of the domain metrics, where ImageNet features mean little.

FID, KID, precision and recall use the features of its penultimate layer; the Inception Score uses its logits.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dtri import files
from dtri.images import to_float
from dtri.messages import AGAIN, reading
from dtri.seeding import derive

FEATURES = 64  # a Frechet distance has a small bias from n >= 20 * FEATURES samples on
SMALLEST_SIDE = 28


class Classifier(nn.Module):
    """uint8 images [B, C, H, W] -> (features [B, 64] after the penultimate ReLU, logits [B, K])."""

    def __init__(self, image_shape: tuple[int, int, int], n_classes: int):
        super().__init__()
        channels, height, width = image_shape
        if channels not in (1, 3) or min(height, width) < SMALLEST_SIDE:
            raise ValueError(
                f"expected images of 1 or 3 channels and sides of at least {SMALLEST_SIDE}, found {tuple(image_shape)}"
            )
        if n_classes < 2:
            raise ValueError(f"expected at least 2 classes, found {n_classes}")
        self.image_shape = (channels, height, width)
        self.n_classes = n_classes
        window = (height // 4 // 3, width // 4 // 3)  # averages the last feature maps to a grid of 3x3 to 5x5
        grid = (height // 4 // window[0]) * (width // 4 // window[1])
        self.trunk = nn.Sequential(
            *_block(channels, 16), nn.MaxPool2d(2), *_block(16, 32), nn.MaxPool2d(2), *_block(32, 64)
        )
        self.pool = nn.AvgPool2d(window)
        self.penultimate = nn.Linear(64 * grid, FEATURES)
        self.last = nn.Linear(FEATURES, n_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[1:] != self.image_shape:
            raise ValueError(f"expected images of shape {self.image_shape}, found {tuple(images.shape[1:])}")
        maps = self.pool(self.trunk(to_float(images)))
        features = F.relu(self.penultimate(maps.flatten(1)))  # [B, 64]
        return features, self.last(features)


def _block(channels: int, out: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]


def train_classifier(
    images: np.ndarray | Tensor,
    labels: np.ndarray | Tensor,
    n_classes: int,
    seed: int,
    steps: int = 1500,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
) -> Classifier:
    """Fit a classifier on the CPU to uint8 images [N, C, H, W] and labels [N] in 0..n_classes-1; returned in eval mode.

    AdamW runs under a one-cycle schedule, and every epoch has a new permutation. There is no label smoothing: it caps
    the probabilities, so that real digits would get an Inception Score of 7.3 of 10. The result is a function of the
    arguments alone, and by rounding of the number of threads. The default random generators are left as they were.

    Args:
        images:        uint8 [N, C, H, W].
        labels:        integers [N].
        n_classes:     number of classes.
        seed:          seed of weights and data order.
        steps:         iterations.
        batch_size:    images per iteration.
        learning_rate: peak of the schedule.

    Raises:
        ValueError: the labels do not fit.
    """
    images, labels = _checked(images, labels)
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"expected labels in 0..{n_classes - 1}, found {int(labels.min())}..{int(labels.max())}")
    generator = torch.Generator().manual_seed(derive("classifier", "batches", seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("classifier", "initialisation", seed))
        classifier = Classifier(tuple(images.shape[1:]), n_classes)
    classifier.to(memory_format=torch.channels_last)  # a third faster on the CPU
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    classifier.train()
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(images), generator=generator)])
        batch, order = order[:batch_size], order[batch_size:]
        _, logits = classifier(images[batch])
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits, labels[batch]).backward()
        optimizer.step()
        schedule.step()
    return classifier.to(memory_format=torch.contiguous_format).eval()  # in the layout that `load` returns


@torch.inference_mode()
def accuracy(classifier: Classifier, images: np.ndarray | Tensor, labels: np.ndarray | Tensor) -> float:
    """Fraction of uint8 images [N, C, H, W] whose largest logit is at their label [N]; batch norm uses its averages."""
    images, labels = _checked(images, labels)
    was_training = classifier.training
    classifier.eval()
    device = next(classifier.parameters()).device
    hits = sum(
        int((classifier(batch.to(device))[1].argmax(1).cpu() == truth).sum())
        for batch, truth in zip(images.split(500), labels.split(500), strict=True)
    )
    classifier.train(was_training)
    return hits / len(images)


def _checked(images: np.ndarray | Tensor, labels: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    images, labels = torch.as_tensor(images), torch.as_tensor(labels).long()
    if images.dtype != torch.uint8 or images.dim() != 4 or len(images) == 0 or labels.shape != images.shape[:1]:
        raise ValueError(
            "expected uint8 images [N, C, H, W] and labels [N] with N > 0, "
            f"found {images.dtype} {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    return images, labels


def save(classifier: Classifier, path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file atomically. Its header holds `metadata`, the image shape and the number of classes."""
    state = {name: tensor.contiguous() for name, tensor in classifier.state_dict().items()}
    header = {**metadata, "image_shape": list(classifier.image_shape), "n_classes": classifier.n_classes}
    header["sha256"] = _hash(state)
    # The header has one key: several would be in random order, and the file's hash names the extractor.
    header = {"classifier": json.dumps(header, sort_keys=True)}

    def write(temporary: Path) -> None:
        try:
            save_file(state, temporary, header)
        except SafetensorError as error:  # for example of a full disk
            raise OSError(str(error)) from error

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, write)


def load(path: Path) -> Classifier:
    """The saved classifier in eval mode. ValueError names the file, what was expected and what was found."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a trained classifier, found no file (at {path})")
    with (
        reading(path, f"expected a classifier in safetensors with its header ({AGAIN}), found"),
        safe_open(path, framework="pt") as file,
    ):
        header = json.loads((file.metadata() or {})["classifier"])
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
        classifier = Classifier(tuple(header["image_shape"]), header["n_classes"])
    expected = {name: tuple(tensor.shape) for name, tensor in classifier.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if found != expected:
        wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        details = ", ".join(f"{name}: expected {expected.get(name)}, found {found.get(name)}" for name in wrong)
        raise ValueError(f"the tensors do not fit a classifier of {classifier.image_shape}: {details} (in {path})")
    expected = header.get("sha256", found := _hash(state))  # files of older versions lack the hash
    if found != expected:
        raise ValueError(f"expected a classifier with sha256 {expected[:12]} in {path}, found {found[:12]}; {AGAIN}")
    classifier.load_state_dict(state)
    return classifier.eval()


def _hash(state: dict[str, Tensor]) -> str:
    """sha256 over names and values; safetensors itself compares no checksum."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
