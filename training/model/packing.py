"""Many small networks as one module, so that one step of training serves all of them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from training.model.networks import Embedded, Periodic, PiecewiseLinear
from training.recipe.table import Activation

# Random numbers are drawn in blocks of this many units, so that a network has the same dropout
# next to wider networks.
_UNITS = 128
# A seed of its own for the dropout of each layer in each step.
_MOST_LAYERS = 64


@dataclass(frozen=True)
class _Slice:
    """Where a parameter of a network is in the packed parameters."""

    packed: nn.Parameter
    slot: int
    own: Tensor
    transposed: bool

    @property
    def part(self) -> Tensor:
        """The rows and columns of the packed parameter; those beyond are padding."""
        own = self.own.data.T if self.transposed else self.own.data
        slot = self.packed.data[self.slot]
        return slot[: own.shape[0], : own.shape[1]] if own.dim() > 1 else slot[0, : len(own)]

    def read(self) -> None:
        """Copy the network's parameter into the packed one."""
        self.part.copy_(self.own.data.T if self.transposed else self.own.data)

    def write(self) -> None:
        """Copy the packed parameter back to the network."""
        part = self.part
        self.own.data.copy_(part.T if self.transposed else part)


@dataclass(frozen=True)
class _Group:
    """Networks whose first layers have the same inputs, but for their frequencies."""

    embeddings: Sequence[Embedded | None]
    """Of each training set."""
    sets: Tensor
    """``[networks]``: the training set of each network."""

    def embed(self, position: int, x: Tensor) -> Tensor:
        """Return the inputs from a training set, as far as they have no parameters."""
        embedded = self.embeddings[position]
        is_fixed = embedded is not None and isinstance(embedded.embedding, PiecewiseLinear)
        return embedded(x) if embedded is not None and is_fixed else x

    def expand(self, x: Tensor, frequency: Tensor) -> Tensor:
        """Map ``[sets, rows, width]`` to the inputs of each network, ``[networks, rows, width]``.

        Args:
            x: rows of `embed`.
            frequency: of each network, ``[networks, numbers, frequencies]``; empty for others.
        """
        first = self.embeddings[0]
        each = x.expand(len(self.sets), -1, -1) if len(x) == 1 else x.index_select(0, self.sets)
        if first is None or not isinstance(first.embedding, Periodic):
            return each
        numbers, others = each[:, :, : first.numbers], each[:, :, first.numbers :]
        angle = 2 * math.pi * numbers.unsqueeze(3) * frequency.unsqueeze(1)
        parts = [numbers, torch.sin(angle).flatten(2), torch.cos(angle).flatten(2), others]
        return torch.cat(parts, dim=2)


