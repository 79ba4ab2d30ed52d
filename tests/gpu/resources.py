#!/usr/bin/env python3
"""Registers, spills and stack of every kernel of kernels/cuda, as ptxas reports them for sm_90a, held against
tests/gpu/kernel_resources. A kernel that spills more, or takes over 10 % more registers, fails; so does one that is not
recorded. Of other architectures that were built (preset cuda-all) only the kernels that spill are recorded, and no other may.
`--accept` writes what was built into the file; look at the difference before it is committed.

    tests/gpu/resources.py --build build/release [--accept]
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORD = ROOT / "tests/gpu/kernel_resources"
ARCHITECTURE = "sm_90a"
MOST_MORE_REGISTERS = 0.10

ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(\w+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
LINE = re.compile(r"(?:(sm_\w+) )?(\S+\.cu) +registers +(\d+) +stack +(\d+) +spills (\d+) \+ (\d+)  (.+)")


class Kernel:
    def __init__(self, registers, stack, stores, loads):
        self.registers, self.stack, self.stores, self.loads = registers, stack, stores, loads

    def spills(self):
        return self.stores + self.loads

    def line(self, key):
        architecture, file, name = key
        if architecture != ARCHITECTURE:
            file = f"{architecture} {file}"
        return (f"{file:<20} registers {self.registers:>3}  stack {self.stack:>4}  "
                f"spills {self.stores} + {self.loads}  {name}")


def demangle(names):
    """As C++ writes them, without what every kernel has: the namespaces of ours, and the return type of templates."""
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    for mangled, name in zip(names, text.splitlines()):
        name = name.replace("(anonymous namespace)::", "").replace("coterie::cuda::", "").replace("coterie::", "")
        yield mangled, re.sub(r"^void ", "", name)


def parse(text, file, kernels):
    """Adds the kernels of one file's report to `kernels`: (architecture, file, mangled name) -> Kernel."""
    entry, spills = None, None
    for line in text.splitlines():
        if found := ENTRY.search(line):
            entry, spills = (found[2], file, found[1]), None
        elif found := SPILLS.search(line):
            spills = spills or found  # functions that the kernel calls follow
        elif entry and spills and (found := REGISTERS.search(line)):
            stack, stores, loads = map(int, spills.groups())
            kernels[entry] = Kernel(int(found[1]), stack, stores, loads)
            entry = None


def built(build):
    mangled = {}
    for report in sorted((build / "kernels/cuda").rglob("*.cu.o.ptxas")):
        parse(report.read_text(), report.name.removesuffix(".o.ptxas"), mangled)
    names = dict(demangle([name for *_, name in mangled]))
    return {(architecture, file, names[name]): kernel for (architecture, file, name), kernel in mangled.items()}


def compiler_of(build):
    """nvcc's version, to two numbers: another one allots registers differently."""
    for line in (build / "CMakeCache.txt").read_text().splitlines():
        if line.startswith("CMAKE_CUDA_COMPILER:"):
            said = subprocess.run([line.split("=", 1)[1], "--version"], capture_output=True, text=True, check=True).stdout
            return re.search(r"release (\d+\.\d+)", said)[1]
    return None


def read(text):
    first, _, rest = text.partition("\n")
    compiler = re.search(r"nvcc (\S+),", first)
    kernels = {}
    for line in rest.splitlines():
        found = LINE.fullmatch(line)
        if not found:
            raise SystemExit(f"{RECORD.name}: not a kernel: {line}")
        kernels[found[1] or ARCHITECTURE, found[2], found[7]] = Kernel(*map(int, found.group(3, 4, 5, 6)))
    return compiler and compiler[1], kernels


def is_recorded(key, kernel):
    return key[0] == ARCHITECTURE or kernel.spills() > 0


def write(compiler, kernels):
    """Kernels of other architectures come last."""
    order = lambda item: (item[0][0] != ARCHITECTURE, *item[0])
    kernels = {key: kernel for key, kernel in kernels.items() if is_recorded(key, kernel)}
    lines = [f"# nvcc {compiler}, {ARCHITECTURE}; bytes of stack, of spill stores + loads (tests/gpu/resources.py)"]
    lines += [kernel.line(key) for key, kernel in sorted(kernels.items(), key=order)]
    return "\n".join(lines) + "\n"


