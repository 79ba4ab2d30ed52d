"""The rules of docs/architecture.md that a compiler does not hold: who includes whom, where vendor headers stay,
and how files look. Run without arguments over the repository; `--self-test` proves that each rule can fail."""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Folder -> folders of ours it may include. A longer path wins over its parent.
MAY_INCLUDE = {
    "common": set(),
    "net": {"common"},
    "kernels": {"common"},
    "kernels/comm": {"common", "kernels/formats"},
    "model": {"common", "kernels"},
    "router": {"common", "kernels"},
    "worker/engine": {"common", "kernels", "model"},
    "worker/rendezvous": {"proto", "common", "net", "kernels"},
    "worker": {"proto", "common", "net", "kernels", "model"},
    "gateway": {"proto", "common", "net", "kernels", "model", "router"},
    "tools": {"proto", "common", "net", "model"},
}
# The floors of a folder, the lowest first: its subfolders include those below their own floor, never a neighbour or one
# above. What stands directly in the folder may include them all.
FLOORS = {
    "gateway": [{"runtime"}, {"text", "access", "upstream", "routing"}, {"core"}, {"watch"}, {"answer"}, {"publish"}, {"grpc", "http"}],
}
OURS = {"proto", "common", "net", "kernels", "model", "router", "worker", "gateway", "tools", "tests"}

# Vendor headers -> the only folders that may name them.
CONFINED = {
    r"cuda|cublas": ("kernels/cuda", "kernels/comm", "tests/gpu", "tests/comm/emulated_"),
    r"boost/context": ("tests/gpu",),
    r"boost/(asio|beast)": ("gateway/http/server",),
    r"nccl": ("kernels/comm",),
    r"xgrammar/": ("model/grammar",),
    r"gloo/": ("kernels/comm",),
    r"grpcpp/|grpc/": ("net", "worker", "gateway", "tools", "tests", "proto"),
}

# The headers that may bring in gRPC or a generated message: reading those costs a compiler seconds, for every file that
# includes one of these. What else wants them includes them in its .cc file, or forward declares.
HEADERS_WITH_GRPC = {
    "gateway/grpc/call_metadata.h", "gateway/grpc/check_caller.h", "gateway/grpc/cluster_service.h", "gateway/grpc/convert_client.h", "gateway/grpc/expert_receiver.h",
    "gateway/grpc/expert_service.h", "gateway/grpc/generate_call.h", "gateway/grpc/generation_service.h",
    "gateway/grpc/rpc_status.h", "gateway/grpc/unary_call.h", "gateway/grpc/upload_watch.h", "gateway/upstream/convert_worker.h",
    "gateway/upstream/stream_threads.h", "gateway/upstream/worker_stream.h", "net/grpc_listener.h", "net/grpc_time.h", "net/http2_protocol.h", "net/received.h", "net/reflection_service.h", "net/standard_services.h", "net/tls_credentials.h", "net/unknown_methods.h",
    "tools/client/cancellation.h", "tools/client/client.h", "tools/coterie/answer_view.h", "tools/coterie/conversation.h",
    "tools/coterie/load.h", "tools/coterie/question.h", "worker/rendezvous/rendezvous_service.h", "worker/service/attach_stream.h", "worker/service/convert.h",
    "worker/service/gateway_session.h", "worker/service/sequence_log.h", "worker/service/state_tracker.h",
    "worker/service/worker_service.h", "worker/worker_server.h",
}

# Durations come from the monotonic clock (common/clock.h); the wall clock jumps when somebody sets it. absl's own
# waits sleep until a point on the wall clock, so they are out too (common/mutex.h has ours).
WALL_CLOCK = re.compile(
    r"\babsl::(?:Now|GetCurrentTimeNanos|Time|TimeFrom\w+|FromUnix\w+|UnixEpoch|InfiniteFuture|InfinitePast)\b"
    r"|\babsl::(?:Mutex|CondVar)\b|\b(?:Wait|Await|Lock|WaitForNotification)\w*With(?:Timeout|Deadline)\b"
    r"|\bsystem_clock\b|\bhigh_resolution_clock\b|\bCLOCK_REALTIME\w*|\bGPR_CLOCK_REALTIME\b|\bgettimeofday\b"
    r"|\bstd::time\(|\btime\((?:nullptr|NULL|0)\)|\bpthread_cond_timedwait\b|\bsem_timedwait\b")
WALL_CLOCK_PYTHON = re.compile(r"\btime\.time(?:_ns)?\(|\btime\.clock_gettime\(")
# What people and other machines read: dates in a chat template, time stamps of a catalogue, a metric that says when.
MAY_READ_THE_WALL_CLOCK = (
    "model/chat/", "tests/model/chat/", "tests/fuzz/jinja_fuzz.cc", "tests/golden/render_templates_main.cc",
    "model/store/expert_store.h", "tests/model/store/expert_store_test.cc",
    "worker/service/worker_metrics.cc", "net/clock_watch.cc", "common/unix_time.cc",
    "tests/clock_shift/", "tests/common/clock_test.cc", "tests/house/check.py",
)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)
MAX_LINES = 500
# Files that are longer for a reason. Keep it short.
LONG_FOR_A_REASON = {
    "tests/house/check.py",
}