class PackedNetworks(nn.Module):
    """MLPs of `training.model.networks.build` with padded layers, multiplied in batches.

    Padding is zero and has gradients of zero, because every activation of `ACTIVATIONS` here maps
    zero to zero. Dropout has the same random numbers in all networks, which start differently.

    Args:
        networks: for each training set, those of the same plans, in the same order.
        activation: of all networks.
        dropouts: of each plan.
    """

    def __init__(
        self, networks: Sequence[nn.Module], activation: Activation, dropouts: Sequence[float]
    ) -> None:
        super().__init__()
        self._activate = ACTIVATIONS[activation]
        self._slices: list[list[_Slice]] = [[] for _ in networks]
        linears = [[one for one in network if isinstance(one, nn.Linear)] for network in networks]  # type: ignore[attr-defined]  # of build: nn.Sequential
        embeddings = [_find_embedding(network) for network in networks]
        self.order = sorted(range(len(networks)), key=lambda k: -len(linears[k]))
        """The networks by the number of their layers: only the first ones have a further layer."""
        hidden = [len(linears[k]) - 1 for k in self.order]
        self._counts = [sum(layers > depth for layers in hidden) for depth in range(hidden[0])]
        units = max(one.out_features for layers in linears for one in layers[:-1])

        groups: dict[tuple[type, int] | None, list[int]] = {}
        for k in self.order:
            groups.setdefault(_describe_embedding(embeddings[k]), []).append(k)
        plans = len(dropouts)
        self.sets = torch.tensor([k // plans for k in self.order])
        """``[networks]``: the training set of each network, in ``order``."""
        self._groups = [
            _Group(
                [embeddings[first + group[0] % plans] for first in range(0, len(networks), plans)],
                torch.tensor([k // plans for k in group]),
            )
            for group in groups.values()
        ]
        self._frequencies = nn.ParameterList()
        self._weights, self._biases = nn.ParameterList(), nn.ParameterList()
        for group in groups.values():
            self._pack([(k, linears[k][0]) for k in group], linears[group[0]][0].in_features, units)
            self._frequencies.append(self._pack_frequencies([(k, embeddings[k]) for k in group]))
        grouped = [k for group in groups.values() for k in group]
        self._sorting: Tensor
        self.register_buffer("_sorting", torch.tensor([grouped.index(k) for k in self.order]))
        for depth, count in enumerate(self._counts[1:], 1):
            self._pack([(k, linears[k][depth]) for k in self.order[:count]], units, units)
        outputs = linears[0][-1].out_features
        self._pack([(k, linears[k][-1]) for k in self.order], units, outputs)
        self._retained: Tensor
        retained = 1 - torch.tensor([dropouts[k % plans] for k in self.order])
        self.register_buffer("_retained", retained.view(-1, 1, 1))

    def _pack(self, layers: Sequence[tuple[int, nn.Linear]], inputs: int, outputs: int) -> None:
        """Add the padded weights and biases of one layer of several networks."""
        weight = nn.Parameter(torch.zeros(len(layers), inputs, outputs))
        bias = nn.Parameter(torch.zeros(len(layers), 1, outputs))
        self._weights.append(weight)
        self._biases.append(bias)
        for slot, (k, layer) in enumerate(layers):
            self._add(k, _Slice(weight, slot, layer.weight, transposed=True))
            self._add(k, _Slice(bias, slot, layer.bias, transposed=False))

    def _pack_frequencies(self, embeddings: Sequence[tuple[int, Embedded | None]]) -> nn.Parameter:
        """Return the frequencies of several networks; empty for other embeddings."""
        periodic = [
            (k, one.embedding.frequency)
            for k, one in embeddings
            if one is not None and isinstance(one.embedding, Periodic)
        ]
        if not periodic:
            return nn.Parameter(torch.zeros(0))
        packed = nn.Parameter(torch.zeros(len(periodic), *periodic[0][1].shape))
        for slot, (k, frequency) in enumerate(periodic):
            self._add(k, _Slice(packed, slot, frequency, transposed=False))
        return packed

    def _add(self, network: int, part: _Slice) -> None:
        part.read()
        self._slices[network].append(part)

    def embed(self, sets: Sequence[Tensor]) -> list[Tensor]:
        """Return the inputs of each group of networks, as far as they have no parameters.

        Args:
            sets: of each training set, ``[rows, width]``, preprocessed.

        Returns:
            ``[sets, rows, width]`` for each group; sets with fewer rows end with zeros.
        """
        return [
            pad_sequence([group.embed(k, x) for k, x in enumerate(sets)], batch_first=True)
            for group in self._groups
        ]

    def forward(self, inputs: Sequence[Tensor], step: int = 0) -> Tensor:
        """Map rows of `embed` to the scores ``[networks, rows, outputs]``, in ``order``.

        The step decides the random numbers of dropout.
        """
        firsts = len(self._groups)
        first = [
            torch.baddbmm(bias, group.expand(x, frequency), weight)
            for group, x, frequency, weight, bias in zip(
                self._groups,
                inputs,
                self._frequencies,
                self._weights[:firsts],
                self._biases[:firsts],
                strict=True,
            )
        ]
        x = torch.cat(first).index_select(0, self._sorting)
        finished: list[Tensor] = []
        for depth, count in enumerate(self._counts):
            if depth:
                if count < len(x):
                    finished.insert(0, x[count:])
                    x = x[:count]
                layer = firsts + depth - 1
                x = torch.baddbmm(self._biases[layer], x, self._weights[layer])
            x = self._drop(self._activate(x), step * _MOST_LAYERS + depth)
        x = torch.cat([x, *finished]) if finished else x
        return torch.baddbmm(self._biases[-1], x, self._weights[-1])

    def _drop(self, x: Tensor, seed: int) -> Tensor:
        """Set units to zero at random, in training mode."""
        retained = self._retained[: len(x)]
        if not self.training or bool((retained == 1).all()):
            return x
        generator = torch.Generator().manual_seed(seed)
        blocks = math.ceil(x.shape[2] / _UNITS)
        noise = torch.rand(blocks, x.shape[1], _UNITS, generator=generator)
        noise = noise.transpose(0, 1).flatten(1)[:, : x.shape[2]]
        return x * ((noise < retained) / retained)

    def list_owners(self) -> list[Tensor]:
        """Return the network of each weight, as its position in ``order``, for each parameter."""
        owners = {id(one): torch.zeros(one.shape, dtype=torch.long) for one in self.parameters()}
        for position, network in enumerate(self.order):
            for part in self._slices[network]:
                owners[id(part.packed)][part.slot] = position
        return [owners[id(one)] for one in self.parameters()]

    def unpack(self) -> None:
        """Copy the parameters back to the networks."""
        for slices in self._slices:
            for part in slices:
                part.write()


def _find_embedding(network: nn.Module) -> Embedded | None:
    return next((one for one in network.children() if isinstance(one, Embedded)), None)


def _describe_embedding(embedded: Embedded | None) -> tuple[type, int] | None:
    """Return what networks of one first layer have in common."""
    return None if embedded is None else (type(embedded.embedding), embedded.outputs)


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "gelu": nn.functional.gelu,
    "elu": nn.functional.elu,
    "leaky-relu": nn.functional.leaky_relu,
}
"""Those of `training.model.networks` that map zero to zero."""
