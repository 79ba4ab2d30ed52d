"""The console in a real Chromium before a gateway of real processes. Arguments: <bin folder>, and what unittest takes."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "clients"), str(HERE.parent / "deploy")]

from browser import Browser  # noqa: E402
from cluster import DATA, EXPERTS, questions  # noqa: E402
from served_gateway import ServedGateway  # noqa: E402

BIN = pathlib.Path(sys.argv.pop(1)).resolve()
SECRET = "console-secret"
LAST_TEXT = "[...document.querySelectorAll('.answer .text')].at(-1)?.textContent"
IDLE = "document.querySelector('#stop').hidden && document.querySelectorAll('[aria-busy=true]').length === 0"


def publish(gateway: ServedGateway):
    grpc, admin = gateway.children[-1].words[1], gateway.children[-1].words[3]
    with tempfile.TemporaryDirectory() as folder:
        for name, (adapter, _) in EXPERTS.items():
            examples = pathlib.Path(folder) / f"{name}.txt"
            examples.write_text("\n".join(questions(name)) + "\n")
            subprocess.run([BIN / "coterie", "experts", "publish", DATA / "tiny-adapters" / adapter, "--name", name, "--version", "1",
                            "--description", f"about {name}", "--examples", examples, f"--gateway=127.0.0.1:{grpc}", f"--admin=127.0.0.1:{admin}"],
                           check=True, stdout=subprocess.DEVNULL)


class ConsoleTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gateway = ServedGateway(BIN, gateway_flags=["--catalogue-poll=50ms"])
        cls.addClassCleanup(cls.gateway.stop)
        publish(cls.gateway)

    def setUp(self):
        self.page = self.enterContext(Browser())
        self.page.look("light")
        self.open(self.gateway.url)

    def open(self, url: str):
        self.page.goto(url + "/")
        self.page.wait_for("document.querySelectorAll('#map .dot').length > 0")

    def tearDown(self):
        self.assertEqual(self.page.console, [], "the page threw, logged, or wanted what its policy forbids")

    def ask(self, text: str):
        self.page.run("document.querySelector('#question').focus()")
        self.page.type(text)
        self.page.press("Enter")
        self.page.wait_for(f"{IDLE} && document.querySelectorAll('.answer').length > 0")

    def test_a_question_is_routed_answered_and_followed_up(self):
        self.page.run("document.querySelector('#tokens').value = 24")
        self.ask("judge court case")
        self.assertEqual(self.page.run("document.querySelector('.answer .who .name').textContent"), "law")
        self.assertTrue(self.page.run(LAST_TEXT))
        self.assertIn("law", self.page.run("document.querySelector('#verdict').textContent"))
        self.assertIn("margin", self.page.run("document.querySelector('#verdict').textContent"))
        scores = self.page.run("[...document.querySelectorAll('#scores tbody tr')].map(r => [r.querySelector('.name').textContent, +r.cells[2].textContent])")
        self.assertEqual(scores[0][0], "law")
        self.assertEqual(sorted(scores, key=lambda row: -row[1]), scores)
        self.page.wait_for("document.querySelector('#map .here') !== null && document.querySelector('#map .way.chosen') !== null")
        # The question fell among the prototypes of the expert that answers.
        near = self.page.run("""(() => {
          const at = (c) => [+c.getAttribute('cx'), +c.getAttribute('cy')];
          const [x, y] = at(document.querySelector('#map .here'));
          const dots = [...document.querySelectorAll('#map .dot')].map(d => [(at(d)[0] - x) ** 2 + (at(d)[1] - y) ** 2, d.parentNode.dataset.expert]);
          return dots.sort((a, b) => a[0] - b[0])[0][1]; })()""")
        self.assertEqual(near, "law")
        self.assertIn("law", self.page.run("document.querySelector('#status').textContent"))

        self.page.run("window.sent = []; { const real = window.fetch; window.fetch = (u, o) => { if (u.endsWith('completions')) window.sent.push(o.body); return real(u, o); }; }")
        self.ask("and this")
        self.assertEqual(self.page.run("document.querySelectorAll('.answer').length"), 2)
        self.page.click("#fresh")
        self.assertEqual(self.page.run("document.querySelectorAll('.answer, .asked').length"), 0)
        self.ask("boat wave fish")
        self.assertEqual(self.page.run("document.querySelector('.answer .who .name').textContent"), "sea")
        followed, fresh = (json.loads(body)["messages"] for body in self.page.run("window.sent"))
        self.assertEqual([m["role"] for m in followed], ["user", "assistant", "user"])
        self.assertEqual([m["role"] for m in fresh], ["user"])

    def test_it_works_with_the_keyboard_alone(self):
        self.page.press("Tab")
        self.assertEqual(self.page.run("document.activeElement.className"), "skip")
        self.page.press("Enter")  # the link leads to the question
        self.page.type("star orbit night")
        self.page.press("Enter", shift=True)
        self.page.type("rock")
        self.page.press("Enter")
        self.page.wait_for(f"{IDLE} && document.querySelectorAll('.answer').length === 1")
        self.assertEqual(self.page.run("document.querySelector('.asked').textContent"), "star orbit night\nrock")
        reached = []
        for _ in range(14):
            reached.append(self.page.run("document.activeElement.id"))
            # Where the focus is can be seen.
            if reached[-1]:
                self.assertNotEqual(self.page.run("getComputedStyle(document.activeElement).outlineStyle"), "none", reached[-1])
            self.page.press("Tab")
        for field in ("question", "model", "tokens", "fresh", "send", "live"):
            self.assertIn(field, reached)
        self.page.run("document.querySelector('#key-button').focus()")
        self.page.press("Enter")
        self.assertTrue(self.page.run("document.querySelector('#key-dialog').open && document.querySelector('#key-dialog').contains(document.activeElement)"))
        self.page.press("Escape")
        self.assertFalse(self.page.run("document.querySelector('#key-dialog').open"))

    def test_it_is_accessible_in_light_and_dark_wide_and_narrow(self):
        check = (HERE / "accessible.js").read_text()
        self.ask("rice soup bread")
        backgrounds = set()
        for scheme in ("light", "dark"):
            for width in (1280, 360):
                self.page.look(scheme, width)
                self.assertEqual(self.page.run(check), [], f"{scheme}, {width} pixels")
            backgrounds.add(self.page.run("getComputedStyle(document.body).backgroundColor"))
        self.assertEqual(len(backgrounds), 2)
        tree = self.page.tree()
        roles = {node["role"] for node in tree}
        self.assertLessEqual({"main", "banner", "log", "status", "heading", "textbox", "button", "checkbox"}, roles)
        for node in tree:
            if node["role"] in ("button", "textbox", "combobox", "spinbutton", "checkbox", "img", "image", "log", "link"):
                self.assertTrue(node["name"], f"a {node['role']} has no name")

    def test_what_a_model_or_a_name_says_is_never_markup(self):
        hostile = "<img src=x onerror='window.hacked=1'><script>window.hacked=2</script><b>bold</b> javascript:alert(1) \u202e"
        route = {"experts": [{"name": hostile, "digest": "00", "score": 0.5, "weight": 1, "canary": False}], "candidates": [{"name": hostile, "score": 0.5}],
                 "margin": 0.1, "policy": hostile, "reason": hostile, "worker": hostile, "catalogue_generation": 1}
        chunk = {"model": hostile, "choices": [{"index": 0, "delta": {"content": hostile}, "finish_reason": None}], "coterie": route}
        stream = f": {hostile}\n\ndata: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode()
        self.page.intercept = lambda url: (200, {"Content-Type": "text/event-stream"}, stream)
        self.page.call("Fetch.enable", patterns=[{"urlPattern": "*/v1/chat/completions"}])
        self.ask(hostile)
        self.assertEqual(self.page.run(LAST_TEXT), hostile)
        self.assertEqual(self.page.run("document.querySelector('.asked').textContent"), hostile)
        self.assertIn(hostile, self.page.run("document.querySelector('#verdict').textContent"))
        self.page.intercept = lambda url: (400, {"Content-Type": "application/json"}, json.dumps({"error": {"message": hostile}}).encode())
        self.ask("again")
        self.assertIn(hostile, self.page.run("document.querySelector('.wrong').textContent"))
        self.assertEqual(self.page.run("document.querySelectorAll('#log img, #log script, #log b, .route img, .route script, .route b').length"), 0)
        self.assertIsNone(self.page.run("window.hacked ?? null"))
        # The policy holds where the page's own care would not: markup out of text is forbidden, as is a script in the page.
        self.assertEqual(self.page.run("(() => { try { document.body.insertAdjacentHTML('beforeend', '<i></i>'); return 'made'; } catch (e) { return e.name; } })()"), "TypeError")
        self.page.console.clear()  # of which the browser tells

    def test_refusals_are_told_and_the_question_is_kept(self):
        self.page.run("document.querySelector('#model').value = 'nobody'")
        self.ask("hello there")
        self.assertIn("nobody", self.page.run("document.querySelector('.wrong').textContent"))
        self.assertEqual(self.page.run("document.querySelector('#question').value"), "hello there")
        self.page.console[:] = [line for line in self.page.console if "404" not in line]  # the browser logs the status

    def test_a_stream_can_be_stopped(self):
        self.page.run("document.querySelector('#tokens').value = 4000")
        self.page.run("document.querySelector('#question').focus()")
        self.page.type("boat salt wave")
        self.page.press("Enter")
        self.page.wait_for(f"({LAST_TEXT} ?? '').length > 5")
        self.page.click("#stop")
        self.page.wait_for(IDLE)
        self.assertIn("Stopped.", self.page.run("document.querySelector('.answer').textContent"))
        deadline = time.monotonic() + 30
        while self.gateway.metric("coterie_requests_running") > 0:
            self.assertLess(time.monotonic(), deadline, "the gateway goes on for nobody")
            time.sleep(0.05)

    def test_the_route_is_shown_while_typing(self):
        self.page.run("document.querySelector('#question').focus()")
        self.page.type("fish boat salt")
        self.page.wait_for("document.querySelector('#verdict .name')?.textContent === 'sea' && document.querySelector('#map .here') !== null")
        self.assertEqual(self.page.run("document.querySelectorAll('.answer').length"), 0)

    def test_workers_are_shown_as_they_are(self):
        served = ServedGateway(BIN, gateway_flags=["--catalogue-poll=50ms"])
        self.addCleanup(served.stop)
        publish(served)
        self.open(served.url)
        self.page.wait_for("document.querySelector('#workers .health')?.textContent === 'ready'")
        self.ask("judge law court")
        expert = self.page.run("document.querySelector('.answer .who .name').textContent")
        self.page.wait_for(f"document.querySelector('#workers .chips .name')?.textContent === '{expert}'")
        served.children[0].child.kill()
        self.page.wait_for("document.querySelector('#workers .health')?.textContent !== 'ready' && document.querySelector('#summary').textContent.includes('0 of 1')")

    def test_a_gateway_that_wants_a_key_is_given_one(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder) / "keys.json"
            made = subprocess.run([BIN / "coterie", "keys", "add", "ann", "--file", keys], check=True, capture_output=True, text=True).stdout
            secret = next(word for word in made.split() if len(word) > 30)
            served = ServedGateway(BIN, gateway_flags=[f"--keys={keys}"])
            self.addCleanup(served.stop)
            self.page.goto(served.url + "/")
            self.page.wait_for("document.querySelector('#key-dialog').open")
            self.page.type("wrong" * 10)
            self.page.press("Enter")
            self.page.wait_for("document.querySelector('#key-dialog').open && document.querySelector('#key-error').textContent !== ''")
            self.page.type(secret)
            self.page.press("Enter")
            self.page.wait_for("document.querySelector('#workers .health') !== null")
            self.assertEqual(self.page.run("[sessionStorage.length, localStorage.length, document.cookie, location.href]"), [1, 0, "", served.url + "/"])
            self.page.run("document.querySelector('#model').value = 'base'")
            self.ask("hello")
            self.assertTrue(self.page.run(LAST_TEXT))
            self.page.console[:] = [line for line in self.page.console if "401" not in line]


if __name__ == "__main__":
    unittest.main(verbosity=2)
