"""Random augmentation of training images."""

import math

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from training.images.augment import augment, mix
from training.recipe.image import Augmentation


def _spots(count: int = 64, side: int = 41) -> Tensor:
    """Images of one bright spot to the right of the center, ``[count, 1, side, side]``."""
    y, x = np.mgrid[:side, :side] - side // 2
    spot = np.exp(-((x - 10) ** 2 + y**2) / 8).astype(np.float32)
    return torch.from_numpy(spot).expand(count, 1, side, side).clone()


def _centers(images: Tensor) -> Tensor:
    """The center of light of each image, ``[count, 2]``: x and y from the center, in pixels."""
    side = images.shape[-1]
    offset = torch.arange(side) - side // 2
    light = images[:, 0]
    total = light.sum((1, 2))
    x = (light.sum(1) * offset).sum(1) / total
    y = (light.sum(2) * offset).sum(1) / total
    return torch.stack([x, y], 1)


def test_the_same_seed_gives_the_same_augmentation() -> None:
    """All random numbers come from the generator."""
    plan = Augmentation(shift=0.1, rotation=20, elastic=0.02, stroke=0.5, blur=0.5, erasing=0.5)

    first, again, other = (
        augment(_spots(), plan, Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_augmentation_changes_nothing() -> None:
    """A recipe without augmentation uses the images unchanged."""
    images = _spots()

    assert torch.equal(augment(images, Augmentation(), Generator()), images)


def test_a_rotation_preserves_the_distance_from_the_center() -> None:
    """The spot moves along a circle by at most the maximum angle."""
    rotated = augment(_spots(), Augmentation(rotation=30), Generator().manual_seed(1))

    x, y = _centers(rotated).T
    angles = torch.rad2deg(torch.atan2(y, x))
    assert torch.allclose(torch.hypot(x, y), torch.tensor(10.0), atol=0.1)
    assert angles.abs().max() <= 30.5
    assert angles.abs().max() > 25


def test_a_shift_is_a_share_of_the_side() -> None:
    """A tenth of 41 pixels is at most 4.1, in both directions."""
    shifted = augment(_spots(), Augmentation(shift=0.1), Generator().manual_seed(1))

    moved = _centers(shifted) - torch.tensor([10.0, 0.0])
    assert moved.abs().max() <= 4.2
    assert moved.min() < -3
    assert moved.max() > 3


def test_a_scale_enlarges_and_reduces() -> None:
    """The distance of the spot from the center changes by at most the maximum share."""
    scaled = augment(_spots(), Augmentation(scale=0.2), Generator().manual_seed(1))

    distance = _centers(scaled)[:, 0]
    assert distance.min() == pytest.approx(8, abs=0.4)
    assert distance.max() == pytest.approx(12, abs=0.4)


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    """The spot is on the right, or on the left at the same distance."""
    flipped = augment(_spots(), Augmentation(flip=True), Generator().manual_seed(1))

    x = _centers(flipped)[:, 0]
    assert torch.allclose(x.abs(), torch.tensor(10.0), atol=0.1)
    assert 16 < int((x < 0).sum()) < 48


def test_strokes_become_thicker_and_thinner() -> None:
    """A line three pixels wide becomes up to one pixel wider or narrower at each side."""
    line = torch.zeros(64, 1, 21, 21)
    line[:, :, :, 9:12] = 1

    changed = augment(line, Augmentation(stroke=1.0), Generator().manual_seed(1))

    ink = changed[:, 0, 10].sum(1)
    assert ink.min() < 2
    assert ink.max() > 4
    assert changed[:, :, :, :8].max() == 0


def test_erasing_fills_a_rectangle_with_the_mean() -> None:
    """A rectangle is erased in about the specified share of the images."""
    images = torch.rand(200, 3, 32, 32, generator=Generator().manual_seed(1))

    erased = augment(images, Augmentation(erasing=0.5), Generator().manual_seed(2))

    erased_pixels = (erased != images).all(1)
    mean = images.mean((0, 2, 3))
    hit = erased_pixels.flatten(1).any(1)
    assert 60 < int(hit.sum()) < 130
    assert torch.allclose(erased.permute(0, 2, 3, 1)[erased_pixels], mean)
    assert erased_pixels.flatten(1).float().mean(1).max() <= 0.25


def test_colors_stay_within_bounds() -> None:
    """Brightness, contrast and saturation change the values within 0 to 1."""
    images = torch.rand(32, 3, 8, 8, generator=Generator().manual_seed(1))
    plan = Augmentation(brightness=0.5, contrast=0.5, saturation=0.9)

    changed = augment(images, plan, Generator().manual_seed(2))

    assert not torch.allclose(changed, images)
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1


def test_mixup_mixes_images_and_targets_by_the_same_share() -> None:
    """The target has the share of each class."""
    images = torch.stack([torch.full((1, 4, 4), float(k)) for k in (0, 1)])
    target = torch.eye(2)
    torch.manual_seed(3)

    mixed, wanted = mix(images, target, 1.0)

    assert torch.allclose(mixed[:, 0, 0, 0], wanted[:, 1])
    assert math.isclose(float(wanted.sum()), 2.0, rel_tol=1e-6)
