#!/usr/bin/env python3
"""That tests/gpu/check reports what fails, hangs, crashes or is missing, and goes on: on programs made up for it."""

import json
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from check_floors import floors  # noqa: E402
from check_run import ARCHIVE  # noqa: E402

# A test binary with a suite that passes and skips, one that fails, one that crashes and one that never ends.
TESTS = r'''#!/usr/bin/env python3
import json, os, signal, sys, time
args = dict(a.lstrip("-").split("=", 1) if "=" in a else (a.lstrip("-"), "") for a in sys.argv[1:])
if "gtest_list_tests" in args:
    print("Orders/Good.\n  Adds/Random  # GetParam() = 2\n  Counts/Random\nBad.\n  Fails\nCrash.\n  Dies\nHang.\n  Waits")
    sys.exit()
chosen = args["gtest_filter"]
def say(name, tests):
    open(args["gtest_output"][5:], "w").write(json.dumps({"testsuites": [{"name": name, "testsuite": tests}]}))
if chosen == "Orders/Good.Adds/Random:Orders/Good.Counts/Random":
    say("Orders/Good", [{"classname": "Orders/Good", "name": "Adds/Random", "result": "COMPLETED"},
                        {"classname": "Orders/Good", "name": "Counts/Random", "result": "SKIPPED"}])
    print("x.cu:1: Skipped\na real device counts no bytes\n")
elif chosen == "Bad.Fails":
    say("Bad", [{"classname": "Bad", "name": "Fails", "result": "COMPLETED", "failures": [{"failure": "1 is not 2"}]}])
    sys.exit(1)
elif chosen == "Crash.Dies":
    print("about to die", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
else:
    time.sleep(1000)
'''
BENCH = r'''#!/usr/bin/env python3
import sys
print('{"case": "load", "weights": "BF16"}')
print('{"case": "decode", "weights": "BF16", "batch": 1, "adapters": 0, "ranks": [], "extrapolated_of_copy_bandwidth": 0.9}')
print("not JSON")
print('{"case": "failed", "what": "prefill on BF16", "error": "too warm"}')
sys.exit(1)
'''


