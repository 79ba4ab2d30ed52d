"""Where tests/gpu/check finds its binaries, and how it runs them."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TAIL = 1500  # characters of an output that are kept
ARCHIVE = "packed.tar.xz"  # of tests/gpu/pack


def sources() -> dict:
    """Which sources these are: git's name for the tree where git knows it, and a hash over those that matter to a GPU."""
    def git(*args):
        if shutil.which("git") is None:
            return None
        run = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)
        return run.stdout.strip() if run.returncode == 0 else None

    digest = hashlib.sha256()
    for folder in ("kernels", "model", "tests/gpu", "tests/bench"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return {"git_tree": git("rev-parse", "HEAD^{tree}"), "changed": bool(git("status", "--porcelain")),
            "sha256": digest.hexdigest()}


class Run:
    """How a program ended: its output, and why there is no more of it."""

    def __init__(self, code, output, timed_out):
        self.code, self.output, self.timed_out = code, output, timed_out

    def failure(self, what: str):
        """None where it ended well or was only stopped by the clock."""
        if self.code == 0 or self.timed_out:
            return None
        how = f"signal {-self.code}" if self.code < 0 else f"exit status {self.code}"
        return {"what": what, "error": how, "output": self.output[-TAIL:]}


class Place:
    """A folder of binaries and the libraries that came with them, or a build of the emulation."""

    def __init__(self, emulated: bool, binaries):
        self.emulated = emulated
        self.build = ROOT / "build" / ("cuda-emulated" if emulated else "gpu-check")
        self.bin = binaries.resolve() if binaries else self.build / "bin"
        archive = self.bin.parent / ARCHIVE
        if archive.is_file():  # every time: what was unpacked before may be older
            with tarfile.open(archive) as packed:
                packed.extractall(self.bin.parent)
        self.lib = self.bin.parent / "lib"
        self.loader = []  # in front of each command, where this machine's C library is older than the binaries
        if not emulated and (self.lib / "glibc").is_dir():
            probe = self.run(["bench_gpu", "--help"], 20)
            if probe.code != 0 and re.search(r"GLIBC|GLIBCXX|not found", probe.output):
                self.loader = [str(next((self.lib / "glibc").glob("ld-linux*"))), "--library-path",
                               f"{self.lib / 'glibc'}:{self.library_path()}"]

    def binaries(self) -> dict:
        manifest = self.bin.parent / "manifest.json"
        facts = json.loads(manifest.read_text()) if manifest.is_file() else {}
        facts["of_these_sources"] = facts.get("sha256") == sources()["sha256"] if "sha256" in facts else None
        facts["own_c_library"] = bool(self.loader)
        return facts

    def has(self, name: str) -> bool:
        return (self.bin / name).is_file()

    def missing(self, binary: str) -> dict:
        """The report of a part without its binary; a rehearsal leaves nothing out."""
        if self.emulated:
            return {"failures": [{"what": binary, "error": "not built"}]}
        return {"skipped": f"{binary} was not carried"}

    def library_path(self) -> str:
        vendor = [str(path) for pattern in ("/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/x86_64-linux/lib")
                  for path in sorted(pathlib.Path("/").glob(pattern[1:]))]
        # Python's packages of the vendor's libraries, where there are some.
        prefixes = {pathlib.Path(p).parent for p in os.environ.get("PATH", "").split(":") if p} | {pathlib.Path(sys.prefix)}
        for prefix in sorted(prefixes):
            for folder in ("cu13/lib", "cublas/lib", "nccl/lib"):
                vendor += [str(p) for p in sorted(prefix.glob(f"lib/python3*/site-packages/nvidia/{folder}"))]
        own = [str(self.lib)] if self.lib.is_dir() else []
        given = [os.environ["LD_LIBRARY_PATH"]] if os.environ.get("LD_LIBRARY_PATH") else []
        return ":".join(own + given + vendor)

    def environment(self, more=None) -> dict:
        environment = dict(os.environ, COTERIE_SOURCE_ROOT=str(ROOT), **(more or {}))
        if self.emulated:  # the host that looks into the device's memory faults, as it will on a real one
            environment.setdefault("COTERIE_EMULATION_PROTECT", "1")
        else:
            environment["LD_LIBRARY_PATH"] = self.library_path()
        return {name: value for name, value in environment.items() if value is not None}

    def start(self, command: list, in_front=(), more_environment=None):
        program = str(self.bin / command[0]) if self.has(command[0]) else command[0]
        own = self.loader if self.has(command[0]) else []
        output = tempfile.TemporaryFile()
        process = subprocess.Popen([*in_front, *own, program, *command[1:]], stdout=output, stderr=subprocess.STDOUT, cwd=ROOT,
                                   env=self.environment(more_environment), start_new_session=True)
        return process, output

    def finish(self, started, seconds: float) -> Run:
        process, output = started
        timed_out = False
        try:
            process.wait(max(1, seconds))
        except subprocess.TimeoutExpired:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return Run(process.returncode, output.read().decode(errors="replace"), timed_out)

    def run(self, command: list, seconds: float, in_front=(), more_environment=None) -> Run:
        return self.finish(self.start(command, in_front, more_environment), seconds)

    def suites(self, binary: str, test_filter: str) -> list:
        """The test suites of a binary that have a test the filter lets through."""
        listed = self.run([binary, "--gtest_list_tests", f"--gtest_filter={test_filter}"], 30)
        return [line.split(".")[0] for line in listed.output.splitlines() if re.match(r"^[A-Za-z]\S*\.", line)]

    def tests(self, binary: str, test_filter: str, seconds: float, in_front=()) -> dict:
        """Runs a test binary, a process for each suite: after an error of a device a process can do no more."""
        if not self.has(binary):
            return self.missing(binary)
        report = {"passed": 0, "suites": [], "skipped_tests": {}, "failures": [], "out_of_time": []}
        positive, _, negative = test_filter.partition("-")
        end = time.monotonic() + seconds
        for suite in self.suites(binary, test_filter):
            left = end - time.monotonic()
            if left < 2:
                report["out_of_time"].append(suite)
                continue
            with tempfile.TemporaryDirectory() as folder:
                said = pathlib.Path(folder) / "tests.json"
                # Of this suite, what the whole filter lets through.
                chosen = ":".join(self.chosen(binary, suite, test_filter))
                run = self.run([binary, f"--gtest_filter={chosen}", f"--gtest_output=json:{said}"], left, in_front)
                self.count(report, suite, run, said)
        if not report["suites"] and not report["failures"] and not report["out_of_time"]:
            report["failures"].append({"what": binary, "error": f"no test matches {test_filter}"})
        return report

    def chosen(self, binary: str, suite: str, test_filter: str) -> list:
        listed = self.run([binary, "--gtest_list_tests", f"--gtest_filter={test_filter}"], 30).output.splitlines()
        names, inside = [], False
        for line in listed:
            if re.match(r"^[A-Za-z]\S*\.", line):
                inside = line.split(".")[0] == suite
            elif inside and line.startswith("  "):
                names.append(f"{suite}.{line.split('#')[0].strip()}")
        return names

    @staticmethod
    def count(report: dict, suite: str, run: Run, said: pathlib.Path):
        report["suites"].append(suite)
        if run.timed_out:
            report["out_of_time"].append(suite)
        results = json.loads(said.read_text()) if said.is_file() else {}
        n_failed = n_skipped = 0
        for one in (test for group in results.get("testsuites", []) for test in group["testsuite"]):
            name = f"{one['classname']}.{one['name']}"
            if one.get("failures"):
                n_failed += 1
                report["failures"].append({"what": name, "error": one["failures"][0]["failure"][:TAIL]})
            elif one["result"] == "SKIPPED":
                n_skipped += 1
            else:
                report["passed"] += 1
        reasons = re.findall(r": Skipped\n(.+)", run.output)
        for why in reasons + ["no reason given"] * (n_skipped - len(reasons)):
            report["skipped_tests"][why] = report["skipped_tests"].get(why, 0) + 1
        if n_failed == 0 and (failure := run.failure(suite)):
            report["failures"].append(failure)
