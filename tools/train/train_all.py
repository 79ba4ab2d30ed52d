#!/usr/bin/env python3
"""Makes every shipped expert that is missing: reads experts.yaml, writes experts/<name>/.

    corpora.py corpora/ && train_all.py --corpora corpora/ --out ../../experts

Each expert is trained in a process of its own; a failure is reported and the others go on.
"""

from __future__ import annotations

import argparse
import copy
import os
import pathlib
import subprocess
import sys

import yaml

HERE = pathlib.Path(__file__).resolve().parent
# Large activations freed and mapped anew at every step cost a sixth of the time: keep them in the heap. On a machine
# that does other work too, threads that spin at each barrier waste most of it: let them sleep.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(4 << 30), "OMP_WAIT_POLICY": "PASSIVE"}


def load_recipes(path: pathlib.Path, corpora: pathlib.Path) -> list:
    from make_expert import Recipe

    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipes = []
    for entry in listed["experts"]:
        merged = copy.deepcopy(listed.get("defaults", {})) | entry
        merged["training"] = {**listed.get("defaults", {}).get("training", {}), **entry.get("training", {})}
        merged["source"] = str(corpora / merged["source"])
        recipes.append(Recipe(**merged))
    return recipes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=pathlib.Path, required=True, help="folder that corpora.py filled")
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parent.parent / "experts", help="folder of expert folders")
    parser.add_argument("--only", action="append", help="make only this expert (repeatable), even if it is there")
    parser.add_argument("--list", type=pathlib.Path, default=HERE / "experts.yaml")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path.home() / ".cache/coterie/training")
    parser.add_argument("--gguf", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(HERE))
    recipes = load_recipes(arguments.list, arguments.corpora)
    unknown = set(arguments.only or []) - {r.name for r in recipes}
    if unknown:
        parser.error(f"{arguments.list} has no expert {sorted(unknown)[0]!r}")
    if arguments.in_this_process:
        return _make(next(r for r in recipes if r.name == arguments.only[0]), arguments)
    failed = []
    for recipe in recipes:
        if arguments.only and recipe.name not in arguments.only:
            continue
        if not arguments.only and (arguments.out / recipe.name / "expert.yaml").exists():
            continue
        command = [sys.executable, __file__, *sys.argv[1:], "--only", recipe.name, "--in-this-process"]
        if arguments.only:  # of several names given, this process makes one
            command = [sys.executable, __file__, "--corpora", arguments.corpora, "--out", arguments.out, "--list",
                       arguments.list, "--work", arguments.work, "--threads", str(arguments.threads),
                       *(["--gguf", arguments.gguf] if arguments.gguf else []), "--only", recipe.name, "--in-this-process"]
        if subprocess.run(command, env={**ENVIRONMENT, **os.environ}).returncode:
            failed.append(recipe.name)
    if failed:
        print(f"train_all: not made: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _make(recipe, arguments) -> int:
    import base_model
    from make_expert import make_expert

    try:
        make_expert(recipe, arguments.out / recipe.name, arguments.work, arguments.gguf or base_model.default_gguf(),
                    arguments.threads)
    except (ValueError, FileNotFoundError) as error:
        print(f"{recipe.name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
