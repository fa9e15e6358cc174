"""The commands ``clof-ext conformers ...``; each part adds its own and imports what it needs only when it runs."""

import argparse

from . import data_commands, train_commands

PARTS = (data_commands, train_commands)


def add_commands(subparsers: "argparse._SubParsersAction") -> None:
    """Add ``conformers`` with all its commands to the parsers of ``clof-ext``.

    Every command sets ``run``, a function from the parsed options to the exit status.
    """
    text = "conformations of molecules: data, training, sampling, evaluation"
    parser = subparsers.add_parser("conformers", help=text, description=text)
    commands = parser.add_subparsers(required=True, metavar="command")
    for part in PARTS:
        part.add_commands(commands)
