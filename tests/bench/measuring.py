"""What the benchmark scripts share: where and on what they ran, medians over rounds, ratios, tables. Standard library only."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import pathlib
import statistics
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def models_folder() -> pathlib.Path:
    cache = os.environ.get("COTERIE_CACHE") or os.environ.get("XDG_CACHE_HOME", str(pathlib.Path.home() / ".cache")) + "/coterie"
    return pathlib.Path(os.environ.get("COTERIE_MODELS") or cache + "/models")


def machine() -> dict:
    """The kind of machine; nothing that names this one."""
    cpu, flags = "unknown", set()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            cpu = value.strip()
        if key.strip() in ("flags", "Features"):
            flags = set(value.split())
    memory_kb = int(pathlib.Path("/proc/meminfo").read_text().split()[1])
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16", "hypervisor", "asimddp", "i8mm", "bf16")
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_gb": round(memory_kb * 1024 / 1e9, 1),
            "features": [f for f in wanted if f in flags], "kernel": os.uname().release.split("-")[0]}


def source() -> dict:
    """Which sources were measured: the commit where git knows it, and always a hash of the files."""
    def git(*args):
        run = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True)
        return run.stdout if run.returncode == 0 else None

    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    files = listed.split("\0") if listed else [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]
    digest = hashlib.sha256()
    for name in sorted(f for f in files if f.endswith((".cc", ".h", ".inc", ".cmake", "CMakeLists.txt", ".proto"))):
        if (ROOT / name).is_file():
            digest.update(name.encode() + b"\0" + (ROOT / name).read_bytes() + b"\0")
    commit = git("rev-parse", "HEAD")
    return {"commit": commit.strip() if commit else None, "changed": bool(git("status", "--porcelain")) if commit else None,
            "sources_sha256": digest.hexdigest()}


def header(rounds: int) -> dict:
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"date_utc": now.strftime("%Y-%m-%d %H:%M"), "machine": machine(), "source": source(), "rounds": rounds,
            "load_average_before": os.getloadavg()[0]}


def run_json(command: list, **options) -> dict:
    """Runs a program that prints one JSON object."""
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\nended with {run.returncode}: {run.stderr.strip()[-2000:]}")
    return json.loads(run.stdout)


def run_json_lines(command: list) -> list[dict]:
    run = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\nended with {run.returncode}: {run.stderr.strip()[-2000:]}")
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]


def flatten(tree, prefix: str = "") -> dict[str, float]:
    """Every number of a tree of objects, by its path: {"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(flatten(value, path + "."))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[path] = value
    return flat


def spread(values: list[float]) -> dict:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}


def medians(rounds: list[dict]) -> dict[str, dict]:
    """{path: {"median", "min", "max", "n"}} over the rounds in which the path occurs."""
    values: dict[str, list[float]] = {}
    for tree in rounds:
        for path, value in flatten(tree).items():
            values.setdefault(path, []).append(value)
    return {path: spread(v) for path, v in values.items()}


def ratios(rounds: list[dict], wanted: dict[str, tuple]) -> dict[str, dict]:
    """Ratios inside each round, where neighbours disturb both sides alike, then their spread over the rounds.
    `wanted`: name -> (path, path) or (path, path, factor)."""
    out = {}
    flat_rounds = [flatten(tree) for tree in rounds]
    for name, (above, below, *factor) in wanted.items():
        values = [(factor[0] if factor else 1) * flat[above] / flat[below] for flat in flat_rounds if flat.get(below) and above in flat]
        if values:
            out[name] = spread(values)
    return out


def table(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))) for row in rows)


def number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def show(title: str, figures: dict[str, dict]) -> None:
    rows = [[title, "median", "min", "max", "rounds"]]
    for name, s in figures.items():
        rows.append([name, *(number(s[k]) for k in ("median", "min", "max")), str(s["n"])])
    print(table(rows), end="\n\n", flush=True)


def show_ratios(title: str, figures: dict[str, dict], targets: dict[str, tuple]) -> None:
    """As show, with the floor and the aim of those that have them."""
    rows = [[title, "median", "min", "max", "rounds", "floor", "aim"]]
    for name, s in figures.items():
        target = targets.get(name, ("", ""))
        rows.append([name, *(number(s[k]) for k in ("median", "min", "max")), str(s["n"]), *map(str, target)])
    print(table(rows), end="\n\n", flush=True)


def show_cases(title: str, figures: dict[str, dict], columns: dict[str, str]) -> None:
    """A row for each case, medians of its `case.field` only. `columns`: heading -> field."""
    cases = list(dict.fromkeys(name.rsplit(".", 1)[0] for name in figures))
    rows = [[title, *columns]]
    rows += [[case, *(number(figures[f"{case}.{field}"]["median"]) if f"{case}.{field}" in figures else "-" for field in columns.values())] for case in cases]
    print(table(rows), end="\n\n", flush=True)
