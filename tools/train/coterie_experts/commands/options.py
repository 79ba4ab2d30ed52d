"""Options that several sub-commands share, and numbers with their bounds."""

from __future__ import annotations

import argparse
import pathlib
from typing import Callable

from coterie_experts.product import binaries


def bounded(kind: Callable, least: float, most: float) -> Callable[[str], float]:
    """An argparse type: a number of `kind` within [least, most], refused with its limits."""
    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g} to {most:g}")
        return value

    return parse


def whole(least: int, most: int) -> Callable[[str], int]:
    return bounded(int, least, most)


def add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=pathlib.Path, metavar="PATH",
                        help=f"the base: a .gguf file or a Hugging Face folder (default $COTERIE_MODELS/{binaries.BASE_FILE})")
    parser.add_argument("--embedder", type=pathlib.Path, metavar="FOLDER",
                        help=f"the sentence encoder that routes (default $COTERIE_MODELS/{binaries.EMBEDDER_NAME})")
    parser.add_argument("--bin", type=pathlib.Path, metavar="FOLDER",
                        help="where coterie-gateway is (default: $COTERIE_BIN, the build of this checkout, or $PATH)")
