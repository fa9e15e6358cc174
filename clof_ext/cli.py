"""The command ``clof-ext``."""

import argparse
import contextlib
import importlib
import sys
from collections.abc import Sequence

import torch

from .training import ExplainedError

# Rooms whose commands.py adds subcommands, with add_commands(subparsers). Such a file imports nothing optional at its
# top, so that ``clof-ext info`` works everywhere.
ROOMS = ("newton", "conformation", "bench")
# Exit codes: of a wrong use, and what a shell reports of a program that was interrupted.
WRONG_USE, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments, argparse.Namespace(words=arguments))
    try:
        return options.run(options)
    except (ExplainedError, OSError) as error:
        print(f"clof-ext: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print("clof-ext: interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clof-ext", description="SE(3)-equivariant message passing on complete local frames, fused."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    info = commands.add_parser("info", help="versions, the build, and the backend that each op will use, with reasons")
    info.set_defaults(run=_info)
    selftest = commands.add_parser("selftest", help="compare every op and backend present with the reference")
    default = "cuda" if torch.cuda.is_available() else "cpu"
    selftest.add_argument("--device", type=_device, default=default, help="cpu or cuda")
    selftest.set_defaults(run=_selftest)
    for room in ROOMS:
        importlib.import_module(f".{room}.commands", __package__).add_commands(commands)
    return parser


def _device(word: str) -> torch.device:
    with contextlib.suppress(RuntimeError):
        device = torch.device(word)
        if device.type in ("cpu", "cuda"):
            return device
    raise argparse.ArgumentTypeError(f"must be cpu or cuda; got {word!r}")


def _info(options: argparse.Namespace) -> int:
    from . import show_config

    show_config()
    return 0


def _selftest(options: argparse.Namespace) -> int:
    from . import selftest

    found = torch.cuda.device_count()
    if options.device.type == "cuda" and (options.device.index or 0) >= found:
        print(f"--device {options.device} needs a CUDA device; torch finds {found or 'none'}.", file=sys.stderr)
        return WRONG_USE
    return 0 if selftest(options.device) else 1


if __name__ == "__main__":
    sys.exit(main())
