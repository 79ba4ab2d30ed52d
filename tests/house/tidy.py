"""clang-tidy over our sources. A clean result is remembered by the content of the file and of every header of ours
that it reaches, so that a second run looks only at what changed."""

import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUOTED = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def reach(path: str, seen: dict):
    """`seen` gains the content of `path` and of every file of ours that it includes, directly or not."""
    if path in seen or not (ROOT / path).is_file():
        return
    seen[path] = (ROOT / path).read_bytes()
    for header in QUOTED.findall(seen[path].decode()):
        reach(header, seen)


def key_of(path: str) -> str:
    seen = {}
    reach(path, seen)
    digest = hashlib.sha256((ROOT / ".clang-tidy").read_bytes())
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + seen[name] + b"\0")
    return digest.hexdigest()


def tidy(path: str, cache: pathlib.Path) -> str:
    """Empty when clean, else what clang-tidy said."""
    mark = cache / key_of(path)
    if mark.exists():
        return ""
    run = subprocess.run(["clang-tidy", "--quiet", "-p", "build/static", path], cwd=ROOT, capture_output=True, text=True)
    if run.returncode:
        return run.stdout + run.stderr
    mark.touch()
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("files", nargs="*", help="default: every .cc of ours outside tests/")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    files = args.files or subprocess.run(["git", "ls-files", "*.cc", ":!tests/"], cwd=ROOT, check=True,
                                         capture_output=True, text=True).stdout.split()
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, said in zip(files, pool.map(lambda p: tidy(p, args.cache), files)):
            if said:
                bad += 1
                print(said)
    if bad:
        sys.exit(f"clang-tidy: {bad} of {len(files)} files have findings")
    print(f"clang-tidy: {len(files)} files clean")


if __name__ == "__main__":
    main()
