"""Why a bundle cannot be used or written."""


class BundleError(Exception):
    """A bundle that breaks the contract; the message says what is wrong and where."""
