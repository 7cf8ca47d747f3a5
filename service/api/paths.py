"""Path parameters that only some of the paths of a handler have.

As ordinary optional parameters FastAPI would read and document them as query parameters of the
other paths.
"""

from typing import Annotated

from fastapi import Depends, Request


# FastAPI would run plain functions in a thread pool.
async def _name(request: Request) -> str | None:
    return request.path_params.get("name")


async def _version(request: Request) -> str | None:
    return request.path_params.get("version")


async def _label(request: Request) -> str | None:
    return request.path_params.get("label")


OptionalName = Annotated[str | None, Depends(_name)]
OptionalVersion = Annotated[str | None, Depends(_version)]
OptionalLabel = Annotated[str | None, Depends(_label)]
