"""Keeping pages of other sites away from the calls that change what is served."""

from fastapi import Depends, Request

from service.errors import NotAllowed


async def _refuse(request: Request) -> None:
    """Refuse what a browser sends: a page of any site can post to this machine.

    Raises:
        NotAllowed: the request has the header that every browser adds to a post.
    """
    if "origin" in request.headers:
        raise NotAllowed("This call changes what is served, and is not taken from a browser.")


NOT_FROM_A_BROWSER = [Depends(_refuse)]
