#!/usr/bin/env python3
"""Random templates, rendered by jinja2 as transformers sets it up and by ours.

    python tests/golden/fuzz_templates.py --seed 1 --count 20000 [--renderer build/release/bin/render_templates]
    python tests/golden/fuzz_templates.py --write      # makes jinja_fuzz.json anew, which JinjaGoldenTest reads

Prints every template over which the two differ, cut down to its shortest form, and ends with 1 if there is one. What is
left out, since the two cannot or need not agree, is in `exempt` below and nowhere else.
"""

import argparse
import copy
import json
import pathlib
import random
import re
import sys

import check_templates
from make_jinja import VARIABLES as BASE

VARIABLES = BASE | {
    "html": "<b>&'\"</b>",
    "floats": [1.0, 2.5, -0.5, 1e16, 1e-5, 0.1, 123456.789, 3.0],
    "ints": [0, 1, -1, 7, 10, 255, -12345, 2**40],
    "strs": ["", " ", "a", "B", "ab c", "x,y,,z", "Ünï 中", "%s-%d", "{}:{x}", "a\tb\nc", "ÀÉ", "12", " 3.5 ", "0x1f", "1_0", "ß", "ǅ"],
    "falsy": [None, "", 0, 0.0, False, [], {}],
    "bools": [True, False, True],
    "deep": {"a": {"b": {"c": [1, {"d": "x"}]}}, "keys": "own", "n": None},
    "same": [1, True, 1.0, "1"],
    "pairs": [["a", 1], ["b", 2]],
}

NAMES = list(VARIABLES) + ["nope", "loop", "x", "y", "ns"]
STRINGS = ["''", "'a'", "'b'", "','", "' '", "'abc'", "'A b'", "'ß'", "'%s'", "'%d|%5.2f|%x'", "'{}'", "'{0:>5}{x}'", "'<i>'",
           "'a.b'", "'name'", "'n'", "'x\\n y\\n'", "'12'", "'3.5'", "'tags.0'", "'age'"]
NUMBERS = ["0", "1", "2", "-1", "3", "10", "2.5", "-0.5", "1e3", "100", "7", "0.1"]
FILTERS = ["abs", "attr", "batch", "capitalize", "center", "count", "d", "default", "dictsort", "e", "escape", "filesizeformat",
           "first", "float", "forceescape", "format", "groupby", "indent", "int", "items", "join", "last", "length", "list",
           "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select",
           "selectattr", "slice", "sort", "string", "striptags", "sum", "title", "tojson", "trim", "truncate", "unique",
           "upper", "urlencode", "wordcount", "xmlattr"]
FILTER_WORDS = {"attribute": 3, "default": 2, "case_sensitive": 1, "reverse": 1, "boolean": 1, "d": 1, "by": 1, "start": 1,
                "indent": 1, "sort_keys": 1, "ensure_ascii": 1, "first": 1, "width": 1, "fill_with": 1, "method": 1,
                "precision": 1, "base": 1, "length": 1, "killwords": 1, "end": 1, "chars": 1, "blank": 1, "separators": 1}
TESTS = ["defined", "undefined", "none", "string", "mapping", "sequence", "iterable", "number", "integer", "float", "boolean",
         "true", "false", "callable", "odd", "even", "upper", "lower", "escaped", "filter", "test"]
TESTS_OF_ONE = ["divisibleby", "eq", "equalto", "==", "ne", "lt", "le", "gt", "ge", "in", "sameas", "lessthan", "greaterthan"]
METHODS = ["strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition", "startswith", "endswith",
           "find", "rfind", "index", "rindex", "count", "replace", "join", "upper", "lower", "capitalize", "title",
           "removeprefix", "removesuffix", "isspace", "isalpha", "isdigit", "isdecimal", "isnumeric", "isalnum", "isupper",
           "islower", "ljust", "rjust", "format", "center", "zfill", "expandtabs", "swapcase", "casefold", "isascii",
           "isprintable", "isidentifier", "istitle", "items", "keys", "values", "get", "copy", "append", "pop", "update",
           "format_map"]
