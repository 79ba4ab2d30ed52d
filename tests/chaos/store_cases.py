"""What goes wrong with the expert store."""

from __future__ import annotations

import contextlib
import json
import pathlib
import random
import subprocess
import tempfile

from cases import Report
from fleet import Fleet
from load import ask_each, make_questions


@contextlib.contextmanager
def small_disk(megabytes: int):
    """A file system of its own that is soon full."""
    with tempfile.TemporaryDirectory(prefix="coterie-disk-") as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder], capture_output=True, text=True)
        if done.returncode != 0:
            yield None
            return
        try:
            yield pathlib.Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder])


def expect_same(report: Report, fleet: Fleet, questions: list[dict], expected: list[str], when: str):
    outcomes = ask_each(fleet.urls(), questions)
    report.figures["streams"] = report.figures.get("streams", 0) + len(outcomes)
    for outcome in outcomes:
        report.check(not outcome.error, f"{when}: {outcome.error}")
        report.check(bool(outcome.error) or outcome.text == expected[outcome.question], f"{when}: another text")


def restart_all(fleet: Fleet):
    for gateway in fleet.gateways:
        gateway.stop()
    for n, worker in enumerate(fleet.workers):
        worker.stop()
        fleet.start_worker(n)
    for n in range(len(fleet.gateways)):
        fleet.start_gateway(n)
        fleet.wait_ready(gateway=n)


def disk_full(bin_folder: pathlib.Path, report: Report):
    """Experts are published until the disk is full: what was published stays, answers go on, and there is room again after a removal."""
    with small_disk(1) as disk:
        if disk is None:
            report.figures["skipped"] = "no tmpfs may be mounted here"
            return
        with Fleet(bin_folder, store=disk / "store", step_ms=2, experts=("law",)) as fleet:
            questions = make_questions(["law"], 6, 20)
            expected = [outcome.text for outcome in ask_each(fleet.urls(), questions)]
            published, refusal = ["law"], ""
            # Adapters that differ in one number are objects of their own.
            for n in range(200):
                name = f"e{n}"
                config = fleet.expert_folder(name, "llama-qv") / "adapter_config.json"
                settings = json.loads(config.read_text())
                settings["lora_alpha"] = 4 + n
                config.write_text(json.dumps(settings))
                done = fleet.publish(name, "llama-qv", check=False)
                if done.returncode != 0:
                    refusal = done.stderr
                    break
                published.append(name)
            report.figures["published_until_full"] = len(published)
            report.check("No space left" in refusal, f"the refusal does not say that the disk is full: {refusal!r}")
            expect_same(report, fleet, questions, expected, "on a full disk")
            report.check(fleet.names() >= set(published), "an expert that was published is gone")
            restart_all(fleet)
            report.check(fleet.names() >= set(published), "an expert is gone after a restart on the full disk")
            expect_same(report, fleet, questions, expected, "after a restart on the full disk")
            # Room is made by hand, as an operator would with a larger volume.
            done = subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], capture_output=True, text=True)
            report.check(done.returncode == 0, done.stderr)
            done = fleet.publish("late", "llama-qv", check=False)
            report.check(done.returncode == 0, f"with room again: {done.stderr}")
            report.check(fleet.names() >= {*published, "late"}, "an expert is gone")


def corrupt(bin_folder: pathlib.Path, report: Report):
    """A bit of an expert's weights flips on the disk before a worker reads them: never a wrong answer, and publishing again mends it."""
    with Fleet(bin_folder, computes=True) as fleet:
        questions = make_questions(["law"], 6, 20)
        expected = [outcome.text for outcome in ask_each(fleet.urls(), questions)]
        others = make_questions(["sea", "base"], 6, 20)
        others_expected = [outcome.text for outcome in ask_each(fleet.urls(), others)]
        weights = next(fleet.object_of("law").glob("*.safetensors"))
        good = weights.read_bytes()
        position = random.Random(7).randrange(len(good) // 2, len(good))
        for damage, words in ((good[:position] + bytes([good[position] ^ 4]) + good[position + 1:], "flipped"), (good[: len(good) // 2], "cut off"), (None, "gone")):
            weights.chmod(0o644)
            weights.unlink() if damage is None else weights.write_bytes(damage)
            for packed in fleet.store.glob("packed/**/*"):  # what an earlier load left would hide it
                if packed.is_file():
                    packed.unlink()
            restart_all(fleet)
            outcomes = ask_each(fleet.urls(), questions)
            report.check(all(o.error or o.text == expected[o.question] for o in outcomes), f"{words}: a wrong answer")
            report.figures[f"refused_{words.replace(' ', '_')}"] = sum(bool(o.error) for o in outcomes)
            expect_same(report, fleet, others, others_expected, f"{words}: other experts")
            done = fleet.publish("law", check=False)
            report.check(done.returncode == 0, f"{words}: publishing again is refused: {done.stderr}")
            expect_same(report, fleet, questions, expected, f"{words}, published again")


def catalogue(bin_folder: pathlib.Path, report: Report):
    """The catalogue is cut off, filled with something else, emptied, or gone, while it is served and while everything starts."""
    with Fleet(bin_folder, step_ms=2) as fleet:
        questions = make_questions(["law", "sea", "base"], 9, 20)
        expected = [outcome.text for outcome in ask_each(fleet.urls(), questions)]
        known = fleet.names()
        file = fleet.store / "catalogue.json"
        good = file.read_bytes()
        damages = {"cut off": good[: len(good) // 2], "empty": b"", "something else": b"[" * 200000, "gone": None}
        for words, damage in damages.items():
            file.unlink() if damage is None else file.write_bytes(damage)
            fleet.wait(lambda: fleet.metric("coterie_catalogue_lost") == 1, f"{words}: noticed", 30)
            expect_same(report, fleet, questions, expected, f"{words}, served on")
            report.check(fleet.names() == known, f"{words}: experts are gone")
            report.check(fleet.publish("food", check=False).returncode != 0, f"{words}: publishing went on over it")
            restart_all(fleet)
            report.check(fleet.names() == known, f"{words}: experts are gone after a restart")
            expect_same(report, fleet, questions, expected, f"{words}, after a restart")
            file.write_bytes(good)
            fleet.wait(lambda: fleet.metric("coterie_catalogue_lost") == 0, f"{words}: healed", 30)
        report.figures["damages"] = list(damages)
        report.check(fleet.publish("food", check=False).returncode == 0, "nothing can be published afterwards")
        report.check(fleet.names() == known | {"food"}, "an expert is gone")
