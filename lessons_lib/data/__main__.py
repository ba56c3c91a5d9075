"""The real data sets on the command line: ``python -m lessons_lib.data status`` and ``… install NAME``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lessons_lib.data import archives


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; what goes wrong is said in one line on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m lessons_lib.data", description="The course's real data sets."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("status", help="what is installed, where, and how to get the rest")
    install = commands.add_parser("install", help="download a data set, or take it from a local archive")
    install.add_argument("name", metavar="NAME", help=", ".join(archives.REGISTRY))
    install.add_argument(
        "--from", dest="source", type=Path, metavar="PATH", help="a .tgz, .tar or .zip file; needs no network"
    )
    options = parser.parse_args(arguments)
    try:
        if options.command == "status":
            print(*archives.status(), sep="\n")
        else:
            _install(options.name, options.source)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _install(name: str, source: Path | None) -> None:
    """Install a data set; CIFAR-10 is also read once, so that every lesson finds it decoded."""
    archives.install(name, source)
    if name == "cifar10":
        from lessons_lib.data import cifar10  # noqa: PLC0415 - status need not wait for torchvision

        cifar10.load("train")
        cifar10.load("test")


if __name__ == "__main__":
    sys.exit(main())