def rule_for(path: str):
    """The include rule of a file, by its longest matching folder; None where everything is allowed (tests)."""
    parts = path.split("/")
    for n in range(len(parts) - 1, 0, -1):
        if "/".join(parts[:n]) in MAY_INCLUDE:
            return "/".join(parts[:n])
    return None


def folder_of_include(header: str):
    """Which folder of ours a header belongs to; None for the system's."""
    if header.startswith("coterie/v1/"):
        return "proto"
    first = header.split("/")[0]
    return first if first in OURS and "/" in header else None


def floor_of(path: str):
    """The folder with floors that a path stands in, and its floor there: len(floors) directly in it; (None, None)
    where there are none or it isn't in any."""
    folder, _, rest = path.partition("/")
    if folder not in FLOORS:
        return None, None
    room = rest.split("/")[0] if "/" in rest else None
    return room, next((n for n, rooms in enumerate(FLOORS[folder]) if room in rooms), len(FLOORS[folder]))


def check_floors(path: str, text: str):
    room, floor = floor_of(path)
    if floor is None:
        return
    if room and floor == len(FLOORS[path.split("/")[0]]):
        yield f"{path}: {room}/ has no floor in tests/house/check.py"
    for header in INCLUDE.findall(text):
        other, below = floor_of(header)
        if header.split("/")[0] == path.split("/")[0] and room and other != room and below >= floor:
            yield f"{path}: includes {header}, which isn't below {room}/ (FLOORS of tests/house/check.py)"


def check_includes(path: str, text: str):
    rule = rule_for(path)
    for header in INCLUDE.findall(text):
        target = folder_of_include(header)
        if rule and target and target != rule.split("/")[0] and target not in MAY_INCLUDE[rule]:
            yield f"{path}: includes {header}, but {rule}/ may include only {sorted(MAY_INCLUDE[rule]) or 'nothing of ours'}"
        if (rule and target == rule.split("/")[0] and "/" in rule
                and not header.startswith((rule + "/", *(f + "/" for f in MAY_INCLUDE[rule] if "/" in f)))):
            yield f"{path}: includes {header}, but {rule}/ stands alone below {rule.split('/')[0]}/"
        if (rule and path.endswith(".h") and re.match(r"grpcpp/|coterie/v1/", header) and path not in HEADERS_WITH_GRPC):
            yield f"{path}: includes {header}; a header that does stands in HEADERS_WITH_GRPC of tests/house/check.py"
        for vendor, folders in CONFINED.items():
            if re.match(vendor, header) and not path.startswith(folders):
                yield f"{path}: includes {header}, which stays in {', '.join(folders)}"


def check_shape(path: str, text: str):
    lines = text.count("\n")
    if lines > MAX_LINES and path not in LONG_FOR_A_REASON:
        yield f"{path}: {lines} lines; over {MAX_LINES} wants a reason in tests/house/check.py"
    if path.endswith(".h"):
        guard = "COTERIE_" + re.sub(r"[/.]", "_", path).upper() + "_"
        if f"#ifndef {guard}" not in text and "#pragma once" not in text:
            yield f"{path}: include guard is not {guard}"
    for n, line in enumerate(text.splitlines(), 1):
        if re.search(r"/(home|root|work|Users)/\w", line) and "check.py" not in path:
            yield f"{path}:{n}: an absolute path of one machine"


def check_clock(path: str, text: str):
    if path.startswith(MAY_READ_THE_WALL_CLOCK):
        return
    python = path.endswith(".py")
    code = text if python else COMMENT.sub(lambda comment: "\n" * comment.group().count("\n"), text)
    for n, line in enumerate(code.splitlines(), 1):
        if found := (WALL_CLOCK_PYTHON if python else WALL_CLOCK).search(line):
            yield f"{path}:{n}: {found.group()} is the wall clock; durations come from common/clock.h"


def check_cpp(path: str, text: str):
    yield from check_includes(path, text)
    yield from check_floors(path, text)
    yield from check_clock(path, text)
    yield from check_shape(path, text)


def tracked(root: pathlib.Path):
    out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root,
                         check=True, capture_output=True).stdout.decode()
    return [p for p in out.split("\0") if p and (root / p).is_file()]


def check_tree(root: pathlib.Path, files):
    problems = []
    for path in files:
        if path.endswith((".h", ".cc", ".cu", ".cuh", ".inc")):
            problems += check_cpp(path, (root / path).read_text())
        elif path.endswith(".py"):
            problems += check_clock(path, (root / path).read_text())
    return problems