ATTRIBUTES = ["name", "age", "tags", "a", "b", "c", "items", "keys", "nope", "grouper", "list", "index", "0", "1"]


class Maker:
    def __init__(self, rng):
        self.rng = rng
        self.depth = 0

    def pick(self, choices):
        return self.rng.choice(choices)

    def args(self, words=False, most=2):
        parts = [self.expr() for _ in range(self.rng.choice([0, 1, 1, most]))]
        if words and self.rng.random() < 0.35:
            name = self.rng.choices(list(FILTER_WORDS), FILTER_WORDS.values())[0]
            parts.append(f"{name}={self.expr()}")
        if self.rng.random() < 0.03:
            parts.append("*" + self.expr())
        return "(" + ", ".join(parts) + ")"

    def atom(self):
        kind = self.rng.random()
        if kind < 0.5:
            return self.pick(NAMES)
        if kind < 0.68:
            return self.pick(STRINGS)
        if kind < 0.86:
            return self.pick(NUMBERS)
        return self.pick(["true", "false", "none", "[]", "{}", "()", "[1, 'a', none]", "{'a': 1, 'b': [2]}", "(1, 2)", "range(3)",
                          "range(1, 8, 3)", "dict(a=1)"])

    def expr(self):
        if self.depth > 3:
            return self.atom()
        self.depth += 1
        try:
            return self.pick([self.atom, self.atom, self.filter, self.filter, self.method, self.test, self.binary, self.subscript,
                              self.unary, self.compare, self.conditional, self.literal, self.element])()
        finally:
            self.depth -= 1

    def filter(self):
        name = self.pick(FILTERS)
        if name in ("map", "select", "reject") and self.rng.random() < 0.7:
            inner = self.pick(FILTERS if name == "map" else TESTS + TESTS_OF_ONE)
            rest = f", {self.atom()}" if inner in TESTS_OF_ONE or self.rng.random() < 0.2 else ""
            call = f"('{inner}'{rest})"
            if name == "map" and self.rng.random() < 0.3:
                call = f"(attribute={self.pick(STRINGS)})"
        elif name in ("selectattr", "rejectattr") and self.rng.random() < 0.8:
            test = self.pick(TESTS + TESTS_OF_ONE)
            rest = f", {self.atom()}" if test in TESTS_OF_ONE else ""
            call = f"('{self.pick(ATTRIBUTES)}', '{test}'{rest})"
        else:
            call = self.args(words=True) if self.rng.random() < 0.5 else ""
        tail = self.pick(["", "", "|list", "|list|string", "|first", "|length"]) if name in (
            "map", "select", "reject", "selectattr", "rejectattr", "unique", "batch", "slice", "items", "reverse") else ""
        return f"{self.operand()}|{name}{call}{tail}"

    def operand(self):
        inner = self.expr()
        return inner if re.fullmatch(r"[\w.]+|'[^']*'|\[[^\[\]]*\]", inner) else f"({inner})"

    def method(self):
        return f"{self.operand()}.{self.pick(METHODS)}{self.args()}"

    def test(self):
        negated = self.pick(["", "", "not "])
        if self.rng.random() < 0.6:
            return f"{self.operand()} is {negated}{self.pick(TESTS)}"
        return f"{self.operand()} is {negated}{self.pick([t for t in TESTS_OF_ONE if t.isalpha()])}({self.expr()})"

    def binary(self):
        return f"{self.operand()} {self.pick(['+', '+', '-', '*', '/', '//', '%', '%', '~', '~', 'and', 'or', '**'])} {self.operand()}"

    def compare(self):
        return f"{self.operand()} {self.pick(['==', '!=', '<', '<=', '>', '>=', 'in', 'not in'])} {self.operand()}"

    def unary(self):
        return f"{self.pick(['not ', '-', '+'])}{self.operand()}"

    def conditional(self):
        otherwise = f" else {self.operand()}" if self.rng.random() < 0.8 else ""
        return f"{self.operand()} if {self.operand()}{otherwise}"

    def subscript(self):
        bound = lambda: self.pick(["", "", "1", "-1", "2", "-2", "0", "5"])  # noqa: E731
        index = f"{bound()}:{bound()}" + self.pick(["", ":" + bound()]) if self.rng.random() < 0.4 else self.atom()
        return f"{self.operand()}[{index}]"

    def element(self):
        return f"{self.operand()}.{self.pick(ATTRIBUTES)}"

    def literal(self):
        items = [self.expr() for _ in range(self.rng.randrange(4))]
        if self.rng.random() < 0.5:
            return "[" + ", ".join(items) + "]"
        return "{" + ", ".join(f"{self.pick(STRINGS)}: {i}" for i in items) + "}"

    def sign(self):
        return self.pick(["", "", "", "-", "+"])

    def tag(self, inside):
        return "{%" + self.sign() + " " + inside + " " + self.pick(["", "", "-"]) + "%}"

    def text(self):
        return self.pick(["a", " ", "\n", "  \n  ", "x\n\n", "\t", "<b>", "", "{", "}", "é\n "])

    def body(self):
        return "".join(self.pick([self.text, self.output, self.output, self.statement])() for _ in range(self.rng.randrange(1, 4)))

    def output(self):
        return "{{" + self.pick(["", "", "-", "+"]) + " " + self.expr() + " " + self.pick(["", "", "-"]) + "}}"

    def statement(self):
        if self.depth > 2:
            return self.output()
        self.depth += 1
        try:
            return self.pick([self.if_, self.if_, self.for_, self.for_, self.set_, self.set_, self.macro, self.block, self.comment])()
        finally:
            self.depth -= 1

    def if_(self):
        middle = self.pick(["", self.tag("else") + self.body(), self.tag("elif " + self.expr()) + self.body()])
        return self.tag("if " + self.expr()) + self.body() + middle + self.tag("endif")

    def for_(self):
        target = self.pick(["x", "x", "x, y", "x"])
        condition = self.pick(["", "", " if " + self.expr(), " recursive"])
        inner = self.pick(["", "{{ loop.index }}", "{{ loop.last }}", self.tag("break"), self.tag("if x") + self.tag("continue") + self.tag("endif"),
                           "{{ loop.previtem }}", "{{ loop.cycle('o', 'e') }}", "{{ loop.changed(x) }}", "{{ loop.length }}{{ loop.revindex }}"])
        return (self.tag(f"for {target} in {self.expr()}{condition}") + self.body() + inner +
                self.pick(["", self.tag("else") + self.body()]) + self.tag("endfor"))

    def set_(self):
        return self.pick([lambda: self.tag(f"set {self.pick(['x', 'y', 'n'])} = {self.expr()}"),
                          lambda: self.tag("set x, y = " + self.pick(["1, 2", "'ab'", "list[:2]", self.expr()])),
                          lambda: self.tag("set ns = namespace(a=1)") + self.tag("set ns.a = " + self.expr()) + "{{ ns.a }}",
                          lambda: self.tag("set x" + self.pick(["", " | upper", " | trim"])) + self.body() + self.tag("endset")])()

    def macro(self):
        return (self.tag("macro m(a, b=" + self.expr() + ")") + self.body() + self.pick(["{{ a }}{{ b }}", "{{ caller() if caller }}", "{{ varargs }}{{ kwargs }}"]) +
                self.tag("endmacro") + self.pick(["{{ m" + self.args() + " }}", self.tag("call m(1)") + self.body() + self.tag("endcall"),
                                                  "{{ m(a=" + self.expr() + ") }}"]))

    def block(self):
        return self.pick([lambda: self.tag("with x = " + self.expr()) + self.body() + self.tag("endwith"),
                          lambda: self.tag("filter " + self.pick(["upper", "trim", "indent", "replace('a', 'o')"])) + self.body() + self.tag("endfilter"),
                          lambda: self.tag("generation") + self.body() + self.tag("endgeneration"),
                          lambda: self.tag("raw") + "{{ x }}\n" + self.tag("endraw")])()

    def comment(self):
        return "{#" + self.sign() + " c " + self.pick(["", "-"]) + "#}"


