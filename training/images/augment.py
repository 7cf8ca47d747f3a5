"""Changing training pictures at random, a whole batch at once, by the recipe's measure.

All that moves pixels, from a shift to an elastic distortion, is one map from each pixel to where
it is taken from, so that a picture is resampled once and stays sharp.
"""

import math

import torch
from torch import Generator, Tensor
from torch.distributions import Beta
from torch.nn import functional

from training.recipe.image import Augmentation

_COARSE = 5
"""Points along each side of the grid that an elastic distortion moves."""
_ERASED = (0.02, 0.2)
"""Shares of the picture's area that erasing takes."""
_GREY = (0.299, 0.587, 0.114)


def augment(pictures: Tensor, plan: Augmentation, generator: Generator) -> Tensor:
    """A changed copy of each picture.

    Args:
        pictures: ``[batch, channels, height, width]``, 0 to 1.
        plan: how far each change may go.
        generator: where the chances come from; on the CPU.
    """
    batch = len(pictures)
    if plan.stroke:
        pictures = _stroke(pictures, _spread((batch, 1, 1, 1), plan.stroke, generator))
    if _moves(plan):
        places = _places(pictures, plan, generator).to(pictures.device)
        mode = "zeros" if plan.edges == "background" else "reflection"
        pictures = functional.grid_sample(pictures, places, "bilinear", mode, align_corners=False)
    if plan.blur:
        soft = functional.avg_pool2d(pictures, 3, 1, 1, count_include_pad=False)
        pictures = torch.lerp(pictures, soft, _chance((batch, 1, 1, 1), generator) * plan.blur)
    pictures = _colours(pictures, plan, generator)
    return _erase(pictures, plan.erasing, generator) if plan.erasing else pictures


def mix(pictures: Tensor, target: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Each picture and its target blended with another's (Zhang and others, mixup, 2018).

    The chances come from torch's own generator.

    Args:
        pictures: ``[batch, channels, height, width]``.
        target: ``[batch, classes]``, the share of each class.
        strength: of the Beta distribution that draws the batch's share.
    """
    share = float(Beta(strength, strength).sample())
    order = torch.randperm(len(pictures))
    return torch.lerp(pictures[order], pictures, share), torch.lerp(target[order], target, share)


def _moves(plan: Augmentation) -> bool:
    amounts = (plan.shift, plan.rotation, plan.scale, plan.stretch, plan.shear, plan.elastic)
    return any(amounts) or plan.flip


def _places(pictures: Tensor, plan: Augmentation, generator: Generator) -> Tensor:
    """Where each pixel is taken from, ``[batch, height, width, 2]`` from -1 to 1."""
    batch, _, height, width = pictures.shape
    angle = _spread((batch,), math.radians(plan.rotation), generator)
    shear = torch.tan(_spread((batch,), math.radians(plan.shear), generator))
    size = 1 + _spread((batch,), plan.scale, generator)
    stretch = 1 + _spread((batch,), plan.stretch, generator)
    sign = torch.ones(batch)
    if plan.flip:
        sign = torch.randint(0, 2, (batch,), generator=generator) * 2.0 - 1
    cos, sin = torch.cos(angle), torch.sin(angle)
    # Rows of the map from the new picture to the old one: turn, shear, scale, mirror.
    x = torch.stack([sign * cos / size * stretch, sign * (shear * cos - sin) / size], 1)
    y = torch.stack([sin / size, (shear * sin + cos) / (size * stretch)], 1)
    shift = _spread((batch, 2, 1), 2 * plan.shift, generator)
    theta = torch.cat([torch.stack([x, y], 1), shift], 2)
    places = functional.affine_grid(theta, [batch, 1, height, width], align_corners=False)
    if plan.elastic:
        moved = torch.randn((batch, 2, _COARSE, _COARSE), generator=generator) * 2 * plan.elastic
        smooth = functional.interpolate(moved, (height, width), mode="bicubic", align_corners=True)
        places = places + smooth.permute(0, 2, 3, 1)
    return places


def _stroke(pictures: Tensor, amount: Tensor) -> Tensor:
    """Light lines on dark ground, each picture's grown or shrunk by so much of a pixel."""
    grown = functional.max_pool2d(pictures, 3, 1, 1)
    shrunk = -functional.max_pool2d(-pictures, 3, 1, 1)
    amount = amount.to(pictures.device)
    return torch.lerp(pictures, torch.where(amount > 0, grown, shrunk), amount.abs())


def _colours(pictures: Tensor, plan: Augmentation, generator: Generator) -> Tensor:
    if not (plan.brightness or plan.contrast or plan.saturation):
        return pictures
    shape = (len(pictures), 1, 1, 1)
    if plan.saturation and pictures.shape[1] == len(_GREY):
        weights = pictures.new_tensor(_GREY).view(1, 3, 1, 1)
        grey = (pictures * weights).sum(1, keepdim=True)
        share = 1 + _spread(shape, plan.saturation, generator).to(pictures.device)
        pictures = grey + (pictures - grey) * share
    if plan.contrast:
        mean = pictures.mean((1, 2, 3), keepdim=True)
        share = 1 + _spread(shape, plan.contrast, generator).to(pictures.device)
        pictures = mean + (pictures - mean) * share
    light = 1 + _spread(shape, plan.brightness, generator).to(pictures.device)
    return (pictures * light).clamp(0, 1)


def _erase(pictures: Tensor, share: float, generator: Generator) -> Tensor:
    """Rectangles of the batch's mean (Zhong and others, "Random Erasing", 2020)."""
    batch, _, height, width = pictures.shape
    low, high = _ERASED
    area = low + (high - low) * _chance((batch, 1, 1), generator)
    shape = torch.exp(_spread((batch, 1, 1), math.log(3), generator))
    tall, wide = (area * shape).sqrt() / 2, (area / shape).sqrt() / 2
    rows = (torch.arange(height).view(1, -1, 1) + 0.5) / height - _chance((batch, 1, 1), generator)
    columns = (torch.arange(width).view(1, 1, -1) + 0.5) / width - _chance((batch, 1, 1), generator)
    hit = _chance((batch, 1, 1), generator) < share
    inside = (rows.abs() < tall) & (columns.abs() < wide) & hit
    mean = pictures.mean((0, 2, 3), keepdim=True)
    return torch.where(inside.unsqueeze(1).to(pictures.device), mean, pictures)


def _chance(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator)


def _spread(shape: tuple[int, ...], most: float, generator: Generator) -> Tensor:
    """Evenly from minus to plus `most`."""
    return (_chance(shape, generator) * 2 - 1) * most
