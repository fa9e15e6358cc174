"""Errors whose sentence is enough: what a person can put right without reading a traceback."""


class ExplainedError(Exception):
    """The command line shows the sentence alone."""


class FileError(ExplainedError, ValueError):
    """A file is missing, damaged, or not of the expected kind."""


class OptionError(ExplainedError, ValueError):
    """An option does not fit the data, the machine or another option."""


class MissingPackageError(ExplainedError, ImportError):
    """An optional package is not installed."""


class TrainingError(ExplainedError, RuntimeError):
    """The training cannot go on."""
