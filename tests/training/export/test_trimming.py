"""Unused rows and columns are not computed, and outputs do not change."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch import nn

from training.export.onnx_export import export_module
from training.export.trimming import trim
from training.onnx_files import Graph

_CHANNELS = 3


def _conv(draw: st.DrawFn, taken: str, name: str) -> tuple[onnx.NodeProto, onnx.TensorProto]:
    kernel = draw(st.tuples(*[st.integers(1, 3)] * 2))
    node = helper.make_node(
        "Conv",
        [taken, f"{name}_weight"],
        [name],
        kernel_shape=kernel,
        pads=draw(st.tuples(*[st.integers(0, 2)] * 4)),
        strides=draw(st.tuples(*[st.integers(1, 2)] * 2)),
        dilations=draw(st.tuples(*[st.integers(1, 2)] * 2)),
    )
    weight = np.random.default_rng(1).normal(size=(_CHANNELS, _CHANNELS, *kernel))
    return node, numpy_helper.from_array(weight.astype(np.float32), f"{name}_weight")


def _pool(draw: st.DrawFn, kind: str, taken: str, name: str) -> onnx.NodeProto:
    return helper.make_node(
        kind,
        [taken],
        [name],
        kernel_shape=draw(st.tuples(*[st.integers(2, 3)] * 2)),
        pads=draw(st.tuples(*[st.integers(0, 1)] * 4)),
        strides=draw(st.tuples(*[st.integers(1, 3)] * 2)),
    )


@st.composite
def _networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Sequential layers with random forks and intermediate outputs."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    tensors = ["image"]
    for number in range(draw(st.integers(3, 7))):
        name, taken = f"layer_{number}", draw(st.sampled_from(tensors[-2:]))
        kind = draw(st.sampled_from(["Conv", "MaxPool", "AveragePool", "Relu", "Transpose"]))
        if kind == "Conv":
            node, weight = _conv(draw, taken, name)
            nodes.append(node)
            weights.append(weight)
        elif kind == "Relu":
            nodes.append(helper.make_node(kind, [taken], [name]))
        elif kind == "Transpose":
            nodes.append(helper.make_node(kind, [taken], [name], perm=[0, 1, 3, 2]))
        else:
            nodes.append(_pool(draw, kind, taken, name))
        tensors.append(name)
    shape: list[str | int | None] = [
        "batch",
        _CHANNELS,
        draw(st.integers(12, 20)),
        draw(st.integers(12, 20)),
    ]
    predictions = sorted({tensors[-1], draw(st.sampled_from(tensors[1:]))})
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in predictions],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _predictions(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray] | None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        found: list[np.ndarray] = session.run(None, {"image": images})
    except Exception:  # noqa: BLE001 - an image too small for its windows; the library has no class for it
        return None
    return found


@settings(max_examples=80, deadline=None)
@given(_networks())
def test_trimming_does_not_change_predictions(model: onnx.ModelProto) -> None:
    """Predictions are the same for any windows, padding and intermediate outputs."""
    height, width = (axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim[2:])
    images = np.random.default_rng(2).normal(size=(3, _CHANNELS, height, width)).astype(np.float32)
    before = _predictions(model, images)
    if before is None:
        return

    trim(model)

    after = _predictions(model, images)
    assert after is not None
    for found, expected in zip(after, before, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    trimmed = model.SerializeToString(deterministic=True)
    trim(model)
    assert model.SerializeToString(deterministic=True) == trimmed


@pytest.mark.parametrize("stride", [1, 2])
def test_a_window_that_reads_only_padding_gets_a_tensor_that_is_not_empty(stride: int) -> None:
    """The first output column of the last layer reads only padding, and it is trimmed to one."""
    nodes = [
        helper.make_node("MaxPool", ["image"], ["pooled"], kernel_shape=(2, 3), strides=(1, 3)),
        helper.make_node(
            "Conv",
            ["pooled", "weight"],
            ["scores"],
            kernel_shape=(1, 1),
            pads=(0, 1, 0, 0),
            strides=(1, stride),
        ),
        helper.make_node("MaxPool", ["scores"], ["last"], kernel_shape=(1, 1), strides=(1, 99)),
    ]
    weight = np.random.default_rng(1).normal(size=(_CHANNELS, _CHANNELS, 1, 1))
    value = helper.make_tensor_value_info
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "padded",
        [value("image", kind, ["batch", _CHANNELS, 12, 12])],
        [value("last", kind, None)],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    images = np.random.default_rng(2).normal(size=(3, _CHANNELS, 12, 12)).astype(np.float32)
    expected = _predictions(model, images)

    trim(model)

    assert expected is not None
    np.testing.assert_array_equal(_predictions(model, images), expected)
    assert any(node.op_type == "Slice" for node in model.graph.node)


class _Bytes(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.network = nn.Sequential(*layers)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.network(image.permute(0, 3, 1, 2).float() / 255)
        return scores


def _without_padding() -> list[nn.Module]:
    """Two convolutions without padding, whose second pool gets eleven rows."""
    return [
        *(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(200, 3)),
    ]


def _with_padding() -> list[nn.Module]:
    """Three convolutions with padding; the last pool gets seven rows."""
    return [
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.ELU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.LeakyReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(72, 3)),
    ]


def _even() -> list[nn.Module]:
    return [
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        nn.Linear(1568, 3),
    ]


@pytest.mark.parametrize(
    ("layers", "sides"),
    [(_without_padding, [24, 10]), (_with_padding, [28, 14, 6]), (_even, [28])],
    ids=["without margins", "with margins", "nothing to leave out"],
)
def test_an_exported_network_only_computes_what_its_pools_use(
    layers: Callable[[], list[nn.Module]], sides: list[int]
) -> None:
    """The sizes of its convolution outputs for an image of 28 pixels."""
    torch.manual_seed(1)
    network = _Bytes(*layers()).eval()
    images = np.random.default_rng(3).integers(0, 256, (5, 28, 28, 1), np.uint8)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()

    exported = export_module(network, torch.from_numpy(images[:3]), "image", "scores")

    np.testing.assert_allclose(Graph(exported).predict(images), expected, rtol=1e-5, atol=1e-6)
    graph = onnx.load_model_from_string(exported).graph
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in graph.value_info
    }
    convolved = [shapes[node.output[0]] for node in graph.node if node.op_type == "Conv"]
    assert [shape[2:] for shape in convolved] == [[side, side] for side in sides]
    for before, after in pairwise(graph.node):
        if after.op_type == "MaxPool":
            assert shapes[before.output[0]][2] == 2 * shapes[after.output[0]][2]


def test_a_graph_with_subgraphs_is_not_trimmed() -> None:
    """Subgraphs use tensors that their node does not list."""
    inner = helper.make_graph(
        [helper.make_node("Identity", ["convolved"], ["all_of_it"])],
        "inner",
        [],
        [helper.make_tensor_value_info("all_of_it", onnx.TensorProto.FLOAT, None)],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight"], ["convolved"], kernel_shape=[2, 2]),
            helper.make_node(
                "MaxPool", ["convolved"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]
            ),
            helper.make_node("If", ["always"], ["seen"], then_branch=inner, else_branch=inner),
        ],
        "outer",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 1, 6, 6])],
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in ("pooled", "seen")
        ],
        [
            numpy_helper.from_array(np.ones((1, 1, 2, 2), np.float32), "weight"),
            numpy_helper.from_array(np.array(1, np.bool_), "always"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    before = model.SerializeToString(deterministic=True)

    trim(model)

    assert model.SerializeToString(deterministic=True) == before
