"""The feature networks behind FID, IS, KID, precision and recall: the 2015 Inception graph, a domain classifier, or
EfficientNet-Lite0 as ImageNet trained it.

Values of the three are not comparable, and neither are values of two domain classifiers. So every number carries the
label of its network.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch_fidelity
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from dtri import finite
from dtri import images as conversions
from dtri.files import digest
from dtri.memory import in_batches
from dtri.metrics import classifier, imagenet_lite

CPU = torch.device("cpu")
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_HASH = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"  # sha256
INCEPTION_SIZE = "about 95.5 MB"


class DomainExtractor(FeatureExtractorBase):
    """A trained `Classifier` with torch-fidelity's interface: `penultimate` [B, 64] and `logits` [B, K]."""

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str, **_: object):
        super().__init__(name, features_list)
        self.classifier = classifier.load(Path(feature_extractor_weights_path))
        self.requires_grad_(False)
        self.eval()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return ("penultimate", "logits")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "penultimate"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features, logits = self.classifier(images)
        maps = {"penultimate": features, "logits": logits}
        return tuple(maps[name] for name in self.features_list)


class ImagenetLiteExtractor(FeatureExtractorBase):
    """EfficientNet-Lite0 with torch-fidelity's interface, for uint8 images [B, 3, H, W] of any size, not resized.

    `block0` to `block15` are the outputs of the blocks, averaged over places. `block8` [B, 112] is the first of three
    blocks with 112 channels, at a sixteenth of the image's side. There are also `head` [B, 1280] and `logits`
    [B, 1000]. efficientnet-lite-pytorch has the network's code; its loader unpickles, so it is not used. Pixels are
    scaled as in training, (x - 127) / 128 (tensorflow/tpu, efficientnet/lite).
    """

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: str, **_: object):
        super().__init__(name, features_list)
        from efficientnet_lite_pytorch import EfficientNet  # an optional dependency

        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=None)  # pads as TensorFlow, at any size
        self.network.load_state_dict(torch.load(feature_extractor_weights_path, "cpu", weights_only=True))
        self.requires_grad_(False)
        self.eval()

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return (*(f"block{k}" for k in range(16)), "head", "logits")

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "block8"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        net, maps = self.network, {}
        x = net._swish(net._bn0(net._conv_stem((images.float() - 127) / 128)))
        for k, block in enumerate(net._blocks):
            x = block(x)
            maps[f"block{k}"] = x.mean((2, 3))
        maps["head"] = net._swish(net._bn1(net._conv_head(x))).mean((2, 3))
        maps["logits"] = net._fc(maps["head"])
        return tuple(maps[name] for name in self.features_list)


@dataclass(frozen=True)
class Extractor:
    """A feature network, its identity, and how and where it computes.

    `hash` is the sha256 of its weights file, `precision` is fp32 or bf16, and the caller holds `device`.
    """

    name: str
    hash: str
    network: FeatureExtractorBase
    precision: str = "fp32"
    device: torch.device = CPU

    @property
    def label(self) -> str:
        return f"{self.name}:{self.hash[:12]}{'' if self.precision == 'fp32' else f' in {self.precision}'}"

    @property
    def feature_layer(self) -> str:
        return self.network.get_default_feature_layer_for_metric("fid")

    @property
    def logit_layer(self) -> str:
        return self.network.get_default_feature_layer_for_metric("isc")

    @property
    def version(self) -> str:
        """Hash of the weights and of the code that turns images into features; cached features depend on both."""
        of_package = imagenet_lite.versions() if self.name == "imagenet_lite" else torch_fidelity.__version__
        version = hashlib.sha256(f"{self.name} {self.hash} {self.precision} {of_package}".encode())
        for source in (__file__, classifier.__file__, conversions.__file__):
            version.update(Path(source).read_bytes())
        return version.hexdigest()

    def features(self, images: np.ndarray, batch_size: int) -> dict[str, Tensor]:
        """uint8 [N, C, H, W] -> {layer: float32 [N, d] on the CPU}; every image counts once, in the last batch too.

        Kernels are deterministic, and compute in full float32 unless `precision` is bf16. NonFinite where a feature is
        not finite.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
            raise ValueError(f"expected uint8 images [N, C, H, W] with N > 0, found {images.dtype} {images.shape}")
        where, names = self.device, self.network.features_list
        network = self.network.to(where, memory_format=torch.channels_last)
        channels = images.shape[1] if self.name == "domain" else 3
        exact = torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False, fp32_precision="ieee"
        )
        found: dict[str, list[Tensor]] = {name: [] for name in names}

        def extract(start: int, stop: int) -> list[Tensor]:
            batch = torch.from_numpy(np.array(images[start:stop])).to(where)
            batch = batch.expand(-1, channels, -1, -1).contiguous(memory_format=torch.channels_last)
            return [part.float().cpu() for part in network(batch)]

        with torch.no_grad(), exact, torch.autocast(where.type, torch.bfloat16, enabled=self.precision == "bf16"):
            for parts in in_batches(extract, len(images), batch_size):
                for name, part in zip(names, parts, strict=True):
                    found[name].append(part)
        features = {name: torch.cat(parts) for name, parts in found.items()}
        for name, values in features.items():
            finite.check(f"features {name} of the network {self.label}", values)
        return features


def extractor(name: str, weights: Path | None = None) -> Extractor:
    """The feature network `inception` or `domain` with these weights, or `imagenet_lite` with its package's weights.

    Opens no socket. FileNotFoundError for missing weights; ValueError for weights that are not the expected ones.
    """
    if name == "imagenet_lite":
        network = ImagenetLiteExtractor("dtri-imagenet-lite", ["block8", "logits"], str(imagenet_lite.weights()))
        return Extractor(name, imagenet_lite.HASH, network)
    if weights is None:
        raise ValueError(f"expected a file of weights for the extractor {name}, found none")
    weights = Path(weights)
    if name == "inception":
        return Extractor(name, check_inception_weights(weights), inception_network(weights))
    if name == "domain":
        network = DomainExtractor("dtri-domain", ["penultimate", "logits"], str(weights))
        return Extractor(name, digest(weights, "sha256"), network)
    raise ValueError(f"expected extractor inception, domain or imagenet_lite, found {name!r}")


def check_inception_weights(weights: Path) -> str:
    """The sha256 of the 2015 Inception weights, after a check that the file holds them."""
    identity = f"{INCEPTION_SIZE}, sha256 {INCEPTION_HASH[:8]}..."
    expected = f"expected {INCEPTION_FILE} ({identity}) in the drop folder {weights.parent}"
    hint = "nothing is downloaded by metric jobs: put the file there, from the v0.2.0 release of torch-fidelity"
    if not weights.is_file():
        raise FileNotFoundError(f"{expected}, found no file {weights.name}; {hint}")
    found = digest(weights, "sha256")
    if found != INCEPTION_HASH:
        size = weights.stat().st_size / 1e6
        raise ValueError(f"{expected}, found {weights.name} of {size:.1f} MB with sha256 {found[:12]}...; {hint}")
    return found


def inception_network(weights: Path) -> FeatureExtractorInceptionV3:
    """torch-fidelity's port of the TensorFlow graph: pool features [B, 2048] and logits without bias [B, 1008]."""
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # otherwise a forged file could run code
    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(weights))
