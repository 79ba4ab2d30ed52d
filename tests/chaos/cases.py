"""What goes wrong, one case each: does it, and gives figures. A case fails by what was lost (`faults`), never by a time: those stand in `bars`."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

from fleet import Fleet, usage
from load import Load, ask_each, make_questions

LONGEST_GAP_REFUSED, LONGEST_GAP_SILENT = 1.0, 3.5  # seconds; the port of what is gone refuses, or nothing answers


class Report:
    def __init__(self):
        self.figures: dict[str, object] = {}
        self.faults: list[str] = []
        self.bars: list[dict] = []

    def check(self, holds: bool, words: str):
        if not holds:
            self.faults.append(words)

    def bar(self, name: str, value: float, limit: float, at_least=False):
        self.figures[name] = round(value, 3)
        self.bars.append({"name": name, "value": round(value, 3), "limit": limit, "met": value >= limit if at_least else value <= limit})

    def answers(self, load: Load, expected: list[str]):
        """0 failed, 0 differing; and how they fared."""
        outcomes = load.outcomes
        failed = [o for o in outcomes if o.error]
        differ = [o for o in outcomes if not o.error and o.text != expected[o.question]]
        self.figures |= {"streams": len(outcomes), "failed": len(failed), "texts_that_differ": len(differ), "moved": sum(o.n_notices > 0 for o in outcomes),
                         "asked_again": sum(o.n_tries > 1 for o in outcomes)}
        self.check(len(outcomes) > 0, "no answer came at all")
        self.check(not failed, f"{len(failed)} of {len(outcomes)} streams failed, such as: {failed[0].error if failed else ''}")
        self.check(not differ, f"{len(differ)} of {len(outcomes)} texts differ")

    def gaps(self, load: Load, limit: float):
        gaps = sorted(o.longest_gap_seconds for o in load.outcomes if o.n_notices > 0)
        self.check(bool(gaps), "no answer lost its worker, so nothing was tried")
        if gaps:
            self.figures["gap_median_seconds"] = round(gaps[len(gaps) // 2], 3)
            self.bar("gap_longest_seconds", gaps[-1], limit)


def settled(fleet: Fleet, report: Report):
    """Nothing is left of what was cut off."""
    try:
        fleet.wait(lambda: fleet.metric("coterie_requests_running") == 0 and fleet.metric("coterie_worker_running") == 0, "nothing runs", 30)
    except RuntimeError as problem:
        report.check(False, f"{problem}: {fleet.metric('coterie_requests_running')} requests, {fleet.metric('coterie_worker_running')} sequences")


@contextlib.contextmanager
def under_load(fleet: Fleet, report: Report, n_streams=12, n_tokens=100, n_tries=1):
    questions = make_questions(["law", "sea", "base"], 36, n_tokens)
    undisturbed = ask_each(fleet.urls(), questions)
    for outcome in undisturbed:
        report.check(not outcome.error, f"undisturbed: {outcome.error}")
    expected = [outcome.text for outcome in undisturbed]
    report.check(len(set(expected)) == len(expected), "two questions have one answer")
    before = [usage(gateway) for gateway in fleet.gateways]
    with Load(fleet.urls(), questions, n_streams, n_tries=n_tries) as load:
        time.sleep(1)
        yield load
    report.answers(load, expected)
    report.figures["gateway_before"], report.figures["gateway_after"] = before[0], usage(fleet.gateways[0])


def kill(bin_folder: pathlib.Path, report: Report, n_kills=100):
    """kill -9 of one worker after the other under load; each comes back at once."""
    with Fleet(bin_folder) as fleet:
        with under_load(fleet, report) as load:
            for n in range(n_kills):
                victim = fleet.workers[n % 2]
                victim.child.kill()
                victim.child.wait()
                time.sleep(0.3)
                victim.stop()
                fleet.start_worker(n % 2)
                fleet.wait_ready()
                time.sleep(0.2)
        report.figures["kills"] = n_kills
        report.gaps(load, LONGEST_GAP_REFUSED)
        settled(fleet, report)


def all_killed(bin_folder: pathlib.Path, report: Report, n_rounds=6):
    """kill -9 of every worker at once: answers wait for the first that comes back."""
    with Fleet(bin_folder) as fleet:
        with under_load(fleet, report) as load:
            for _ in range(n_rounds):
                for worker in fleet.workers:
                    worker.child.kill()
                for worker in fleet.workers:
                    worker.child.wait()
                    worker.stop()
                time.sleep(0.5)
                for n in range(len(fleet.workers)):
                    fleet.start_worker(n)
                fleet.wait_ready()
                time.sleep(1.5)
        report.figures["rounds"] = n_rounds
        report.gaps(load, LONGEST_GAP_SILENT)
        settled(fleet, report)


def gateway_stopped(bin_folder: pathlib.Path, report: Report, lengths=(1.0, 4.0, 8.0)):
    """SIGSTOP of the gateway: it has heard nobody for a while, and must not take its workers for lost."""
    with Fleet(bin_folder) as fleet:
        with under_load(fleet, report):
            for seconds in lengths:
                fleet.gateways[0].child.send_signal(signal.SIGSTOP)
                time.sleep(seconds)
                fleet.gateways[0].child.send_signal(signal.SIGCONT)
                time.sleep(2)
        report.figures["seconds_stopped"] = list(lengths)
        settled(fleet, report)


def stopped(bin_folder: pathlib.Path, report: Report, n_rounds=4, seconds=5.0):
    """SIGSTOP: a worker that neither answers nor refuses, and comes back with what it still thinks it does."""
    with Fleet(bin_folder) as fleet:
        with under_load(fleet, report) as load:
            for n in range(n_rounds):
                fleet.workers[n % 2].child.send_signal(signal.SIGSTOP)
                time.sleep(seconds)
                fleet.workers[n % 2].child.send_signal(signal.SIGCONT)
                fleet.wait_ready()
                time.sleep(0.5)
        report.figures |= {"stops": n_rounds, "seconds_each": seconds}
        report.gaps(load, LONGEST_GAP_SILENT)
        settled(fleet, report)


class Host:
    """A network namespace with one link to here; `cut` takes what is sent and lets nobody know."""

    ADDRESS, OURS = "10.203.7.2", "10.203.7.1"

    def __init__(self):
        self.name = f"coterie-{os.getpid()}"
        self.link = f"ct{os.getpid()}"
        self._ip("netns", "add", self.name)
        try:
            self._ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            self._ip("address", "add", f"{self.OURS}/30", "dev", self.link)
            self._ip("link", "set", self.link, "up")
            self._ip("-n", self.name, "address", "add", f"{self.ADDRESS}/30", "dev", "eth0")
            self._ip("-n", self.name, "link", "set", "eth0", "up")
            self._ip("-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _ip(*words):
        done = subprocess.run(["ip", *words], capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")

    def launcher(self):
        return ("ip", "netns", "exec", self.name)

    def cut(self):
        # The address stays on our side, so that nothing here says "no route": packets leave and are lost.
        self._ip("-n", self.name, "link", "set", "eth0", "down")

    def heal(self):
        self._ip("-n", self.name, "link", "set", "eth0", "up")

    def close(self):
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)
        subprocess.run(["ip", "link", "del", self.link], capture_output=True)


def partition(bin_folder: pathlib.Path, report: Report, lengths=(1.0, 2.0, 5.0, 10.0)):
    """A worker on another host (a network namespace) that cannot be reached for a while, nor reach."""
    try:
        host = Host()
    except OSError as problem:
        report.figures["skipped"] = f"no network namespaces here: {problem}"
        return
    with contextlib.ExitStack() as stack:
        stack.callback(host.close)
        fleet = stack.enter_context(Fleet(bin_folder, hosts=("127.0.0.1", host.ADDRESS), launchers=((), host.launcher()),
                                          gateway_flags=["--eject=0s"]))  # else it gets no answers to lose after the second cut
        with under_load(fleet, report) as load:
            for seconds in lengths:
                host.cut()
                time.sleep(seconds)
                host.heal()
                fleet.wait_ready()
                time.sleep(1)
        report.figures["seconds_cut"] = list(lengths)
        report.gaps(load, LONGEST_GAP_SILENT)
        settled(fleet, report)


def gateway_killed(bin_folder: pathlib.Path, report: Report, n_kills=8):
    """kill -9 of the only gateway; clients ask again, with the seed they had, and workers give up what nobody wants."""
    with Fleet(bin_folder, worker_flags=["--reattach-grace=2s"]) as fleet:
        with under_load(fleet, report, n_tries=30) as load:
            for _ in range(n_kills):
                fleet.gateways[0].child.kill()
                fleet.gateways[0].child.wait()
                fleet.gateways[0].stop()
                fleet.start_gateway()
                fleet.wait_ready()
                time.sleep(4)  # longer than an answer takes
        report.figures |= {"kills": n_kills, "broken_off": sum(o.n_broken for o in load.outcomes)}
        settled(fleet, report)


def rolling(bin_folder: pathlib.Path, report: Report, n_rounds=3):
    """Every worker and every gateway is told to end (SIGTERM) and started again, one after the other."""
    with Fleet(bin_folder, n_gateways=2, worker_flags=["--drain-timeout=1s"], gateway_flags=["--drain-timeout=20s"]) as fleet:
        # Whoever finds a gateway's port closed asks the other one: so does every load balancer.
        with under_load(fleet, report, n_tries=10) as load:
            for n in range(n_rounds):
                for worker in range(2):
                    fleet.workers[worker].stop()
                    report.check(fleet.workers[worker].child.returncode == 0, f"a worker ended with {fleet.workers[worker].child.returncode}")
                    fleet.start_worker(worker)
                    fleet.wait_ready(gateway=0)
                    fleet.wait_ready(gateway=1)
                for gateway in range(2):
                    fleet.gateways[gateway].stop()
                    report.check(fleet.gateways[gateway].child.returncode == 0, f"a gateway ended with {fleet.gateways[gateway].child.returncode}")
                    fleet.start_gateway(gateway)
                    fleet.wait_ready(gateway=gateway)
        n_broken = sum(o.n_broken for o in load.outcomes)
        report.check(n_broken == 0, f"{n_broken} answers broke off while a gateway drained")
        report.figures |= {"rounds": n_rounds, "restarts": 4 * n_rounds, "broken_off": n_broken}
        report.gaps(load, LONGEST_GAP_REFUSED)
        settled(fleet, report)


def suite(*filters: str):
    """Cases that are tests of real processes already, by their names."""
    def case(bin_folder: pathlib.Path, report: Report):
        words = ":".join(filters)
        done = subprocess.run([bin_folder / "cluster_test", f"--gtest_filter={words}", "--gtest_brief=1"], capture_output=True, text=True)
        report.figures["tests"] = words
        ran = re.search(r"\] (\d+) tests? from \d+ test suites? ran", done.stdout)
        report.figures["n_tests"] = int(ran.group(1)) if ran else 0
        report.check(done.returncode == 0 and report.figures["n_tests"] >= len(filters), (done.stdout + done.stderr)[-3000:])
    case.__doc__ = f"cluster_test {' '.join(filters)}"
    return case