def make(rng):
    """A template; mostly one that jinja2 renders, since a refusal hides what stands behind it."""
    for _ in range(6 if rng.random() < 0.85 else 1):
        maker = Maker(rng)
        template = "{{ " + maker.expr() + " }}" if rng.random() < 0.6 else maker.body()
        if check_templates.expect(job_of(template))[0] == "text":
            break
    return template


def job_of(template):
    return {"template": template, "extra": VARIABLES, "messages": [], "now": check_templates.NOW.isoformat(),
            "special_tokens": {}, "add_generation_prompt": True}


def exempt(expected, ours, template):
    """Why the two need not agree over this template; None: they must."""
    if ours[0] == "refused" and "64 bits" in ours[1]:
        return "integers here have 64 bits"
    if ours[0] == "refused" and ours[1].startswith("RESOURCE_EXHAUSTED"):
        return "limits of time and memory"
    if expected[0] == "text" and re.search(r"\bat 0x[0-9a-f]{2}", expected[1], re.IGNORECASE):
        return "Python prints an address"
    if expected[0] == "text" and re.search(r"\d{19,}", expected[1]):
        return "integers here have 64 bits"
    if ours[0] == "refused" and "has no slices" in ours[1]:
        return "jinja2 makes a slice of a constant that has none undefined, and refuses one of a variable"
    if "sameas" in template:
        return "identity of equal values is the interpreter's affair"
    return None


