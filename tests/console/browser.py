"""A real Chromium without a window, driven over its debugging pipe (Chrome DevTools Protocol). Standard library only."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

PROGRAMS = ("chromium-headless-shell", "chromium")
PATIENCE_SECONDS = 180
KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, ""), " ": (32, " ")}


class Browser:
    """One page of it. `console` holds what the page logged or threw, and what its policy forbade."""

    def __init__(self):
        program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
        if program is None:
            raise RuntimeError(f"none of {', '.join(PROGRAMS)} is installed")
        self.profile = tempfile.TemporaryDirectory(prefix="coterie-browser-", ignore_cleanup_errors=True)
        to_browser, self.out = os.pipe()
        self.inbox_fd, from_browser = os.pipe()
        # It wants its pipe as descriptors 3 and 4. The sandbox needs a user that is not root, and the page is our own.
        command = [program, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--no-first-run", f"--user-data-dir={self.profile.name}", "--force-color-profile=srgb", "about:blank"]
        self.log = pathlib.Path(self.profile.name) / "browser.log"
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *command],
                                          pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=log)
        os.close(to_browser)
        os.close(from_browser)
        self.inbox, self.n_calls, self.session = b"", 0, None
        self.console: list[str] = []
        self.answers: dict[int, dict] = {}
        self.intercept = None  # called with each paused request's url; gives (code, headers, body) or None to let it pass
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()
        os.close(self.out)
        os.close(self.inbox_fd)
        self.profile.cleanup()  # as far as no process of it still writes there for a moment

    # --- The protocol ---

    def _send(self, method: str, parameters: dict) -> int:
        self.n_calls += 1
        message = {"id": self.n_calls, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        return self.n_calls

    def _read(self, seconds: float) -> bool:
        """Takes what the browser said meanwhile; False when it was silent for so long."""
        if b"\0" not in self.inbox:
            if not select.select([self.inbox_fd], [], [], seconds)[0]:
                return False
            more = os.read(self.inbox_fd, 1 << 20)
            if not more:
                raise RuntimeError(f"the browser ended: {self.log.read_text()[-2000:]}")
            self.inbox += more
        *whole, self.inbox = self.inbox.split(b"\0")
        for message in map(json.loads, whole):
            if "id" in message:
                self.answers[message["id"]] = message
            else:
                self._note(message["method"], message["params"])
        return True

    def _note(self, event: str, parameters: dict):
        if event == "Runtime.exceptionThrown":
            self.console.append(json.dumps(parameters["exceptionDetails"])[:500])
        elif event == "Log.entryAdded":
            self.console.append(f"{parameters['entry']['level']}: {parameters['entry']['text']}")
        elif event == "Runtime.consoleAPICalled":
            self.console.append(json.dumps(parameters["args"])[:500])
        elif event == "Fetch.requestPaused":
            given = self.intercept(parameters["request"]["url"]) if self.intercept else None
            if given is None:
                self._send("Fetch.continueRequest", {"requestId": parameters["requestId"]})
                return
            code, headers, body = given
            self._send("Fetch.fulfillRequest", {"requestId": parameters["requestId"], "responseCode": code, "body": base64.b64encode(body).decode(),
                                                "responseHeaders": [{"name": n, "value": v} for n, v in headers.items()]})

    def call(self, method: str, **parameters) -> dict:
        number = self._send(method, parameters)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while number not in self.answers:
            if not self._read(max(0.0, deadline - time.monotonic())):
                raise RuntimeError(f"no answer to {method} in {PATIENCE_SECONDS} s")
        answer = self.answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    # --- What a person does ---

    def goto(self, url: str):
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str):
        """The value of a JavaScript expression, awaited."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{script}: {json.dumps(result['exceptionDetails'])[:800]}")
        return result["result"].get("value")

    def wait_for(self, script: str):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise AssertionError(f"did not become true: {script}\npage: {self.run('document.body.innerText')[:2000]}\nconsole: {self.console[-5:]}")
            self._read(0.03)
        return value

    def type(self, text: str):
        self.call("Input.insertText", text=text)

    def press(self, name: str, shift=False):
        code, text = KEYS[name]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, modifiers=8 if shift else 0,
                      **({"text": text} if text and kind == "keyDown" else {}))

    def click(self, selector: str):
        x, y = self.run(f"(() => {{ const b = document.querySelector({json.dumps(selector)}); b.scrollIntoView({{block: 'center'}});"
                        " const r = b.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def look(self, scheme: str, width=1280, height=800, reduced_motion=True):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"}])

    def tree(self) -> list[dict]:
        """What a screen reader is told: role and name of every node that counts."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [{"role": n["role"]["value"], "name": n.get("name", {}).get("value", ""), "node": n.get("backendDOMNodeId")}
                for n in nodes if not n.get("ignored") and "role" in n]

    def screenshot(self, path: pathlib.Path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
