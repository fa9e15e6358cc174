"""Optional packages, and the sentence for one that is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import MissingPackageError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports of the packages of one extra, such as ``with extra("train"): import safetensors``.

    Raises:
        MissingPackageError: a sentence that says which package is missing, and what installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"This needs the package {error.name}, which is not installed: pip install 'clof_ext[{name}]' brings it."
        ) from None
