"""The versions, in a file of their own so that the build can read them without importing the package."""

__version__ = "0.1.0"
# The oldest torch whose stable interface the compiled library uses.
MIN_TORCH = "2.11"
