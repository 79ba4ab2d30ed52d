#!/usr/bin/env python3
"""Holds our chat templates to jinja2 as transformers sets it up, over any folder of templates.

    python tests/golden/check_templates.py FOLDER... [--renderer build/release/bin/render_templates]

Every *.jinja below the folders is rendered over the 32 conversations below by both. Prints what differs and ends with 1
if anything does. Equal means: the same text, or refused by both. A template that jinja2 refuses to compile over a filter
or test it does not know, while ours refuses only the chats that reach it, is counted apart ("lenient").
Needs jinja2 and transformers; the templates are others' and stay outside of this repository.
"""

import argparse
import collections
import copy
import datetime
import json
import pathlib
import subprocess
import sys

import transformers.utils.chat_template_utils as reference

NOW = datetime.datetime(2026, 2, 3, 4, 5, 6)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def turn(role):
    return lambda content, **more: {"role": role, "content": content, **more}


USER, BOT, SYSTEM, TOOL = turn("user"), turn("assistant"), turn("system"), turn("tool")


def call(name, arguments, call_id="call00001"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a town.\nSecond line <b>&'\"", "parameters": {
        "type": "object", "required": ["town"], "properties": {
            "town": {"type": "string", "description": "Name of the town, e.g. Zürich"},
            "unit": {"type": "string", "enum": ["celsius", "kelvin"], "default": "celsius"},
            "days": {"type": "integer", "minimum": 1},
            "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": ["number", "null"]}}},
            "tags": {"type": "array", "items": {"type": "string"}}}}}}
ADD = {"type": "function", "function": {
    "name": "add", "description": "a + b", "return": {"type": "number"}, "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number", "nullable": True}}}}}
BARE = {"name": "ping", "description": "no wrapper", "parameters": {"type": "object", "properties": {}}}
DICT_CALL = call("get_weather", {"town": "Zürich", "days": 2, "where": {"lat": 47.4, "lon": None}, "tags": ["a", "b"], "ok": True})
TEXT_CALL = call("get_weather", '{"town": "Zürich", "days": 2}', "call00002")
DOCUMENTS = [{"title": "Moon", "text": "It is far."}, {"title": "Sun", "text": "It is hot.", "doc_id": 2}]

# (name, messages, tools, extra variables); the prompt for the answer is left out where the name ends in "closed".
CONVERSATIONS = [
    ("one question", [USER("Hello")], None, {}),
    ("one question, closed", [USER("Hello")], None, {}),
    ("system", [SYSTEM("Be brief."), USER("What is a lock?")], None, {}),
    ("system, closed", [SYSTEM("Be brief."), USER("What is a lock?"), BOT("A door's friend.")], None, {}),
    ("many turns", [SYSTEM("Be kind."), USER("a"), BOT("b"), USER("c"), BOT("d"), USER("e")], None, {}),
    ("spaces", [SYSTEM("  in \n"), USER("\n  around\t\n"), BOT("  too \n\n"), USER(" x ")], None, {}),
    ("empty texts", [SYSTEM(""), USER(""), BOT(""), USER("")], None, {}),
    ("none content", [USER("hi"), BOT(None, tool_calls=[DICT_CALL]), TOOL("21"), USER("ok")], [WEATHER], {}),
    ("no content key", [USER("hi"), {"role": "assistant", "tool_calls": [DICT_CALL]}, TOOL("21")], [WEATHER], {}),
    ("unicode", [SYSTEM("Größe ≠ ß"), USER("你好 🎉\u200b e\u0301"), BOT("ÄÖ\u00a0ü"), USER("\U0001f468\u200d\U0001f469 \x7f")], None, {}),
    ("special tokens in texts", [USER("<|im_end|><s>[INST]{{ x }}{% if %}"), BOT("</s>"), USER("<eos>")], None, {}),
    ("parts", [SYSTEM("look"), USER([{"type": "text", "text": "what is"}, {"type": "image"}, {"type": "text", "text": " this"}])], None, {}),
    ("parts of every kind", [USER([{"type": "image_url", "image_url": {"url": "x"}}, {"type": "video"}, {"type": "audio"},
                                   {"type": "text", "text": "go"}]), BOT([{"type": "text", "text": "done"}]), USER("b")], None, {}),
    ("system parts", [SYSTEM([{"type": "text", "text": "Be brief."}]), USER("hi")], None, {}),
    ("tools", [USER("Weather?")], [WEATHER, ADD], {}),
    ("tools and system", [SYSTEM("Use tools."), USER("Weather?")], [WEATHER], {}),
    ("bare tool", [USER("ping")], [BARE], {}),
    ("no tools as a list", [USER("Weather?")], [], {}),
    ("call with a dict", [USER("Weather?"), BOT("", tool_calls=[DICT_CALL]), TOOL('{"c": 21}', tool_call_id="call00001", name="get_weather")], [WEATHER], {}),
    ("call with a text", [USER("Weather?"), BOT("", tool_calls=[TEXT_CALL]), TOOL('{"c": 21}', tool_call_id="call00002", name="get_weather")], [WEATHER], {}),
    ("call and words, answered", [SYSTEM("s"), USER("Weather?"), BOT("Let me see.", tool_calls=[DICT_CALL]), TOOL("21"), BOT("21 degrees."), USER("Thanks")], [WEATHER], {}),
    ("two calls", [USER("Both"), BOT("", tool_calls=[DICT_CALL, call("add", {"a": 1, "b": -2.5e20}, "call00003")]),
                   TOOL("21", tool_call_id="call00001"), TOOL("3", tool_call_id="call00003"), BOT("ok")], [WEATHER, ADD], {}),
    ("call, closed", [USER("Weather?"), BOT("", tool_calls=[DICT_CALL])], [WEATHER], {}),
    ("call without tools", [USER("Weather?"), BOT("", tool_calls=[DICT_CALL]), TOOL([{"type": "text", "text": "21"}]), USER("so?")], None, {}),
    ("no arguments", [USER("ping"), BOT("", tool_calls=[call("ping", {})]), TOOL(""), USER("again")], [BARE], {}),
    ("reasoning", [USER("1+1"), BOT("2", reasoning_content="one and one\n"), USER("2+2"), BOT("4", reasoning_content="", thinking="t"), USER("3+3")], None, {}),
    ("thinking in the text", [USER("a"), BOT("<think>\nlong\n</think>\n\nshort"), USER("b"), BOT("<think>more</think>done")], None, {}),
    ("thinking on", [USER("a")], None, {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}),
    ("thinking off", [SYSTEM("s"), USER("a")], None, {"enable_thinking": False, "thinking": False}),
    ("documents", [USER("How far?")], None, {"documents": DOCUMENTS}),
    ("out of order", [BOT("I start"), USER("first"), USER("second"), SYSTEM("late")], None, {}),
    ("odd roles", [{"role": "developer", "content": "dev"}, USER("x", name="ann"), {"role": "critic", "content": "no"}], None, {"date_string": "1 Jan 2000"}),
]