def compare(template, renderer):
    job = job_of(template)
    expected, ours = check_templates.expect(job), renderer(job)
    same = expected == ours or expected[0] == ours[0] == "refused"
    return same or exempt(expected, ours, template) is not None, expected, ours


def golden(count, renderer):
    """Cases for JinjaGoldenTest; those that are exempt, and no others, are left out."""
    rng = random.Random(20260203)
    cases = []
    while len(cases) < count:
        template = make(rng)
        kind, text = check_templates.expect(job_of(template))
        # Refusals teach less than answers: keep one in four.
        if len(template) > 200 or (kind == "refused" and rng.random() > 0.25):
            continue
        if exempt((kind, text), renderer(job_of(template)), template):
            continue
        if kind == "text" and len(text) > 400:
            continue
        cases.append({"template": template, "expected": text} if kind == "text" else {"template": template, "error": text[:80]})
    return {"variables": VARIABLES, "cases": cases}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--renderer", default="build/release/bin/render_templates")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    check_templates.reference.datetime = check_templates.FixedClock
    check_templates.reference._compile_jinja_template = check_templates.reference._cached_compile_jinja_template
    if options.write:
        path = pathlib.Path(__file__).with_name("jinja_fuzz.json")
        out = golden(1500, check_templates.Renderer(options.renderer))
        lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in out["cases"])
        path.write_text('{"variables": ' + json.dumps(out["variables"], ensure_ascii=False) + ',\n"cases": [\n' + lines + "\n]}\n", encoding="utf-8")
        return 0
    renderer = check_templates.Renderer(options.renderer)
    rng = random.Random(options.seed)
    n_different = n_text = 0
    for _ in range(options.count):
        template = make(rng)
        same, expected, ours = compare(template, renderer)
        n_text += expected[0] == "text"
        if not same:
            n_different += 1
            check_templates.report(f"different: {template!r}", expected, ours)
    print(f"{options.count} templates, {n_text} of them rendered by jinja2, {n_different} different")
    return 1 if n_different else 0


if __name__ == "__main__":
    sys.exit(main())
