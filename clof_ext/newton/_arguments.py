"""Checks of numbers."""

import numpy as np


def whole_number(value: object, minimum: int, name: str) -> None:
    """Raise unless value is an integer of at least ``minimum``."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer; got {type(value).__name__}.")
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}; got {value}.")
