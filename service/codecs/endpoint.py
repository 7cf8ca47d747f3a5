"""The endpoint of a model: everything that does not change between its requests.

It has the codecs of the model's inputs and outputs. It has no reference to the model, so that both
are freed together.
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary

from service.bundle.features import FeaturesInput
from service.bundle.manifest import Output
from service.codecs.columns import ColumnCodec, TableCodec, has_columns
from service.codecs.csv_rows import CsvFormat, CsvWriter, TableWriter
from service.codecs.features import FeatureCodec
from service.codecs.graph_images import create_image_codec
from service.codecs.images import DecodingPool, ImageCodec
from service.codecs.json_writer import PredictionWriter, prediction_writer
from service.codecs.output_rows import GraphOutputs
from service.codecs.parameters import Parameters, require_supported
from service.codecs.texts import TextCodec
from service.engine.model import ModelInfo, ServedModel
from service.errors import InvalidRequest
from service.limits import Limits
from service.settings import Settings


class SharedMemorySlot(NamedTuple):
    """The part of a shared memory region that holds one tensor."""

    region: str
    offset: int
    byte_size: int


class RequestedOutput(NamedTuple):
    """One output in a response of the Open Inference Protocol.

    ``output`` is its position, and ``classes`` the number of classes to rank; 0 is no ranking.
    """

    output: int
    binary: bool = False
    classes: int = 0
    slot: SharedMemorySlot | None = None


# The JSON of a response by the shapes of its arrays.
ResponseDocuments = dict[tuple[tuple[int, ...], ...], bytes]


class ResponseFormat(NamedTuple):
    """The format of a response of the Open Inference Protocol, as its request states it.

    ``level`` is the level of the interval whose ends follow the outputs of the model.
    ``documents`` has the JSON of earlier responses to the same request.
    """

    id: str | None
    outputs: tuple[RequestedOutput, ...]
    level: float | None = None
    documents: ResponseDocuments | None = None


class DocumentTemplate(NamedTuple):
    """The content of a request's JSON next to one binary tensor: shape, size and response."""

    shape: tuple[int, ...]
    byte_size: int
    response: ResponseFormat


Codec = FeatureCodec | TextCodec | ImageCodec | ColumnCodec


def choose_codec(info: ModelInfo, decoding: DecodingPool) -> Codec | None:
    """Return the codec of a model's inputs; None if they are neither named features nor images."""
    if info.manifest is None:
        if has_columns(info.inputs):
            return ColumnCodec(info.inputs)
        return create_image_codec(info, decoding)
    if isinstance(info.manifest.input, FeaturesInput):
        described = info.manifest.input
        return TextCodec(described) if described.texts else FeatureCodec(described)
    return ImageCodec(info.manifest.input, decoding)


class Endpoint:
    """Codecs and fixed response parts of one model."""

    def __init__(self, info: ModelInfo, decoding: DecodingPool) -> None:
        self.name = info.name
        self.version = info.version
        self.manifest = info.manifest
        self.inputs = info.inputs
        self.outputs = info.outputs
        self.class_labels = info.labels
        codec = choose_codec(info, decoding)
        self.features = codec if isinstance(codec, FeatureCodec) else None
        """None unless the model is a bundle that takes named features without free text."""
        self.texts = codec if isinstance(codec, TextCodec) else None
        """None unless the model is a bundle with free text."""
        self.columns = codec if isinstance(codec, ColumnCodec) else self.texts
        """None unless a row is several inputs of the graph: numbers and free text of a bundle, or
        an input for each feature of a model without a manifest."""
        self.images = codec if isinstance(codec, ImageCodec) else None
        """None if the model does not take images."""
        self.writer: PredictionWriter
        """Missing if neither the manifest nor the graph names the features."""
        self.graph_outputs: GraphOutputs | None = None
        """The outputs of a model without a manifest; None if that has no writer."""
        self.templates: dict[bytes, DocumentTemplate] = {}
        """By the JSON of a request of the Open Inference Protocol."""
        if info.manifest is not None:
            self.writer = prediction_writer(info.manifest.output, info.version)
        elif codec is not None:
            self.graph_outputs = GraphOutputs(info)
            self.writer = self.graph_outputs.create_writer(info.version)

    @property
    def output(self) -> Output | None:
        """The output of the manifest, or the classes of a graph; None if it has other outputs."""
        if self.manifest is not None:
            return self.manifest.output
        return None if self.graph_outputs is None else self.graph_outputs.classes

    def create_csv_writer(self, parameters: Parameters, table: CsvFormat | None) -> TableWriter:
        """Create the writer of a table; raise `InvalidRequest` as `require_names` does."""
        if self.manifest is not None:
            return CsvWriter(self.manifest.output, parameters, table)
        return self.require_graph_outputs().create_csv_writer(parameters, table)

    def require_supported(self, parameters: Parameters) -> None:
        """Raise `InvalidRequest` if the model does not support the parameters of a prediction."""
        self.require_names()
        require_supported(self.output, parameters)

    def require_names(self) -> None:
        """Raise `InvalidRequest` if neither a manifest nor the graph names the features."""
        if self.manifest is None:
            self.require_graph_outputs()

    def require_graph_outputs(self) -> GraphOutputs:
        """Return the outputs of a model without a manifest, or raise as `require_names` does."""
        if self.graph_outputs is None:
            shapes = ", ".join(f"{spec.name!r} {list(spec.shape)}" for spec in self.inputs)
            raise InvalidRequest(
                f"Model {self.name!r} has no manifest, and its inputs ({shapes}) have no names for "
                "single features, as inputs [-1] or [-1, 1] would; use POST "
                f"/v2/models/{self.name}/infer."
            )
        return self.graph_outputs

    def require_table(self) -> TableCodec:
        """Return the codec of a model that takes named features, or raise `InvalidRequest`."""
        self.require_names()
        codec = self.features or self.columns
        if codec is None:
            raise InvalidRequest(
                f"Model {self.name!r} takes images, not a table's rows; send an image's "
                f"file to POST /models/{self.name}/predict, with its own Content-Type."
            )
        return codec

    def require_images(self) -> ImageCodec:
        """Return the codec of a model that takes images, or raise `InvalidRequest`."""
        self.require_names()
        if self.images is None:
            raise InvalidRequest(f"Model {self.name!r} takes no images; give it a table to score.")
        return self.images


class EndpointCache:
    """The endpoints of the loaded models, each built on the first request to its model."""

    def __init__(self, settings: Settings, limits: Limits) -> None:
        self._decoding = DecodingPool(settings.max_image_pixels, settings.max_body_bytes, limits)
        self.by_model: WeakKeyDictionary[ServedModel, Endpoint] = WeakKeyDictionary()
        """The endpoints that have been built."""

    def get(self, model: ServedModel) -> Endpoint:
        """Return the endpoint of a model; only for use on the event loop."""
        try:
            return self.by_model[model]
        except KeyError:
            endpoint = self.by_model[model] = Endpoint(model.info, self._decoding)
            return endpoint
