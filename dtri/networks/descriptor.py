"""Descriptor network of CoopNets (Xie et al., 2018), as their code has it: three convolutions and a full-size one.

64 px: their network for scenes. 28 px: their network for MNIST. 32 px: not published; ours is the network for scenes.
"""

from torch import Tensor, nn

from dtri.networks.convolutional import LEAK, Conv, image_side, scaled

OUTPUTS = 100  # linear outputs, whose sum is f; together they change f a hundred times as fast as one output would
STD = 0.01  # standard deviation of all initial weights; small, since learning rates are large

SCENES = (Conv(5, 2, 2, 64), Conv(3, 2, 1, 128), Conv(3, 1, 1, 256))
DESCRIPTOR = {28: (Conv(4, 2, 1, 64), Conv(4, 2, 1, 128), Conv(4, 2, 2, 256)), 32: SCENES, 64: SCENES}
LAST_SIDE = {28: 4, 32: 8, 64: 16}


def _init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Descriptor(nn.Module):
    """Images [B, C, H, W] in [-1, 1] -> f: [B], high on data; convolutions and LeakyReLU without normalisation."""

    def __init__(self, image_shape: tuple[int, int, int], width: float = 1.0):
        super().__init__()
        side = image_side(image_shape)
        layers: list[nn.Module] = []
        channels = image_shape[0]
        for conv in DESCRIPTOR[side]:
            out = scaled(conv.channels, width)
            layers += [nn.Conv2d(channels, out, conv.kernel, conv.stride, conv.padding), nn.LeakyReLU(LEAK)]
            channels = out
        last = nn.Conv2d(channels, OUTPUTS, LAST_SIDE[side], bias=False)  # offsets of f cancel in every loss
        self.layers = nn.Sequential(*layers, last).apply(_init)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(1).float().sum(1)  # [B]
