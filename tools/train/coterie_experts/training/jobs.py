"""Trainings beside each other, each in a process of its own; with GPUs, each on one of them."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import time

from coterie_experts.progress import bar, say
from coterie_experts.training.sets import AdapterSet, Task

_POLL_SECONDS = 0.3
# Large activations freed and mapped anew at every step cost a sixth of the time: keep them in the heap. On a machine
# that does other work too, threads that spin at each barrier waste most of it: let them sleep.
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(4 << 30), "OMP_WAIT_POLICY": "PASSIVE"}


def gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name here; empty without a driver."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [d for d in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if d.strip() not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return [str(i) for i in range(listed.stdout.count("GPU "))] if listed.returncode == 0 else []


def _environment(device: str | None) -> dict[str, str]:
    chosen = {"CUDA_VISIBLE_DEVICES": device} if device is not None else {}
    return {**_ENVIRONMENT, **os.environ, **chosen}


def _step_of(adapters: AdapterSet, task: Task) -> tuple[int, int]:
    """(steps done, steps in all), as last reported."""
    try:
        seen = json.loads(adapters.work(task, "progress").read_text())
        return seen["step"], seen["steps"]
    except (OSError, ValueError, KeyError):
        return 0, 0


def _last_line(path: pathlib.Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    return lines[-1] if lines else "it said nothing"


def run_jobs(adapters: AdapterSet, tasks: list[Task], n_jobs: int, command: list[str]) -> list[str]:
    """Trains `tasks`, `n_jobs` at a time, by `command --index I`; returns the names of those that failed.

    One failure does not end the others. On an interruption the trainers are ended; their checkpoints stay.
    """
    waiting, running, failed = list(tasks), {}, []
    devices = gpus()
    free = [devices[i % len(devices)] if devices else None for i in range(n_jobs)]
    expected = {t.name: max(1, t.tokens // adapters.settings.batch_tokens) for t in tasks}
    with bar(total=sum(expected.values()), what=f"training {len(tasks)} adapters", unit="step") as progress:
        try:
            while waiting or running:
                while waiting and free:
                    task, device = waiting.pop(0), free.pop(0)
                    adapters.work(task, "progress").unlink(missing_ok=True)
                    adapters.work(task, "log").parent.mkdir(parents=True, exist_ok=True)
                    with open(adapters.work(task, "log"), "ab") as log:
                        child = subprocess.Popen([*command, f"--index={task.index}"], stdout=log, stderr=log, env=_environment(device))
                    running[task.name] = (task, child, device)
                time.sleep(_POLL_SECONDS)
                for task, child, device in list(running.values()):
                    if child.poll() is None:
                        continue
                    del running[task.name]
                    free.append(device)
                    if child.returncode:
                        failed.append(task.name)
                        say(f"{task.name} failed ({child.returncode}): {_last_line(adapters.work(task, 'log'))}")
                steps = {t.name: _step_of(adapters, t) for t in tasks}
                progress.total = sum(n or expected[name] for name, (_, n) in steps.items())
                progress.update(sum(done for done, _ in steps.values()) - progress.n)
        finally:
            for _, child, _ in running.values():
                child.terminate()
            for _, child, _ in running.values():
                child.wait()
    return failed
