"""A child process that serves, with what it costs in time to start, memory and CPU. Standard library only."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import subprocess
import time

PATIENCE_SECONDS = 120


class Process:
    """A child that prints `listening …` when it serves; `words` are those of the lines it printed."""

    def __init__(self, command: list, log: pathlib.Path, wanted_lines: int, patience_seconds: float = PATIENCE_SECONDS):
        self.started = time.monotonic()
        self.log = log
        with open(log, "wb") as errors:
            self.child = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=errors)
        try:
            self.words = self._read_lines(wanted_lines, patience_seconds)
        except (RuntimeError, subprocess.TimeoutExpired) as problem:
            self.stop()
            raise RuntimeError(f"{command[0]} {problem}: {log.read_text()[-2000:]}") from None
        self.ready_seconds = time.monotonic() - self.started

    def _read_lines(self, wanted_lines: int, patience_seconds: float) -> list[str]:
        output = b""  # ours, so that no line waits in a buffer that select does not see
        while (n_lines := output.count(b"\n")) < wanted_lines:
            left = self.started + patience_seconds - time.monotonic()
            if left <= 0 or not select.select([self.child.stdout], [], [], left)[0]:
                raise RuntimeError(f"printed {n_lines} of {wanted_lines} lines in {patience_seconds} s")
            more = os.read(self.child.stdout.fileno(), 4096)
            if not more:
                self.child.wait(20)
                raise RuntimeError(f"ended with {self.child.returncode}")
            output += more
        return output.decode().split()

    def resident_mb(self) -> float:
        for line in pathlib.Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
        return 0.0

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def thread_cpu_seconds(self) -> dict[str, float]:
        """Of the threads there are now, by their ids."""
        out = {}
        for task in pathlib.Path(f"/proc/{self.child.pid}/task").iterdir():
            try:
                out[task.name] = int((task / "schedstat").read_text().split()[0]) / 1e9
            except OSError:  # it ended just now
                pass
        return out

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.child.stdout.close()