def differences(recorded, now):
    """What must not be, each with what to do."""
    architectures = {key[0] for key in now}
    for key, kernel in sorted(now.items()):
        before = recorded.get(key)
        line = kernel.line(key)
        if before is None and key[0] != ARCHITECTURE:
            if kernel.spills() > 0:
                yield f"spills {kernel.stores} + {kernel.loads} bytes, none recorded:\n  {line}"
        elif before is None:
            yield f"not recorded yet:\n  {line}"
        elif kernel.spills() > before.spills():
            yield f"spills {kernel.stores} + {kernel.loads} bytes, {before.stores} + {before.loads} recorded:\n  {line}"
        elif kernel.registers > before.registers * (1 + MOST_MORE_REGISTERS):
            yield f"takes {kernel.registers} registers, {before.registers} recorded:\n  {line}"
    for key, kernel in sorted(recorded.items()):
        if key not in now and key[0] in architectures | {ARCHITECTURE}:
            yield f"recorded, and no longer built:\n  {kernel.line(key)}"


def self_test():
    report = """ptxas info    : Compiling entry function '_ZN7coterie4cuda3RowILi8EEEvPf' for 'sm_90a'
ptxas info    : Function properties for _ZN7coterie4cuda3RowILi8EEEvPf
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers
ptxas info    : Compiling entry function '_ZN7coterie4cuda3RowILi8EEEvPf' for 'sm_80'
ptxas info    : Function properties for _ZN7coterie4cuda3RowILi8EEEvPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 99 registers, used 1 barriers
"""
    with tempfile.TemporaryDirectory() as folder:
        objects = pathlib.Path(folder) / "kernels/cuda/CMakeFiles/coterie_cuda.dir"
        objects.mkdir(parents=True)
        (objects / "rows.cu.o.ptxas").write_text(report)
        now = built(pathlib.Path(folder))
    key, other = (ARCHITECTURE, "rows.cu", "Row<8>(float*)"), ("sm_80", "rows.cu", "Row<8>(float*)")
    assert list(now) == [key, other], now
    assert len(write("13.0", now).splitlines()) == 2, "what spills nothing elsewhere is not recorded"
    compiler, recorded = read(write("13.0", now))
    assert compiler == "13.0" and not list(differences(recorded, now))
    for changed, words in ((Kernel(45, 16, 8, 12), "takes 45 registers"), (Kernel(40, 16, 8, 16), "spills 8 + 16"),
                           (Kernel(44, 16, 8, 12), None), (Kernel(30, 0, 0, 0), None)):
        found = list(differences(recorded, {key: changed}))
        assert (words in found[0]) if words else not found, found
    spilling = {**now, other: Kernel(99, 8, 4, 4)}
    found = list(differences(recorded, spilling))
    assert len(found) == 1 and "spills 4 + 4 bytes, none recorded" in found[0] and "sm_80 rows.cu" in found[0], found
    _, with_other = read(write("13.0", spilling))
    assert not list(differences(with_other, spilling)) and not list(differences(with_other, {key: now[key]}))
    assert "spills 8 + 4" in next(differences(with_other, {**now, other: Kernel(99, 8, 8, 4)}))
    assert "not recorded" in next(differences({}, now)) and "no longer" in next(differences(recorded, {}))
    print("resources.py finds what it must")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--accept", action="store_true")
    parser.add_argument("--self-test", action="store_true")
    args = parser.parse_args()
    if args.self_test:
        return self_test()
    now, compiler = built(args.build), compiler_of(args.build)
    if not any(key[0] == ARCHITECTURE for key in now):
        sys.exit(f"error: no report of ptxas for {ARCHITECTURE} in {args.build.name}: build coterie_cuda with nvcc first")
    if args.accept:
        architectures = {key[0] for key in now}
        kept = {key: kernel for key, kernel in read(RECORD.read_text())[1].items() if key[0] not in architectures}
        RECORD.write_text(write(compiler, {**kept, **now}))
        return print(f"{RECORD.relative_to(ROOT)}: {sum(is_recorded(*item) for item in now.items())} kernels")
    recorded_by, recorded = read(RECORD.read_text())
    if recorded_by != compiler:
        return print(f"SKIPPED: {RECORD.name} was made with nvcc {recorded_by}, and this is {compiler}")
    found = list(differences(recorded, now))
    for one in found:
        print(one)
    if found:
        sys.exit(f"error: {len(found)} kernels differ from tests/gpu/{RECORD.name}; where that is right, put the lines there "
                 "(tests/gpu/resources.py --accept)")
    print(f"{len(now)} kernels take what tests/gpu/{RECORD.name} says")


if __name__ == "__main__":
    main()