class CheckTest(unittest.TestCase):
    def check(self, programs: dict, *arguments, environment=None):
        with tempfile.TemporaryDirectory() as folder:
            binaries = pathlib.Path(folder) / "bin"
            binaries.mkdir()
            for name, text in programs.items():
                (binaries / name).write_text(text)
                (binaries / name).chmod(0o755)
            out = pathlib.Path(folder) / "out" / "check.json"
            run = subprocess.run([HERE / "check", "--bin", binaries, "--out", out, *arguments], capture_output=True, text=True,
                                 env={**os.environ, **(environment or {})})
            return run, json.loads(out.read_text())

    def test_failing_crashing_and_hanging_suites_are_told_apart_and_end_nothing(self):
        run, result = self.check({"gpu_test": TESTS, "bench_gpu": BENCH}, "--only", "kernels,bench,nccl", "--minutes", "0.4")
        self.assertEqual(run.returncode, 1)
        kernels = result["parts"]["kernels"]
        self.assertEqual(kernels["passed"], 1)
        self.assertEqual(kernels["skipped_tests"], {"a real device counts no bytes": 1})
        self.assertEqual(kernels["out_of_time"], ["Hang"])
        said = {failure["what"]: failure for failure in kernels["failures"]}
        self.assertEqual(set(said), {"Bad.Fails", "Crash"})
        self.assertIn("1 is not 2", said["Bad.Fails"]["error"])
        self.assertEqual(said["Crash"]["error"], "signal 11")
        self.assertIn("about to die", said["Crash"]["output"])
        # What came after: no time was left, and that is said.
        self.assertEqual(result["parts"]["bench"], {"skipped": "no time is left", "seconds": 0.0})
        self.assertEqual({failure["part"] for failure in result["failures"]}, {"kernels"})

    def test_a_case_that_fails_leaves_the_others_and_their_floors(self):
        run, result = self.check({"bench_gpu": BENCH}, "--only", "bench")
        self.assertEqual(run.returncode, 1)
        self.assertEqual(result["failures"], [{"part": "bench", "what": "prefill on BF16", "error": "too warm"}])
        self.assertEqual(result["parts"]["bench"]["other_output"], ["not JSON"])
        first = result["floors"][0]
        self.assertEqual((first["value"], first["met"]), (0.9, True))
        self.assertIsNone(next(row for row in result["floors"] if "sixteen" in row["what"])["met"])

    def test_what_was_not_carried_is_skipped_but_not_in_a_rehearsal(self):
        run, result = self.check({}, "--only", "kernels,nccl,bench")
        self.assertEqual(run.returncode, 0)
        self.assertEqual({name: part["skipped"] for name, part in result["parts"].items()},
                         {"kernels": "gpu_test was not carried", "nccl": "nccl_member was not carried",
                          "bench": "bench_gpu was not carried"})
        run, result = self.check({}, "--emulated", "--only", "kernels,nccl,bench")
        self.assertEqual(run.returncode, 1)
        self.assertEqual({failure["error"] for failure in result["failures"]}, {"not built"})

    def test_a_machine_without_a_card_says_so(self):
        run, result = self.check({}, "--only", "facts", environment={"PATH": str(pathlib.Path(sys.executable).parent)})
        if "gpus" not in result["parts"]["facts"]:
            self.assertEqual(run.returncode, 1)
            self.assertIn("nvidia-smi", result["failures"][0]["what"])

    def test_what_was_packed_is_unpacked(self):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "bench_gpu").write_text(BENCH)
            (pathlib.Path(folder) / "bench_gpu").chmod(0o755)
            with tarfile.open(pathlib.Path(folder) / ARCHIVE, "w:xz") as archive:
                archive.add(pathlib.Path(folder) / "bench_gpu", "bin/bench_gpu")
            out = pathlib.Path(folder) / "check.json"
            subprocess.run([HERE / "check", "--bin", pathlib.Path(folder) / "bin", "--only", "bench", "--out", out], capture_output=True)
            self.assertEqual(len(json.loads(out.read_text())["parts"]["bench"]["cases"]), 3)

    def test_the_json_names_the_sources(self):
        _, result = self.check({}, "--only", "nccl")
        self.assertRegex(result["source"]["sha256"], r"^[0-9a-f]{64}$")

    def test_floors_are_at_least_or_at_most(self):
        after_one_round = {"case": "decode", "weights": "Q4_K", "batch": 16, "adapters": 16, "ranks": [16], "of_copy_bandwidth": 0.9,
                           "rate_to_base": 0.5}
        cases = [{"case": "load", "weights": "Q4_K"}, after_one_round,
                 {"case": "decode", "weights": "Q4_K", "batch": 16, "adapters": 16, "ranks": [16], "of_copy_bandwidth": 0.8,
                  "extrapolated_of_copy_bandwidth": None, "rate_to_base": 0.95},
                 {"case": "idle", "batch": 1, "idle_share": 0.05}, {"case": "idle", "batch": 16, "idle_share": None, "why": "none"},
                 {"case": "upload", "rank": 8, "of_link": 0.85}, {"case": "prefill", "prefill": "invariant", "weights": "Q4_K", "tokens": 512, "of_library": 0.6},
                 {"case": "prefill", "prefill": "fast", "weights": "Q4_K", "tokens": 512, "of_library": 0.75},
                 {"case": "prefill", "prefill": "fast", "weights": "BF16", "tokens": 512, "of_library": None, "why": "no cuBLASLt"}]
        met = {row["what"]: row["met"] for row in floors(cases)}
        self.assertEqual(met, {"Q4_K: bytes of a step at B = 1 per second / copy bandwidth": None,
                               "Q4_K: B = 16 with sixteen rank-16 adapters / its byte limit": False,  # 1.25
                               "Q4_K: rate with sixteen rank-16 adapters / without": True,
                               "Q4_K: invariant prefill of 512 / the vendor's products": False,
                               "Q4_K: fast prefill of 512 / the vendor's products": True,
                               "BF16: fast prefill of 512 / the vendor's products": None,
                               "upload of rank 8 / link": True, "idle between steps at B = 1": False,
                               "idle between steps at B = 16": None})


if __name__ == "__main__":
    unittest.main()
