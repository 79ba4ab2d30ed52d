"""Where the product's programs and models are."""

from __future__ import annotations

import os
import pathlib
import re
import shutil

from coterie_experts.errors import Refused
from coterie_experts.files import cache_folder, sha256, sha256_of_file

BASE_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDER_NAME = "all-MiniLM-L6-v2"
_CHECKOUT_BIN = pathlib.Path(__file__).resolve().parents[4] / "build/release/bin"  # of an editable installation


def models_folder() -> pathlib.Path:
    """$COTERIE_MODELS, or the folder that tools/fetch-models fills."""
    return pathlib.Path(os.environ.get("COTERIE_MODELS") or cache_folder() / "models")


def find_model(given: pathlib.Path | None, name: str) -> pathlib.Path:
    path = given or models_folder() / name
    if not path.exists():
        raise Refused(f"{path} is not there; give its path, or run tools/fetch-models")
    return path


def find_base(given: pathlib.Path | None = None) -> pathlib.Path:
    return find_model(given, BASE_FILE)


def find_embedder(given: pathlib.Path | None = None) -> pathlib.Path:
    return find_model(given, EMBEDDER_NAME)


def find_binary(name: str, folder: pathlib.Path | None = None) -> pathlib.Path:
    """`name` in `folder`, or else in $COTERIE_BIN, the checkout's build, $PATH, in this order."""
    named = folder or (pathlib.Path(os.environ["COTERIE_BIN"]) if os.environ.get("COTERIE_BIN") else None)
    if named:
        if not (named / name).is_file():
            raise Refused(f"{named} has no {name}; build it with tools/build release {name}")
        return named / name
    if (_CHECKOUT_BIN / name).is_file():
        return _CHECKOUT_BIN / name
    if found := shutil.which(name):
        return pathlib.Path(found)
    raise Refused(f"{name} is neither in {_CHECKOUT_BIN} nor in $PATH; build it with tools/build release {name}, or say --bin FOLDER")


def base_name(file: str) -> str:
    """SmolLM2-135M-Instruct of SmolLM2-135M-Instruct.Q4_1.gguf: the model, not how its weights are packed."""
    return re.sub(r"[.-](I?Q\d\w*|B?F16|F32)$", "", file.removesuffix(".gguf"), flags=re.IGNORECASE)


def digest_of_model(path: pathlib.Path) -> str:
    """SHA-256 of a .gguf file, or of the weights and configuration of a Hugging Face folder."""
    if path.is_file():
        return sha256_of_file(path)
    parts = sorted([*path.glob("*.safetensors"), path / "config.json"])
    return sha256("".join(f"{p.name} {sha256_of_file(p)}\n" for p in parts))
