"""The command ``clof-ext``."""

import argparse
import sys
from collections.abc import Sequence

import torch


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    return options.run(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clof-ext", description="SE(3)-equivariant message passing on complete local frames, fused."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    info = commands.add_parser("info", help="versions, the build, and the backend that each op will use, with reasons")
    info.set_defaults(run=_info)
    selftest = commands.add_parser("selftest", help="compare every op and backend present with the reference")
    selftest.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    selftest.set_defaults(run=_selftest)
    return parser


def _info(options: argparse.Namespace) -> int:
    from . import show_config

    show_config()
    return 0


def _selftest(options: argparse.Namespace) -> int:
    from . import selftest

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"--device {options.device} needs a CUDA device; torch finds none.", file=sys.stderr)
        return 2
    return 0 if selftest(options.device) else 1


if __name__ == "__main__":
    sys.exit(main())
