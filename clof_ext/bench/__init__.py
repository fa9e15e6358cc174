"""The command ``clof-ext bench``, and what all measurements of the repository share: timing, memory, the machine.

Nothing here is imported with ``clof_ext``. ``published`` holds the published layers in plain PyTorch.
"""
