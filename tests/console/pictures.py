"""The pictures of the console in the documents, of the shipped experts over the real base: pictures.py <bin folder> <folder>.

Those in docs/pictures were reduced to a palette afterwards."""

import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests/testing"), str(ROOT / "tests/bench")]

from browser import Browser  # noqa: E402
from measuring import models_folder  # noqa: E402
from served_process import Process  # noqa: E402

QUESTIONS = ("How do I list all tables?", "And the indexes of one?", "Why does the borrow checker refuse my loop?")
IDLE = "document.querySelectorAll('[aria-busy=true]').length === 0 && document.querySelectorAll('.answer').length"


def main():
    bin_folder, out = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    os.environ.pop("DISPLAY", None)
    with tempfile.TemporaryDirectory() as folder:
        children, store = [], pathlib.Path(folder) / "store"
        store.mkdir()
        model = next(models_folder().glob("SmolLM2*.gguf"))
        try:
            for n in range(2):
                children.append(Process([bin_folder / "coterie-worker", f"--model={model}", f"--store={store}", "--listen=127.0.0.1:0", f"--id=worker-{n}",
                                         "--metrics-port=-1", "--threads=1", "--kv-tokens=8192", "--adapter-slots=8"], pathlib.Path(folder) / f"{n}.log", 1))
            workers = ",".join(child.words[1] for child in children)
            gateway = Process([bin_folder / "coterie-gateway", f"--model={model}", f"--embedder={models_folder() / 'all-MiniLM-L6-v2'}", f"--store={store}",
                               f"--workers={workers}", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--http-listen=127.0.0.1:0", "--metrics-port=-1",
                               "--shadow-share=0"], pathlib.Path(folder) / "gateway.log", 1)
            children.append(gateway)
            experts = sorted(path.parent for path in (ROOT / "experts").glob("*/expert.yaml"))
            subprocess.run([bin_folder / "coterie", "experts", "publish", *experts, f"--gateway=127.0.0.1:{gateway.words[1]}",
                            f"--admin=127.0.0.1:{gateway.words[3]}"], check=True, stdout=subprocess.DEVNULL)
            with Browser() as page:
                page.look("light", 1240, 860)
                page.goto(f"http://127.0.0.1:{gateway.words[gateway.words.index('http') + 1]}/")
                page.wait_for(f"document.querySelectorAll('#map .label').length === {len(experts)}")
                page.run("document.querySelector('#tokens').value = 48")
                for n, question in enumerate(QUESTIONS):
                    page.run("document.querySelector('#question').focus()")
                    page.type(question)
                    page.press("Enter")
                    page.wait_for(f"{IDLE} === {n + 1} && document.querySelector('#map .here') !== null")
                for scheme in ("light", "dark"):
                    page.look(scheme, 1240, 860)
                    page.screenshot(out / f"console-{scheme}.png")
                page.look("light", 390, 844)
                page.screenshot(out / "console-narrow.png")
        finally:
            for child in reversed(children):
                child.stop()


main()
