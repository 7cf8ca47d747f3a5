"""The schema of a recipe for images."""

import re
from functools import partial
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from service.bundle.features import Finite, Text
from service.bundle.manifest import Side
from training.recipe.families import IMAGE_FAMILIES, require_family
from training.recipe.table import (
    Activation,
    ModelDescription,
    NotNegative,
    Optimizer,
    OptimizerSettings,
    Section,
    SeededRecipe,
    Share,
)

Size = Annotated[int, Field(ge=1, le=16_384)]
Edges = Literal["background", "reflect"]

_LAYER = re.compile(r"(conv|dense) [1-9]\d{0,4}|dropout 0\.\d+|pool|flatten")


class ImageData(Section):
    """The image source: exactly one of ``source`` and ``folder``."""

    source: str | None = Field(default=None, description="name of a public data set")
    folder: str | None = Field(
        default=None,
        description="a folder with a folder of images per class; or with train/, and validation/ "
        "or test/, that each have such folders",
    )
    private: bool = Field(
        default=False, description="whether the bundle must not contain any of the images"
    )

    @model_validator(mode="after")
    def _require_one_source(self) -> Self:
        if (self.source is None) == (self.folder is None):
            raise ValueError("set exactly one of source and folder")
        return self


class CardTarget(Section):
    """The prediction of an imported model of images: a number or, with ``labels``, a class."""

    name: Text = Field(default="prediction", description="name of the prediction: digit, age")
    description: str = ""
    unit: str | None = None
    labels: list[Text] = Field(default=[], description="names of the classes")


class ImageCard(ModelDescription):
    """The description of an imported model of images."""

    target: CardTarget = CardTarget()


class ImageTarget(Section):
    """The label of the images."""

    name: Text = Field(description="name of the prediction: digit, animal")
    description: str = ""
    labels: list[Text] = Field(
        default=[], description="names of the classes; by default the names of the folders"
    )


class Split(Section):
    """Sizes of the test and validation set, if the data set does not define them."""

    test: Share = Field(
        default=0.2, description="share of the images, unless the data has a test set"
    )
    validation: Annotated[Finite, Field(gt=0, lt=1)] = Field(
        default=0.1, description="share of the training images"
    )


class Image(Section):
    """The preprocessing of images of any size."""

    height: Side
    width: Side
    channels: Literal[1, 3]
    fit: Literal["stretch", "crop", "pad"] = "crop"
    background: Annotated[int, Field(ge=0, le=255)] = 255
    normalize: Literal["none", "digit"] = "none"


class Augmentation(Section):
    """Random augmentation of training images.

    Lengths are shares of the side of the image, angles are in degrees.
    """

    shift: Share = Field(default=0.0, description="maximum translation")
    rotation: Annotated[Finite, Field(ge=0, le=180)] = 0.0
    scale: Share = Field(default=0.0, description="0.1: zoom between 0.9 and 1.1")
    stretch: Share = Field(default=0.0, description="0.1: aspect ratio between 0.9 and 1.1")
    shear: Annotated[Finite, Field(ge=0, le=60)] = 0.0
    elastic: Share = Field(
        default=0.0, description="elastic distortion: standard deviation of a coarse grid"
    )
    flip: bool = Field(default=False, description="random horizontal flips")
    stroke: Annotated[Finite, Field(ge=0, le=1)] = Field(
        default=0.0, description="thicker or thinner lines; 1: by one pixel"
    )
    blur: Annotated[Finite, Field(ge=0, le=1)] = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    erasing: Annotated[Finite, Field(ge=0, le=1)] = Field(
        default=0.0, description="probability of random erasing"
    )
    edges: Edges = Field(
        default="background", description="how to fill pixels from outside the image"
    )


class Network(Section):
    """The network: sequential layers, or a small residual network."""

    family: Annotated[str, AfterValidator(partial(require_family, IMAGE_FAMILIES))]
    layers: list[str] = Field(
        default=[], description='such as "conv 32", "pool", "dense 128", "dropout 0.5"'
    )
    kernel_size: Literal[3, 5] = Field(default=3, description="size of the convolutions of layers")
    padding: Literal["valid", "same"] = "same"
    widths: list[Size] = Field(default=[], description="residual: channels of each stage")
    blocks: list[Annotated[int, Field(ge=0, le=16)]] = Field(
        default=[], description="residual: blocks of each stage"
    )
    stem: Literal[1, 2, 4] = Field(
        default=1, description="residual: stride of the first convolution"
    )
    activation: Activation = "relu"
    batch_norm: bool = False
    dropout: Share = Field(default=0.0, description="before the last layer")

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        invalid = [layer for layer in self.layers if not _LAYER.fullmatch(layer)]
        if invalid:
            raise ValueError(
                f"unknown layer {invalid[0]!r}; write conv 32, pool, dense 128, dropout 0.5"
            )
        for family, key in IMAGE_FAMILIES.items():
            if (self.family == family) != bool(getattr(self, key)):
                raise ValueError(f"{key}: required by the family {family}, and by no other")
        if len(self.blocks) not in (0, len(self.widths)):
            raise ValueError("blocks and widths must have the same length")
        if self.activation == "maxout":
            raise ValueError("maxout is only for tables; choose another activation")
        return self

    def output_side(self, side: int) -> int:
        """Return the size of a side after all convolutions and pools."""
        if self.family == "residual":
            return int(side // self.stem // 2 ** (len(self.widths) - 1))
        for layer in self.layers:
            if layer == "pool":
                side //= 2
            elif layer.startswith("conv") and self.padding == "valid":
                side -= self.kernel_size - 1
        return side


class ImageTraining(OptimizerSettings):
    """The training loop."""

    label_smoothing: Share = 0.0
    mixup: NotNegative = Field(
        default=0.0, description="parameter of the Beta distribution of mixup; 0: no mixup"
    )
    ema_momentum: Share = Field(
        default=0.0,
        description="momentum of the exponential moving average of the weights; 0: no average",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="bfloat16 is faster on GPUs and recent CPUs"
    )

    @field_validator("optimizer")
    @classmethod
    def _require_gradients(cls, optimizer: Optimizer) -> Optimizer:
        if optimizer == "scikit-learn":
            raise ValueError("scikit-learn only fits linear and logistic models of tables")
        return optimizer


class ImageRecipe(SeededRecipe):
    """The complete recipe of an image model."""

    data: ImageData
    target: ImageTarget
    split: Split = Split()
    image: Image
    augmentation: Augmentation = Augmentation()
    network: Network
    training: ImageTraining

    @model_validator(mode="after")
    def _check_output_size(self) -> Self:
        for side in (self.image.height, self.image.width):
            if self.network.output_side(side) < 1:
                raise ValueError(
                    f"network: its convolutions and pools reduce a side of {side} pixels to nothing"
                )
        return self
