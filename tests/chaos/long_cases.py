"""What shows only after a while, or under much more than there is room for."""

from __future__ import annotations

import pathlib
import statistics
import threading
import time

from cases import Report
from fleet import Fleet, usage
from load import Load, Outcome, ask_each, make_questions, open_loop

DEADLINE_SECONDS = 10.0
SETTLING_SECONDS = 5.0  # until as much ends as begins
MAY_GROW = {"resident_mb": 24.0, "threads": 4, "descriptors": 12}  # from the second quarter of a soak to its last


def per_second(outcomes: list[Outcome], begin: float, seconds: float) -> float:
    """Answers that ended well in that time."""
    return sum(not o.error and begin <= o.ended < begin + seconds for o in outcomes) / seconds


def overload(bin_folder: pathlib.Path, report: Report, seconds=40.0):
    """Ten times the questions that can be answered, each worth something for ten seconds only: as many are answered as without."""
    flags = [f"--max-time={DEADLINE_SECONDS:.0f}s"]
    with Fleet(bin_folder, step_ms=30, worker_flags=["--max-seqs=8"], gateway_flags=flags) as fleet:
        questions = make_questions(["law", "sea", "base"], 60, 30)
        # Its peak: always as many streams as there are places, and a few that wait.
        began = time.monotonic()
        with Load(fleet.urls(), questions, 20) as load:
            time.sleep(SETTLING_SECONDS + 12)
        peak = per_second(load.outcomes, began + SETTLING_SECONDS, 12)
        before, began = usage(fleet.gateways[0]), time.monotonic()
        outcomes = open_loop(fleet.urls()[0], questions, 10 * peak, seconds, DEADLINE_SECONDS + 5)
        answered = [o for o in outcomes if not o.error]
        wasted = [o for o in outcomes if "time was over" in o.error and o.text]
        refused = [o for o in outcomes if o.code in (408, 429, 503)]
        others = [o for o in outcomes if o.error and o.code not in (408, 429, 503) and "time was over" not in o.error]
        goodput = per_second(outcomes, began + SETTLING_SECONDS, seconds - SETTLING_SECONDS)
        latencies = sorted(o.seconds for o in answered)
        report.figures |= {"asked_per_second": round(10 * peak, 1), "peak_per_second": round(peak, 2), "seconds": seconds, "asked": len(outcomes), "answered": len(answered),
                           "refused": len(refused), "broken_off_after_words": len(wasted), "latency_median_seconds": round(statistics.median(latencies), 2) if latencies else None,
                           "latency_longest_seconds": round(latencies[-1], 2) if latencies else None, "gateway_before": before, "gateway_after": usage(fleet.gateways[0])}
        report.bar("goodput_of_peak", goodput / peak, 0.95, at_least=True)
        report.check(bool(answered), "nothing was answered")
        report.check(not others, f"{len(others)} ended otherwise, such as: {others[0].error if others else ''}")
        quiet = ask_each(fleet.urls(), questions[:6], at_once=2)
        report.check(not any(o.error for o in quiet), "it does not answer afterwards")


def soak(bin_folder: pathlib.Path, report: Report, seconds=120.0):
    """Everything that goes on in a life: answers, clients that hang up, experts that come and go, workers that restart; and nothing grows."""
    with Fleet(bin_folder, step_ms=5, worker_flags=["--drain-timeout=1s"]) as fleet:
        questions = make_questions(["law", "sea", "base"], 60, 40)
        expected = [outcome.text for outcome in ask_each(fleet.urls(), questions)]
        samples: list[dict] = []
        ended = threading.Event()

        def watch():
            while not ended.wait(min(5.0, seconds / 60)):
                samples.append({"gateway": usage(fleet.gateways[0]), "worker": usage(fleet.workers[1])})

        watcher = threading.Thread(target=watch)
        watcher.start()
        began, n_changes, n_restarts = time.monotonic(), 0, 0
        try:
            with Load(fleet.urls(), questions, 6) as load, Load(fleet.urls(), make_questions(["auto"], 12, 200), 2, patience=0.5) as hanging_up:
                while time.monotonic() - began < seconds:
                    fleet.publish("food")
                    time.sleep(1)
                    fleet.coterie("experts", "remove", "food")
                    n_changes += 2
                    if n_changes % 10 == 0:  # the other worker is watched over the whole time
                        fleet.workers[0].stop()
                        fleet.start_worker(0)
                        n_restarts += 1
                    time.sleep(1)
        finally:
            ended.set()
            watcher.join()
        report.answers(load, expected)
        report.figures |= {"seconds": round(time.monotonic() - began), "changes_of_the_catalogue": n_changes, "restarts": n_restarts, "hung_up": len(hanging_up.outcomes)}
        quarter = len(samples) // 4
        for process in ("gateway", "worker"):
            for what, limit in MAY_GROW.items():
                early, late = (statistics.median(s[process][what] for s in part) for part in (samples[quarter:2 * quarter], samples[-quarter:]))
                report.figures[f"{process}_{what}"] = [early, late]
                report.check(late - early <= limit, f"{process}: {what} grew from {early} to {late}")