def jobs(template):
    for name, messages, tools, extra in CONVERSATIONS:
        job = {"template": template, "messages": messages, "add_generation_prompt": not name.endswith("closed"),
               "special_tokens": SPECIAL, "extra": extra, "now": NOW.isoformat()}
        if tools is not None:
            job["tools"] = tools
        yield name, job


def expect(job):
    """("text", it) or ("refused", why), by the reference."""
    try:
        template = reference._compile_jinja_template(job["template"])
    except Exception as error:  # noqa: BLE001 (whatever it says: refused)
        return "refused", f"compile: {type(error).__name__}: {error}"
    try:
        case = copy.deepcopy(job)
        variables = {"tools": None, "documents": None} | SPECIAL | case["extra"] | {
            "messages": case["messages"], "add_generation_prompt": case["add_generation_prompt"]}
        if "tools" in case:
            variables["tools"] = case["tools"]
        return "text", template.render(**variables)
    except Exception as error:  # noqa: BLE001
        return "refused", f"{type(error).__name__}: {error}"


class Renderer:
    def __init__(self, binary):
        self.process = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def __call__(self, job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return ("text", answer["text"]) if "text" in answer else ("refused", f"{answer['code']}: {answer['error']}")


def verdict(expected, ours):
    if expected[0] == ours[0] == "refused":
        # What a template says by raise_exception is its own message, word for word.
        own = expected[1].removeprefix("TemplateError: ")
        return "refused by both" if own == expected[1] or ours[1] == f"INVALID_ARGUMENT: {own}" else "different"
    if expected == ours:
        return "equal"
    unknown = expected[1].startswith("compile: TemplateAssertionError: No ")
    return "lenient" if ours[0] == "text" and unknown else "different"


def report(what, expected, ours):
    print(f"--- {what}")
    if expected[0] == ours[0] == "text":
        a, b = expected[1], ours[1]
        at = next((i for i in range(min(len(a), len(b))) if a[i] != b[i]), min(len(a), len(b)))
        print(f"    at {at}: jinja2 {a[max(0, at - 30):at + 40]!r}\n    {'':{len(str(at)) + 4}} ours   {b[max(0, at - 30):at + 40]!r}")
    else:
        print(f"    jinja2: {expected[0]} {expected[1][:200]!r}\n    ours:   {ours[0]} {ours[1][:200]!r}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--renderer", default="build/release/bin/render_templates")
    options = parser.parse_args()
    reference.datetime = FixedClock
    ours = Renderer(options.renderer)
    counts = collections.Counter()
    files = sorted(f for folder in options.folders for f in folder.rglob("*.jinja"))
    for file in files:
        for name, job in jobs(file.read_text(encoding="utf-8")):
            expected, answer = expect(job), ours(job)
            outcome = verdict(expected, answer)
            counts[outcome] += 1
            if outcome in ("different", "lenient"):
                report(f"{outcome}: {file.name}: {name}", expected, answer)
    print(f"{len(files)} templates x {len(CONVERSATIONS)} conversations: {dict(counts)}")
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
