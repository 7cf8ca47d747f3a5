"""The training loop for images."""

import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format
from torch.optim.swa_utils import AveragedModel

from service.predictions import predict_labels
from training.fit import History, check_is_finite, count_batches, show_progress
from training.images.augment import augment, mix
from training.images.checkpoint import Checkpoint
from training.images.dataset import ImageSet
from training.images.networks import Classifier, to_unit_range
from training.model.losses import compute_mean_cross_entropy
from training.model.optimizers import build_optimizer, build_schedule
from training.recipe.image import ImageRecipe

# More than the number of epochs, so that no two epochs of different seeds share one.
_SEED_STRIDE = 1_000_003
_BATCH_SIZE = 500
_MIN_SECONDS_SHOWN_AS_MINUTES = 90

Tensors = tuple[Tensor, ...] | list[Tensor]


def fit(
    classifier: Classifier,
    recipe: ImageRecipe,
    training: ImageSet,
    validation: ImageSet,
    checkpoint: Checkpoint,
) -> History:
    """Fit the classifier in place and leave it with the weights of its best epoch.

    The best epoch has the lowest cross-entropy on the validation set. With averaging, the moving
    average of the weights is measured and stored. The random numbers of an epoch depend only on
    the seed and its number, so a resumed fit ends like an uninterrupted one. ``^C`` ends the fit
    with the best epoch so far.

    Raises:
        FitError: the loss is not finite, or a batch is too small for batch normalization.
        KeyboardInterrupt: before the first epoch ended.
    """
    plan, device = recipe.training, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = convert_conv2d_weight_memory_format(
        classifier.to(device).network, torch.channels_last
    )
    averaged = AveragedModel(
        network, multi_avg_fn=_create_average(plan.ema_momentum), use_buffers=True
    )
    batches = count_batches(len(training), plan, network)
    optimizer = build_optimizer(plan, network)
    schedule = build_schedule(plan, optimizer, batches)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bfloat16")
    state = checkpoint.begin(network, averaged, optimizer, schedule)
    first = len(state.history.training)
    started = time.perf_counter()

    try:
        for epoch in range(first, plan.epochs):
            if state.should_stop(plan.patience):
                break
            network.train()
            total = 0.0
            for x, soft_targets in _augment_batches(classifier, recipe, training, batches, epoch):
                with autocast:
                    scores = network(x)
                loss = compute_mean_cross_entropy(scores.float(), soft_targets)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimizer.step()
                schedule.step()
                if plan.ema_momentum:
                    averaged.update_parameters(network)
                total += loss.item()

            if not plan.ema_momentum:  # once per epoch, since a copy per step would be slow
                averaged.update_parameters(network)
            validation_loss, error_rate = _validate(classifier, averaged.module, validation)
            check_is_finite(validation_loss, epoch, plan)
            state.record(total / batches, validation_loss, averaged.module)
            checkpoint.save()
            seconds_per_epoch = (time.perf_counter() - started) / (epoch + 1 - first)
            _log_epoch(state.history, error_rate, plan.epochs, seconds_per_epoch)
    except KeyboardInterrupt:
        if not state.weights:
            raise
        _log(f"Stopped; using epoch {state.history.best_epoch + 1}, the best so far.")

    network.load_state_dict(state.weights)
    classifier.to("cpu").eval()
    return state.history


def compute_scores(classifier: Classifier, network: nn.Module, images: ImageSet) -> Tensor:
    """Return the network's scores for all images in order, ``[images, outputs]``, on the CPU."""
    device = classifier.temperature.device
    network.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), _BATCH_SIZE):
            image = torch.from_numpy(images.pixels(slice(start, start + _BATCH_SIZE)))
            parts.append(network(classifier.pixels(image.to(device))).float().cpu())
    return torch.cat(parts)


def _validate(
    classifier: Classifier, averaged_network: nn.Module, validation: ImageSet
) -> tuple[float, float]:
    """Compute cross-entropy and error rate on the validation set."""
    scores = compute_scores(classifier, averaged_network, validation)
    loss = compute_mean_cross_entropy(scores, torch.from_numpy(validation.target))
    is_wrong = predict_labels(scores.numpy(), threshold=0.0) != validation.target
    return loss.item(), float(is_wrong.mean())


def _augment_batches(
    classifier: Classifier, recipe: ImageRecipe, training: ImageSet, batches: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, augmented with the random numbers of this epoch.

    Yields:
        Normalized pixels, ``[batch, channels, height, width]``, and soft, smoothed targets,
        ``[batch, classes]``.
    """
    device = classifier.temperature.device
    seed = recipe.seed * _SEED_STRIDE + epoch
    generator = Generator().manual_seed(seed)
    torch.manual_seed(seed)
    order = torch.randperm(len(training)).tensor_split(batches)
    for drawn in show_progress(order, ""):
        rows = np.sort(drawn.numpy())  # sequential reads from disk
        image = torch.from_numpy(training.pixels(rows)).to(device)
        augmented = augment(to_unit_range(image), recipe.augmentation, generator)
        target = torch.from_numpy(training.target[rows]).to(device)
        soft_targets = functional.one_hot(target, training.classes).float()
        if recipe.training.mixup:
            augmented, soft_targets = mix(augmented, soft_targets, recipe.training.mixup)
        smoothing = recipe.training.label_smoothing
        soft_targets = soft_targets * (1 - smoothing) + smoothing / training.classes
        x = classifier.pixels.standardize(augmented)
        yield x.contiguous(memory_format=torch.channels_last), soft_targets


def _create_average(momentum: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Create an exponential moving average with a smaller momentum in the first steps."""

    @torch.no_grad()
    def update(averages: Tensors, currents: Tensors, count: Tensor | int) -> None:
        share = 1 - min(momentum, (1 + int(count)) / (10 + int(count)) if momentum else 0.0)
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, share)
            else:
                average.copy_(current)

    return update


def _log_epoch(history: History, error_rate: float, epochs: int, seconds_per_epoch: float) -> None:
    """Log the last epoch of the history, with the time that the others of a fit will take."""
    epoch = len(history.training)
    left = _format_seconds((epochs - epoch) * seconds_per_epoch)
    _log(
        f"epoch {epoch}/{epochs}, {left} left: training loss {history.training[-1]:.4f}, "
        f"validation loss {history.validation[-1]:.4f}, validation error {error_rate:.2%}"
    )


def _format_seconds(seconds: float) -> str:
    if seconds < _MIN_SECONDS_SHOWN_AS_MINUTES:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def _log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
