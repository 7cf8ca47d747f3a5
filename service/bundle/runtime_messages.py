"""Explain the error messages of ONNX Runtime: what is wrong with a graph or input, and the remedy.

The messages name source files and C++ functions of the runtime. Standard library only, so that
training explains them the same way.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

_Found = re.Match[str]


class _Rule(NamedTuple):
    """A message of the runtime, and the function that explains it."""

    pattern: re.Pattern[str]
    explain: Callable[[_Found], str]


def explain_runtime_error(text: str) -> str | None:
    """Return the cause and remedy of an error of ONNX Runtime; None if the message is unknown.

    The result continues a sentence after a colon: it has no capital letter and no full stop.
    """
    for rule in _RULES:
        if found := rule.pattern.search(text[:_MAX_CHARACTERS]):
            return rule.explain(found)
    return None


def describe_runtime_error(text: str) -> str:
    """Return what an error of ONNX Runtime says, explained or at least without C++ names."""
    return explain_runtime_error(text) or _remove_source(
        text[:_MAX_CHARACTERS].strip().partition("\n")[0]
    )


def is_type_conflict(text: str) -> bool:
    """Return whether a graph is rejected because it declares another type than a node returns."""
    return _TYPE_CONFLICT.search(text) is not None


def explain_unsupported_type(name: str, kind: str) -> str:
    """Return why no protocol has an input or output of this type of ONNX Runtime."""
    if kind.startswith(("seq(tensor", "optional(seq(tensor")):
        remedy = "it is a list of tensors; export the graph with one tensor for each of them"
    elif kind.startswith(("seq(", "map(", "optional(seq(")):
        remedy = "export the graph with a tensor instead (scikit-learn: options={'zipmap': False})"
    elif kind.startswith("sparse_tensor"):
        remedy = "export the graph with a dense tensor instead"
    else:
        remedy = "add a Cast to float32 or another standard type to the graph"
    return f"{name!r} is a {kind}, which no protocol here supports; {remedy}"


_TYPE_CONFLICT = re.compile(
    r"Type \((\S+)\) of output arg \(([^)\n]*)\) of node \([^)\n]*\) does not match expected "
    r"type \((\S+)\)"
)
# "/onnxruntime_src/…/model.cc:256 onnxruntime::Model::Model(…) " before the message itself.
_SOURCE = re.compile(
    r"(?<!\S)\S+\.(?:cc|cpp|cu|h|hpp|cuh):\d+ "
    r"(?:[^()\n]*\((?:[^()\n]|\((?:[^()\n]|\([^()\n]*\))*\))*\)(?: const)?"
    r"(?:::<lambda\([^()\n]*\)>)?(?: \[with [^\]\n]*\])? )?"
)
# Names of nodes are in the messages, and a graph may have names of any length.
_MAX_CHARACTERS = 10_000
_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ")
_EXPORT_DYNAMIC = (
    "export it with a free batch axis (PyTorch: dynamic_shapes or dynamic_axes; Keras: batch size "
    "None)"
)
_NO_CUSTOM = "no custom operators are loaded here, so export it with standard operators only"


def _remove_source(text: str) -> str:
    """Remove the error code, and the source file and function of the runtime."""
    return _SOURCE.sub("", _CODE.sub("", text)).strip()


def _explain_ir(found: _Found) -> str:
    version, newest = found.groups()
    return (
        f"its IR version {version} is newer than {newest}, the newest that this ONNX Runtime "
        f"reads; save it with model.ir_version = {newest}, or update onnxruntime here"
    )


def _explain_opset(found: _Found) -> str:
    version, domain, newest = found.groups()
    return (
        f"its opset {version} of {domain} is newer than {newest}, the newest that this ONNX "
        f"Runtime supports; export it with opset {newest} or lower (PyTorch: opset_version; "
        "scikit-learn: target_opset), or update onnxruntime here"
    )


def _explain_custom(found: _Found) -> str:
    domain, operator = found.groups()
    of = f" of the domain {domain}" if domain else ""
    return f"it uses the operator {operator}{of}, which ONNX Runtime does not have; {_NO_CUSTOM}"


def _explain_unknown_domain(found: _Found) -> str:
    operator, domain = found.groups()
    return (
        f"it uses the operator {operator} of the domain {domain}, which is not among its opsets; "
        f"{_NO_CUSTOM}"
    )


def _explain_missing_operator(found: _Found) -> str:
    domain, operator, version = found.groups()
    of = f" of {domain}" if domain else ""
    return (
        f"the operator {operator} does not exist in opset {version}{of}, which it declares; "
        "export it with the opset that has the operator, or with standard operators only"
    )


def _explain_locale(found: _Found) -> str:
    name = found[1]
    language, _, encoding = name.partition(".")
    return (
        f"its StringNormalizer needs the locale {name}, which is not installed here; install it "
        f"(Debian and Ubuntu: apt-get install locales && localedef -i {language} -f "
        f"{encoding or 'UTF-8'} {name}), or serve it with the container image, which has "
        "en_US.UTF-8"
    )


def _explain_no_kernel(found: _Found) -> str:
    operator, version = found.groups()
    return (
        f"ONNX Runtime has no implementation of {operator} (opset {version}) for its types on this "
        "device; export it in float32, or quantize it statically (QDQ) if it was quantized "
        "dynamically"
    )


def _explain_declared_type(found: _Found) -> str:
    declared, name, actual = found[1], found[2], found[3]
    return (
        f"{name!r} is declared as {declared}, and its node returns {actual}; correct the type in "
        "the graph, or update the converter"
    )


def _explain_shapes(found: _Found) -> str:
    node, operator, problem = found.groups()
    return (
        f"{_name_node(operator, node)} does not fit the shapes that the graph declares: {problem}; "
        "export the graph again"
    )


def _explain_weights(_: _Found) -> str:
    return (
        "its weights are in a separate file that was not found; put it next to the graph under the "
        "name in the graph, or save the model as one file (onnx.save without external data)"
    )


def _explain_dimensions(found: _Found) -> str:
    name, differences = found[1], found[2]
    parts = re.findall(r"index: (\d+) Got: (\d+) Expected: (\d+)", differences)
    for axis, actual, expected in parts:
        if axis == "0":
            rows = "row" if expected == "1" else "rows"
            return (
                f"the graph has a fixed batch of {expected} {rows} (axis 0 of input {name!r}), got "
                f"{actual}; send {expected} {rows} per request, or {_EXPORT_DYNAMIC}"
            )
    listed = "; ".join(
        f"axis {axis} has length {actual}, not {expected}" for axis, actual, expected in parts
    )
    return f"input {name!r} has the wrong shape: {listed}; send the shape that the graph declares"


def _explain_rank(found: _Found) -> str:
    name, actual, expected = found.groups()
    return (
        f"input {name!r} has rank {actual}, and the graph takes rank {expected}; a table has the "
        "shape [rows, columns], and one column [rows] or [rows, 1], as the graph declares it"
    )


def _explain_type(found: _Found) -> str:
    actual, expected = found.groups()
    return f"an input has the type {actual}, and the graph takes {expected}"


def _explain_reshape(found: _Found) -> str:
    node, actual, requested = found["node"], found["actual"], found["requested"]
    return (
        f"{_name_node('Reshape', node)} cannot give the shape [{_axes(actual)}] the shape "
        f"[{_axes(requested)}]; the graph was exported for another number of rows or values, so "
        f"send that many, or {_EXPORT_DYNAMIC}"
    )


def _explain_broadcast(found: _Found) -> str:
    operator, node, left, right = found.groups()
    return (
        f"{_name_node(operator, node)} cannot combine axes of the lengths {left} and {right}; all "
        f"inputs need the same number of rows, and if they have it, {_EXPORT_DYNAMIC}"
    )


def _explain_index(found: _Found) -> str:
    operator, node, index, least, greatest = found.groups()
    return (
        f"{_name_node(operator, node)} has no entry {index}, only {least} to {greatest}; an input "
        "that chooses from a table, such as an identifier or a token, is out of range"
    )


def _explain_category(found: _Found) -> str:
    return (
        f"{_name_node('OneHotEncoder', found[1])} does not know a value of the input, and the "
        "graph rejects unknown ones; send known values, or export it with handle_unknown='ignore'"
    )


def _explain_memory(found: _Found) -> str:
    size = f"{int(found[1]):,} bytes of memory" if found[1] else "more memory than is available"
    return f"the run needs {size}; send fewer rows per request"


def _explain_node(found: _Found) -> str:
    operator, node, status = found.groups()
    return f"{_name_node(operator, node)} fails on this input: {_remove_source(status)}"


def _name_node(operator: str, node: str) -> str:
    return f"its {operator} node {node!r}" if node else f"its {operator} node"


def _axes(shape: str) -> str:
    """Return ``2, 3`` for ``{2,3}``."""
    return ", ".join(shape.strip("{}").split(","))


def _rule(pattern: str, explain: Callable[[_Found], str]) -> _Rule:
    return _Rule(re.compile(pattern), explain)


_RUNNING = r"while running (\w+) node\. Name:'([^'\n]*)' Status Message: "

# The first that matches is used; the last is for any failure of a node.
_RULES: Sequence[_Rule] = (
    _rule(
        r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
        _explain_ir,
    ),
    _rule(
        r"Opset (\d+) is under development[^\n]*support for domain (\S+) is till opset (\d+)",
        _explain_opset,
    ),
    _rule(
        r"Fatal error: ([^:\s]*):([^(\s]+)\(-?\d+\) is not a registered function/op",
        _explain_custom,
    ),
    _rule(
        r'\("[^"\n]*", (\w+), "[^"\n]*", -?\d+\)[^\n]*No opset import for domain (\'[^\'\n]*\')',
        _explain_unknown_domain,
    ),
    _rule(
        r'(?:\("[^"\n]*", \w+, "([^"\n]*)", -?\d+\)[^\n]*)?'
        r"No Op registered for (\w+) with domain_version of (\d+)",
        _explain_missing_operator,
    ),
    _rule(r"Failed to construct locale with name:\s*([\w.@-]+)", _explain_locale),
    _rule(
        r"Could not find an implementation for (?:[\w.]+:)?(\w+)\((\d+)\)",
        _explain_no_kernel,
    ),
    _Rule(_TYPE_CONFLICT, _explain_declared_type),
    _rule(r"Node ?\(([^)\n]*)\) Op ?\((\w+)\) \[\w+\] ([^\n]+)", _explain_shapes),
    _rule(
        r"(?i)external data.*(?:does not exist|not found|No such file)|model_path must not be "
        r"empty|External initializer: .* not found|Failed to load external",
        _explain_weights,
    ),
    _rule(
        r"Got invalid dimensions for input: (.+?) for the following indices((?:\s+index: [^\n]*)+)",
        _explain_dimensions,
    ),
    _rule(r"Invalid rank for input: (.+?) Got: (\d+) Expected: (\d+)", _explain_rank),
    _rule(
        r"Unexpected input data type\. Actual: \((.+?)\) ?, expected: \((.+?)\)(?:\s|$)",
        _explain_type,
    ),
    _rule(
        r"(?s)Name:'(?P<node>[^'\n]*)' Status Message: .*cannot be reshaped to the requested shape"
        r"\. Input shape:(?P<actual>\{[^}]*\}), requested shape:(?P<requested>\{[^}]*\})",
        _explain_reshape,
    ),
    _rule(_RUNNING + r".*by a dimension other than 1\. (\d+) by (\d+)", _explain_broadcast),
    _rule(
        _RUNNING + r".*out of (?:data )?bounds[^\n]*idx=(-?\d+) must be within the inclusive range "
        r"\[(-?\d+),(-?\d+)\]",
        _explain_index,
    ),
    _rule(
        r"while running OneHotEncoder node\. Name:'([^'\n]*)' Status Message: .*Unknown Category",
        _explain_category,
    ),
    _rule(
        r"Failed to allocate memory for requested buffer of size (\d+)|std::bad_alloc",
        _explain_memory,
    ),
    _rule(r"(?s)" + _RUNNING + r"(.+?)\s*$", _explain_node),
)
