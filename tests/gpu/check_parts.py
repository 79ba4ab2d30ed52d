"""The parts of tests/gpu/check. Each gets a Place and its seconds, and gives a report: failures, and what it learnt."""

import json
import pathlib
import shutil
import tempfile
import time


def facts(place, seconds):
    """The card as nvidia-smi sees it, before it was loaded."""
    if place.emulated:
        return {"gpus": [], "note": "an emulated GPU has no nvidia-smi"}
    fields = ("name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,"
              "temperature.gpu,compute_mode,ecc.mode.current,mig.mode.current,pcie.link.gen.current,pcie.link.width.current")
    if shutil.which("nvidia-smi") is None:
        return {"failures": [{"what": "nvidia-smi", "error": "not in PATH; is this a machine with a GPU?"}]}
    run = place.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"], seconds)
    if failure := run.failure("nvidia-smi"):
        return {"failures": [failure]}
    return {"gpus": [dict(zip(fields.split(","), (value.strip() for value in line.split(","))))
                     for line in run.output.strip().splitlines()]}


def kernels(place, seconds):
    """Every op against float64, in fresh random shapes."""
    short = "*CudaRowsTest*Random:*RopeKv*Random:*Matrix*Random"
    return place.tests("gpu_test", short if place.emulated else "*", seconds)


def decoder(place, seconds):
    """The tiny models against transformers and PEFT, and equal bits in every batch."""
    goldens = "GoldenLogits.AGpu*"
    if place.emulated:
        return place.tests("model_test", "GoldenLogits.AGpuStaysNearTransformers", seconds)
    report = {"failures": []}
    for binary, test_filter in (("model_test", f"{goldens}:*BatchInvariance*Gpu"), ("engine_test", "*Gpu*")):
        report[binary] = place.tests(binary, test_filter, seconds / 2)
        report["failures"] += report[binary].get("failures", [])
    return report


TINY = ["--shape=tiny", "--layers=2", "--rounds=1", "--steps=2", "--max-batch=16", "--context=4", "--prompt=24", "--copy-mb=4", "--fast-rows=16",
        "--weights=BF16,FP8,Q4_K"]
REAL = ["--shape=8b", "--layers=8"]


def bench(place, seconds):
    """Decode, prefill, uploads and idle time, beside the ceilings of this card."""
    if not place.has("bench_gpu"):
        return place.missing("bench_gpu")
    clocks = None
    started = place.start(["bench_gpu", "--device=cuda:0", f"--budget-seconds={max(1, int(seconds - 20))}",
                           *(TINY if place.emulated else REAL)],
                          more_environment={"COTERIE_EMULATION_PROTECT": None} if place.emulated else None)  # half the time
    if not place.emulated and shutil.which("nvidia-smi"):
        time.sleep(min(60, seconds / 3))  # under load
        clocks = place.run(["nvidia-smi", "--query-gpu=clocks.sm,clocks.mem,power.draw,temperature.gpu,"
                            "clocks_event_reasons.active", "--format=csv,noheader"], 10).output.strip()
    run = place.finish(started, seconds)
    cases, other = [], []
    for line in run.output.splitlines():
        try:
            cases.append(json.loads(line))
        except ValueError:
            other.append(line)
    failures = [{"what": case["what"], "error": case["error"]} for case in cases if case["case"] == "failed"]
    if not failures and (failure := run.failure("bench_gpu")):
        failures = [failure]
    return {"cases": cases, "clocks_under_load": clocks, "other_output": other[-20:], "out_of_time": run.timed_out,
            "failures": failures}


def sanitizer(place, seconds):
    """compute-sanitizer over a few tests of each kernel: memory first, then races in shared memory."""
    if place.emulated:  # the emulation looks for both by itself: this shows that the part runs
        return place.tests("gpu_test", "*CudaRowsTest*SwiGlu*Random", seconds)
    # The machine's own first: it fits the driver.
    found = [path for path in (shutil.which("compute-sanitizer"),
                               *sorted(map(str, pathlib.Path("/usr/local").glob("cuda*/bin/compute-sanitizer"))),
                               *(str(p) for p in sorted(place.bin.parent.glob("sanitizer/**/compute-sanitizer")) if p.is_file())) if path]
    if not found:
        return {"skipped": "no compute-sanitizer is here, and none was carried (tests/gpu/pack --sanitizer)"}
    report = {"failures": []}
    few = "*Rows*Random:*RopeKv*Random:*CudaLinear*Random:*CudaAttention*Random-*131072*"
    for tool in ("memcheck", "racecheck"):
        in_front = [found[0], "--tool", tool, "--error-exitcode", "86", "--print-limit", "5"]
        probe = place.run(["gpu_test", "--gtest_filter=*CudaRowsTest*SwiGlu*Random"], seconds / 4, in_front)
        if "Device not supported" in probe.output:  # as some sandboxes have it
            return {**report, "skipped": "compute-sanitizer says: Device not supported"}
        report[tool] = place.tests("gpu_test", few, seconds / 4, in_front)
        report["failures"] += [{**failure, "tool": tool} for failure in report[tool].get("failures", [])]
    return report


def nccl(place, seconds):
    """Two members of one group on one GPU. NCCL refuses two ranks of a device within a host, so each names its own."""
    if place.emulated:
        return place.tests("comm_test", "NcclTest.*", seconds)
    if not place.has("nccl_member"):
        return {"skipped": "nccl_member was not carried"}
    with tempfile.TemporaryDirectory() as folder:
        started = [place.start(["nccl_member", folder, str(rank), "2", str(int(seconds * 1000) - 3000)],
                               more_environment={"NCCL_HOSTID": f"host-{rank}", "NCCL_SHM_DISABLE": "1", "NCCL_P2P_DISABLE": "1",
                                                 "NCCL_DEBUG": "WARN"}) for rank in range(2)]
        end = time.monotonic() + seconds
        runs = [place.finish(one, end - time.monotonic()) for one in started]
    report = {"members": [run.output[-1500:] for run in runs], "failures": []}
    if all(run.code == 3 for run in runs):
        return {**report, "skipped": "NCCL is not on this machine"}
    for rank, run in enumerate(runs):
        if run.timed_out:
            report["failures"].append({"what": f"member {rank}", "error": f"silent for {int(seconds)} s"})
        elif failure := run.failure(f"member {rank}"):
            report["failures"].append(failure)
    return report
