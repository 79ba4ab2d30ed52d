"""clang-tidy, and with it clang's -Wthread-safety, over our sources. A clean result is remembered by the content of the
file and of every header of ours that it reaches, so that a second run looks only at what changed."""

import argparse
import concurrent.futures
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUOTED = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
GENERATED = re.compile(r"^(coterie/v1/\w+)(\.grpc)?\.pb\.h$")

# Mistakes that must be found, each with the check that does.
BROKEN = {
    "thread-safety-analysis": """
        #include "common/mutex.h"
        class Counter {
         public:
          void Add() { ++n_; }
         private:
          coterie::Mutex mutex_;
          int n_ ABSL_GUARDED_BY(mutex_) = 0;
        };
        void Use(Counter* counter) { counter->Add(); }""",
    "bugprone-use-after-move": """
        #include <string>
        #include <utility>
        void Take(std::string);
        size_t Twice(std::string s) { Take(std::move(s)); return s.size(); }""",
    "performance-unnecessary-value-param": """
        #include <string>
        size_t Length(const std::string s) { return s.size(); }""",
}


def reach(path: str, seen: dict):
    """`seen` gains the content of `path` and of every file of ours that it includes, directly or not."""
    path = GENERATED.sub(r"proto/\1.proto", path)
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


def self_test():
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        for check, source in BROKEN.items():
            path = pathlib.Path(folder) / "broken.cc"
            path.write_text(source)
            command = ["clang-tidy", "--quiet", str(path), "--", "-std=c++20", "-Wthread-safety", "-I", str(ROOT)]
            run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if run.returncode == 0 or check not in run.stdout:
                sys.exit(f"a mistake for {check} was not found:\n{run.stdout}{run.stderr}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=pathlib.Path, required=True)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("files", nargs="*", help="default: every .cc of ours outside tests/")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    self_test()
    files = args.files or subprocess.run(["git", "ls-files", "*.cc", ":!tests/"], cwd=ROOT, check=True,
                                         capture_output=True, text=True).stdout.split()
    bad = 0
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for said in pool.map(lambda path: tidy(path, args.cache), files):
            if said:
                bad += 1
                print(said, flush=True)
    if bad:
        sys.exit(f"clang-tidy: {bad} of {len(files)} files have findings")
    print(f"clang-tidy: {len(files)} files clean in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
