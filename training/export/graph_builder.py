"""Collects nodes and constants to add to an ONNX graph."""

from onnx import NodeProto, TensorProto, helper, numpy_helper

from training.onnx_files import Array


class GraphBuilder:
    """Collects nodes and constants to add to a graph, in topological order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(
        self,
        kind: str,
        *inputs: str,
        output: str = "",
        domain: str = "",
        **options: float | str | list[int] | list[float] | list[str],
    ) -> str:
        """Add a node and return the name of its output."""
        output = output or f"{self.name}/step_{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [output], domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in options.items())
        self.nodes.append(node)
        return output

    def add_constant(self, values: Array) -> str:
        """Add a constant and return its name."""
        name = f"{self.name}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name
