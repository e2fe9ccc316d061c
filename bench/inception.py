"""The convolutions of the 2015 Inception graph with random weights, to measure its speed without torch-fidelity.

This is Inception v3 (Szegedy et al., 2016) with 1008 classes. tests/test_gpu_bench.py checks that its operations are as
many as in torch-fidelity's port.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

SIDE = 299


class Side(nn.Module):
    """Branches side by side, whose channels are concatenated."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def conv(channels: int, kernel: int | tuple[int, int] = 1, stride: int = 1, valid: bool = False) -> nn.Module:
    kernel = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    padding = 0 if valid or stride > 1 else (kernel[0] // 2, kernel[1] // 2)
    layer = nn.LazyConv2d(channels, kernel, stride, padding, bias=False)
    return nn.Sequential(layer, nn.LazyBatchNorm2d(eps=1e-3), nn.ReLU(inplace=True))


def row(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def pooled(channels: int) -> nn.Module:
    return row(nn.AvgPool2d(3, 1, 1, count_include_pad=False), conv(channels))


def block_a(channels: int) -> nn.Module:
    third = row(conv(64), conv(96, 3), conv(96, 3))
    return Side(conv(64), row(conv(48), conv(64, 5)), third, pooled(channels))


def block_c(channels: int) -> nn.Module:
    short = row(conv(channels), conv(channels, (1, 7)), conv(192, (7, 1)))
    crossed = [conv(channels, kernel) for kernel in ((7, 1), (1, 7), (7, 1))]
    return Side(conv(192), short, row(conv(channels), *crossed, conv(192, (1, 7))), pooled(192))


def block_e() -> nn.Module:
    def split() -> nn.Module:
        return Side(conv(384, (1, 3)), conv(384, (3, 1)))

    return Side(conv(320), row(conv(384), split()), row(conv(448), conv(384, 3), split()), pooled(192))


class Inception(nn.Module):
    """uint8 images [B, 3, H, W] -> features [B, 2048] and logits [B, 1008]."""

    def __init__(self):
        super().__init__()
        stem = [conv(32, 3, 2), conv(32, 3, valid=True), conv(64, 3), nn.MaxPool2d(3, 2)]
        stem += [conv(80), conv(192, 3, valid=True), nn.MaxPool2d(3, 2)]
        block_b = Side(conv(384, 3, 2), row(conv(64), conv(96, 3), conv(96, 3, 2)), nn.MaxPool2d(3, 2))
        crossed = row(conv(192), conv(192, (1, 7)), conv(192, (7, 1)), conv(192, 3, 2))
        block_d = Side(row(conv(192), conv(320, 3, 2)), crossed, nn.MaxPool2d(3, 2))
        middle = [block_c(channels) for channels in (128, 160, 160, 192)]
        blocks = [block_a(32), block_a(64), block_a(64), block_b, *middle, block_d, block_e(), block_e()]
        self.features = row(*stem, *blocks)
        self.head = nn.Linear(2048, 1008, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = interpolate(images.float(), size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        features = self.features((x - 128) / 128).mean((2, 3))
        return features, self.head(features)


def build(device: torch.device) -> Inception:
    """The network in evaluation mode on `device`, in the memory layout in which features are extracted."""
    network = Inception()
    with torch.no_grad():
        network(torch.zeros(2, 3, 8, 8))  # gives lazy layers their shapes
    return network.to(device, memory_format=torch.channels_last).eval()
