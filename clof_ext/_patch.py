"""Published classes whose new instances are replaced as soon as they are made."""

import functools
from collections.abc import Callable
from types import ModuleType

from torch import nn

from .nn.families import CLASSES, is_candidate
from .replace import Report, replace_layer


class Patch:
    """Classes that are patched until ``restore``, or until the end of a ``with`` block, which receives the report.

    Attributes:
        report: what became of the instances made so far, numbered in the order in which they were made.
    """

    def __init__(self, classes: list[type[nn.Module]]) -> None:
        self.report = Report()
        self._own = {cls: vars(cls).get("__init__") for cls in classes}
        self._counts = dict.fromkeys(classes, 0)
        for cls in classes:
            cls.__init__ = self._replacing(cls, cls.__init__)

    def restore(self) -> None:
        """Let new instances be as their classes make them; those that were made stay as they are."""
        for cls, own in self._own.items():
            if own is None:
                del cls.__init__
            else:
                cls.__init__ = own
        self._own = {}

    def __enter__(self) -> Report:
        return self.report

    def __exit__(self, *_: object) -> None:
        self.restore()

    def _replacing(self, cls: type[nn.Module], init: Callable) -> Callable:
        @functools.wraps(init)
        def made(layer: nn.Module, *arguments, **named) -> None:
            init(layer, *arguments, **named)
            # A derived class has not finished making its instance, and may compute something else.
            if type(layer) is cls and is_candidate(layer):
                replace_layer(layer, f"{cls.__name__} {self._counts[cls]}", self.report)
                self._counts[cls] += 1

        made.patched = True
        return made


def patch(target: ModuleType | type[nn.Module]) -> Patch:
    """Replace the layers of published classes as soon as they are made: two lines before a model is built.

    ::

        with clof_ext.patch(their_module) as report:
            model = their_module.Network(...)
        print(report)

    The effect on each instance is that of ``replace_layers``: what is not as published is left, with the reason in the
    report. Instances of derived classes are not touched. ``restore_layers`` gives a replaced layer its forward back.

    Args:
        target: a class, or a Python module, of which every class of a published name is patched.

    Returns:
        An object with a ``report`` and ``restore()``, which is also a context manager that yields the report.

    Raises:
        TypeError: target is neither a class of modules nor a Python module.
        ValueError: no class of a published name, or one that is patched already.
    """
    if isinstance(target, ModuleType):
        classes = [value for value in vars(target).values() if _is_published(value)]
    elif isinstance(target, type) and issubclass(target, nn.Module):
        classes = [target] if _is_published(target) else []
    else:
        raise TypeError(
            f"target must be a class derived from torch.nn.Module, or a Python module; got {type(target).__name__}."
        )
    if not classes:
        raise ValueError(
            f"target must be or hold a class of a published name ({', '.join(CLASSES)}); {target.__name__} is none."
        )
    patched = [cls.__name__ for cls in classes if hasattr(cls.__init__, "patched")]
    if patched:
        raise ValueError(f"target must not be patched twice; patched already: {', '.join(patched)}.")
    return Patch(list(dict.fromkeys(classes)))


def _is_published(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module) and value.__name__ in CLASSES
