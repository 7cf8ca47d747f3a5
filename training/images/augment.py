"""Random augmentation of training images, one batch at a time.

All geometric changes, from shift to elastic distortion, are combined into one sampling grid, so
an image is resampled only once and stays sharp.
"""

import math

import torch
from torch import Generator, Tensor
from torch.distributions import Beta
from torch.nn import functional

from training.recipe.image import Augmentation

# Points along each side of the coarse grid of an elastic distortion.
_COARSE = 5
# Minimum and maximum share of the area that random erasing removes.
_ERASED = (0.02, 0.2)
_GRAY = (0.299, 0.587, 0.114)


def augment(images: Tensor, plan: Augmentation, generator: Generator) -> Tensor:
    """Return an augmented copy of each image.

    Args:
        images: ``[batch, channels, height, width]``, 0 to 1.
        plan: the maximum of each change.
        generator: the random generator, on the CPU.
    """
    batch = len(images)
    if plan.stroke:
        images = _change_stroke(images, _draw_symmetric((batch, 1, 1, 1), plan.stroke, generator))
    if _moves_pixels(plan):
        positions = _draw_positions(images, plan, generator).to(images.device)
        mode = "zeros" if plan.edges == "background" else "reflection"
        images = functional.grid_sample(images, positions, "bilinear", mode, align_corners=False)
    if plan.blur:
        soft = functional.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
        share = torch.rand((batch, 1, 1, 1), generator=generator) * plan.blur
        images = torch.lerp(images, soft, share)
    images = _change_colors(images, plan, generator)
    return _erase(images, plan.erasing, generator) if plan.erasing else images


def mix(images: Tensor, target: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Mix each image and target with another one (mixup, Zhang et al., 2018).

    Draws from torch's global generator.

    Args:
        images: ``[batch, channels, height, width]``.
        target: ``[batch, classes]``, the share of each class.
        strength: the parameter of the Beta distribution of the mixing ratio.
    """
    share = float(Beta(strength, strength).sample())
    order = torch.randperm(len(images))
    return torch.lerp(images[order], images, share), torch.lerp(target[order], target, share)


def _moves_pixels(plan: Augmentation) -> bool:
    amounts = (plan.shift, plan.rotation, plan.scale, plan.stretch, plan.shear, plan.elastic)
    return any(amounts) or plan.flip


def _draw_positions(images: Tensor, plan: Augmentation, generator: Generator) -> Tensor:
    """Return the sampling grid, ``[batch, height, width, 2]`` from -1 to 1."""
    batch, _, height, width = images.shape
    angle = _draw_symmetric((batch,), math.radians(plan.rotation), generator)
    shear = torch.tan(_draw_symmetric((batch,), math.radians(plan.shear), generator))
    size = 1 + _draw_symmetric((batch,), plan.scale, generator)
    stretch = 1 + _draw_symmetric((batch,), plan.stretch, generator)
    sign = torch.ones(batch)
    if plan.flip:
        sign = torch.randint(0, 2, (batch,), generator=generator) * 2.0 - 1
    cos, sin = torch.cos(angle), torch.sin(angle)
    # Rows of the affine map from output to input: rotation, shear, scale, reflection.
    x = torch.stack([sign * cos / size * stretch, sign * (shear * cos - sin) / size], 1)
    y = torch.stack([sin / size, (shear * sin + cos) / (size * stretch)], 1)
    shift = _draw_symmetric((batch, 2, 1), 2 * plan.shift, generator)
    theta = torch.cat([torch.stack([x, y], 1), shift], 2)
    positions = functional.affine_grid(theta, [batch, 1, height, width], align_corners=False)
    if plan.elastic:
        moved = torch.randn((batch, 2, _COARSE, _COARSE), generator=generator) * 2 * plan.elastic
        smooth = functional.interpolate(moved, (height, width), mode="bicubic", align_corners=True)
        positions = positions + smooth.permute(0, 2, 3, 1)
    return positions


def _change_stroke(images: Tensor, amount: Tensor) -> Tensor:
    """Make light lines on a dark background thicker or thinner by up to one pixel."""
    grown = functional.max_pool2d(images, 3, 1, 1)
    shrunk = -functional.max_pool2d(-images, 3, 1, 1)
    amount = amount.to(images.device)
    return torch.lerp(images, torch.where(amount > 0, grown, shrunk), amount.abs())


def _change_colors(images: Tensor, plan: Augmentation, generator: Generator) -> Tensor:
    if not (plan.brightness or plan.contrast or plan.saturation):
        return images
    shape = (len(images), 1, 1, 1)
    if plan.saturation and images.shape[1] == len(_GRAY):
        weights = images.new_tensor(_GRAY).view(1, 3, 1, 1)
        gray = (images * weights).sum(1, keepdim=True)
        share = 1 + _draw_symmetric(shape, plan.saturation, generator).to(images.device)
        images = gray + (images - gray) * share
    if plan.contrast:
        mean = images.mean((1, 2, 3), keepdim=True)
        share = 1 + _draw_symmetric(shape, plan.contrast, generator).to(images.device)
        images = mean + (images - mean) * share
    light = 1 + _draw_symmetric(shape, plan.brightness, generator).to(images.device)
    return (images * light).clamp(0, 1)


def _erase(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Random erasing with the mean of the batch (Zhong et al., 2020)."""
    batch, _, height, width = images.shape
    low, high = _ERASED
    area = low + (high - low) * torch.rand((batch, 1, 1), generator=generator)
    shape = torch.exp(_draw_symmetric((batch, 1, 1), math.log(3), generator))
    tall, wide = (area * shape).sqrt() / 2, (area / shape).sqrt() / 2
    middle_row = torch.rand((batch, 1, 1), generator=generator)
    middle_column = torch.rand((batch, 1, 1), generator=generator)
    rows = (torch.arange(height).view(1, -1, 1) + 0.5) / height - middle_row
    columns = (torch.arange(width).view(1, 1, -1) + 0.5) / width - middle_column
    hit = torch.rand((batch, 1, 1), generator=generator) < share
    inside = (rows.abs() < tall) & (columns.abs() < wide) & hit
    mean = images.mean((0, 2, 3), keepdim=True)
    return torch.where(inside.unsqueeze(1).to(images.device), mean, images)


def _draw_symmetric(shape: tuple[int, ...], most: float, generator: Generator) -> Tensor:
    """Draw uniformly between ``-most`` and ``most``."""
    return (torch.rand(shape, generator=generator) * 2 - 1) * most
