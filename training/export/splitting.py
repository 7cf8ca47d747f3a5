"""Split the graph of several modules that were exported in one call into one for each module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx.utils
from onnx import GraphProto, ModelProto


@dataclass(frozen=True)
class ModuleNames:
    """The names of a module's tensors in the graph of all modules, and in its own."""

    input_name: str
    output_name: str
    new_input_name: str
    new_output_name: str
    parameters: str
    """What the names of the module's parameters begin with."""


def split(model: ModelProto, modules: Sequence[ModuleNames]) -> list[ModelProto]:
    """Return the graph of each module; it does not depend on the other modules.

    Other tensors than the parameters are numbered, because the exporter counts them over all
    modules.
    """
    extractor = onnx.utils.Extractor(model)
    graphs = []
    for module in modules:
        part = extractor.extract_model([module.input_name], [module.output_name])
        part.producer_name, part.producer_version = model.producer_name, model.producer_version
        part.graph.name = model.graph.name
        _rename(part.graph, _number_tensors(part.graph, module))
        graphs.append(part)
    return graphs


def _number_tensors(graph: GraphProto, module: ModuleNames) -> dict[str, str]:
    """Return the new name of each tensor."""
    names: dict[str, str] = {
        module.input_name: module.new_input_name,
        module.output_name: module.new_output_name,
    }
    found = [name for node in graph.node for name in (*node.input, *node.output) if name]
    for name in found:
        if name.startswith(module.parameters):
            names[name] = name.removeprefix(module.parameters)
        elif name not in names:
            names[name] = f"value_{len(names)}"
    return names


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.ClearField("name")
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensors in (graph.initializer, graph.value_info):
        ordered = sorted(tensors, key=lambda tensor: tensor.name)
        del tensors[:]
        tensors.extend(ordered)
