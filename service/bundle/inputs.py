"""What a model takes: rows of a table, or pictures."""

from typing import Annotated, Literal

from pydantic import Field

from service.bundle.features import INPUT_NAME, FeaturesInput, Part, Text

IMAGE_NAME = "image"
"""The graph's input tensor for pictures."""

Side = Annotated[int, Field(ge=1, le=1024)]


class ImageInput(Part):
    """A picture: the graph's input ``image``, uint8 ``[batch, height, width, channels]``.

    An image file becomes these pixels by `service.imaging.preprocess`, in training and in serving.
    """

    kind: Literal["image"]
    height: Side = Field(description="pixels")
    width: Side = Field(description="pixels")
    channels: Literal[1, 3] = Field(description="1: grey; 3: red, green and blue")
    fit: Literal["stretch", "crop", "pad"] = Field(
        description="how a picture of another shape is fitted: both sides scaled; the middle of "
        "it, scaled to cover; or all of it, with background around"
    )
    background: Annotated[int, Field(ge=0, le=255)] = Field(
        default=255, description="the grey around a padded picture and behind transparent places"
    )
    normalize: Literal["none", "digit"] = Field(
        default="none",
        description="digit: ink becomes light on dark, its bounding box 20 pixels and its centre "
        "of mass the middle, as in MNIST",
    )
    decoder: Text = Field(description="what read the pictures in training, with its version")


Input = Annotated[FeaturesInput | ImageInput, Field(discriminator="kind")]


def input_name(taken: Input) -> str:
    """The graph's input tensor."""
    return INPUT_NAME if isinstance(taken, FeaturesInput) else IMAGE_NAME


def input_datatype(taken: Input) -> Literal["FP32", "UINT8"]:
    """The datatype of the graph's input tensor, in the words of the Open Inference Protocol."""
    return "FP32" if isinstance(taken, FeaturesInput) else "UINT8"


def input_shape(taken: Input) -> tuple[int, ...]:
    """The shape of one row of the graph's input tensor."""
    if isinstance(taken, FeaturesInput):
        return (len(taken.features),)
    return (taken.height, taken.width, taken.channels)