def check_format(root: pathlib.Path, files):
    sources = [p for p in files if p.endswith((".h", ".cc", ".cu", ".cuh", ".inc"))]
    if not sources:
        return []
    run = subprocess.run(["clang-format", "--dry-run", "-Werror", *sources], cwd=root, capture_output=True, text=True)
    bad = sorted({line.split(":")[0] for line in run.stderr.splitlines() if "error:" in line})
    return [f"{p}: not in the house's format; run clang-format -i" for p in bad]


def self_test():
    """Each breach below must be caught; each allowed line must not be."""
    breaches = {
        "common/a.h": '#include "kernels/backend.h"',
        "kernels/cpu/a.cc": '#include "model/decoder/decoder.h"',
        "router/a.cc": '#include "model/store/expert_store.h"',
        "worker/a.cc": '#include "gateway/access/admission.h"',
        "gateway/a.cc": '#include "worker/engine/engine.h"',
        "worker/engine/a.cc": '#include "coterie/v1/worker.pb.h"',
        "worker/engine/b.cc": '#include "worker/service/attach.h"',
        "tools/a.cc": '#include "gateway/access/admission.h"',
        "model/a.cc": "#include <nccl.h>",
        "worker/b.cc": "#include <cuda_runtime.h>",
        "worker/c.cc": "#include <gloo/context.h>",
        "kernels/comm/a.cc": '#include "kernels/cpu/head.h"',
        "kernels/b.cc": "#include <grpcpp/grpcpp.h>",
        "gateway/b.h": '#include "coterie/v1/worker.pb.h"',
    }
    allowed = {
        "gateway/a.cc": '#include "router/expert_index.h"',
        "gateway/b.cc": '#include "coterie/v1/worker.pb.h"',
        "worker/service/a.cc": '#include "worker/engine/engine.h"',
        "worker/engine/a.cc": '#include "worker/engine/engine.h"',
        "kernels/cuda/a.cu": "#include <cuda_runtime.h>",
        "kernels/comm/a.cc": '#include "kernels/formats/half.h"',
        "tests/worker/a.cc": '#include "worker/engine/engine.h"',
    }
    wall = ["const auto a = absl::Now();", "absl::Time a;", "std::chrono::system_clock::now();", "time(nullptr);",
            "absl::CondVar a;"]
    monotonic = ["// absl::Now() is the wall clock", "MonotonicTime a = MonotonicNow();", "absl::Duration a;"]
    failures = [f"not caught: {p}: {t}" for p, t in breaches.items() if not list(check_includes(p, t))]
    upstairs = {
        "gateway/routing/a.h": '#include "gateway/core/request.h"',
        "gateway/http/a.cc": '#include "gateway/grpc/rpc_status.h"',
        "gateway/upstream/a.cc": '#include "gateway/routing/router_state.h"',
        "gateway/core/a.cc": '#include "gateway/gateway_server.h"',
        "gateway/attic/a.cc": '#include "gateway/core/request.h"',
    }
    downstairs = {
        "gateway/grpc/a.h": '#include "gateway/routing/router_state.h"',
        "gateway/core/a.cc": '#include "gateway/core/request.h"',
        "gateway/gateway_server.cc": '#include "gateway/grpc/rpc_status.h"',
        "gateway/text/a.cc": '#include "model/text/base_text.h"',
    }
    failures += [f"not caught: {p}: {t}" for p, t in upstairs.items() if not list(check_floors(p, t))]
    failures += [f"wrongly caught: {m}" for p, t in downstairs.items() for m in check_floors(p, t)]
    failures += [f"wrongly caught: {m}" for p, t in allowed.items() for m in check_includes(p, t)]
    failures += [f"not caught: {t}" for t in wall if not list(check_clock("gateway/a.cc", t))]
    failures += [f"wrongly caught: {m}" for t in monotonic for m in check_clock("gateway/a.cc", t)]
    if not list(check_clock("tools/a.py", "begin = time.time()")):
        failures.append("not caught: the wall clock in Python")
    with tempfile.TemporaryDirectory() as folder:
        bad = pathlib.Path(folder) / "a.h"
        bad.write_text("int  x;\n")
        if not list(check_cpp("common/a.h", bad.read_text())):
            failures.append("not caught: a header without its guard")
        if not list(check_shape("common/a.cc", "\n" * (MAX_LINES + 1))):
            failures.append("not caught: a file that is too long")
    return failures


def main():
    failures = self_test()
    if failures:
        sys.exit("the house check does not work:\n  " + "\n  ".join(failures))
    if "--self-test" in sys.argv:
        print("the house check catches what it should")
        return
    files = tracked(ROOT)
    problems = check_tree(ROOT, files) + check_format(ROOT, files)
    if problems:
        sys.exit(f"{len(problems)} breaches of the house rules:\n  " + "\n  ".join(problems))
    print(f"house rules hold in {len(files)} files")


if __name__ == "__main__":
    main()
