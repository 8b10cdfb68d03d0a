"""Reads Bicep: what of the language the deployment uses, and nothing else. What is not understood is an error.

The compiler cannot be installed by package name, so this takes its place as far as it goes: `evaluate.py` computes the
resources that a deployment would ask for, and the tests look at those.

An expression is a tuple: its kind, the offset it is at, and its parts.
"""

import re
from dataclasses import dataclass, field


class BicepError(Exception):
    """Something that the compiler would refuse, or that is not understood here."""


@dataclass
class Declaration:
    """A parameter, variable, type, resource, module or output."""

    kind: str
    name: str
    at: int
    value: tuple | list | None = None  # an expression; of an import, names
    type: tuple | None = None
    decorators: dict = field(default_factory=dict)
    target: str = ""  # resource: TYPE@VERSION, module and import: path
    existing: bool = False


# Of each level, loosest first; all are left-associative.
OPERATORS = [["??"], ["||"], ["&&"], ["==", "!=", "=~", "!~"], ["<=", ">=", "<", ">"], ["+", "-"], ["*", "/", "%"]]
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", "$": "$"}
NAME = re.compile(r"[A-Za-z_]\w*")
LAMBDA = re.compile(r"(?:([A-Za-z_]\w*)|\(\s*([A-Za-z_]\w*(?:\s*,\s*[A-Za-z_]\w*)*)?\s*\))\s*=>")
SPACE = re.compile(r"(?:[ \t]|//[^\n]*|/\*.*?\*/)*", re.S)
LINES = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.S)


class Parser:
    """One file."""

    def __init__(self, path, text):
        self.path, self.text, self.at = path, text, 0

    def fail(self, what, at=None):
        """Refuses the file, with the line."""
        line = self.text.count("\n", 0, self.at if at is None else at) + 1
        raise BicepError(f"{self.path}:{line}: {what}")

    # ---- characters

    def space(self):
        self.at = SPACE.match(self.text, self.at).end()

    def lines(self):
        self.at = LINES.match(self.text, self.at).end()

    def sees(self, token):
        return self.text.startswith(token, self.at)

    def takes(self, token):
        """Takes a token if it is next, after spaces."""
        self.space()
        word = token[0].isalpha()
        if not self.sees(token) or (word and re.match(r"\w", self.text[self.at + len(token):][:1])):
            return False
        self.at += len(token)
        return True

    def need(self, token):
        if not self.takes(token):
            self.fail(f"`{token}` is missing before `{self.text[self.at:self.at + 20]!r}`")

    def name(self):
        self.space()
        found = NAME.match(self.text, self.at)
        if not found:
            self.fail(f"a name is missing before {self.text[self.at:self.at + 20]!r}")
        self.at = found.end()
        return found.group()

    def plain(self):
        """A string without interpolation."""
        self.space()
        kind, at, value = self.string()
        if kind != "literal":
            self.fail("a plain string is needed", at)
        return value

    # ---- declarations

    def file(self):
        """Every declaration; a parameter file's `using`, too."""
        found = []
        while True:
            self.lines()
            if self.at == len(self.text):
                return found
            found.append(self.declaration())
            self.space()
            if self.at < len(self.text) and not self.sees("\n"):
                self.fail("a declaration ends with its line")

    def declaration(self):
        decorators = self.decorators()
        self.space()
        at, kind = self.at, self.name()
        if kind == "targetScope":
            self.need("=")
            return Declaration(kind, kind, at, self.expression())
        if kind == "using":
            return Declaration(kind, kind, at, target=self.plain())
        if kind == "import":
            self.need("{")
            names = [self.name()]
            while self.takes(","):
                names.append(self.name())
            self.need("}")
            self.need("from")
            return Declaration(kind, "", at, target=self.plain(), value=names)
        if kind not in ("param", "var", "type", "resource", "module", "output"):
            self.fail(f"`{kind}` begins no declaration", at)
        made = Declaration(kind, self.name(), at, decorators=decorators)
        if kind in ("resource", "module"):
            made.target = self.plain()
            made.existing = self.takes("existing")
            self.need("=")
            self.space()
            made.value = self.body()
        elif kind == "type":
            self.need("=")
            made.type = self.type()
        else:
            self.space()
            if kind == "output" or (kind == "param" and not self.sees("=")):
                made.type = self.type()
            if self.takes("="):
                self.lines()
                made.value = self.expression()
            elif kind != "param":
                self.fail("a value is missing")
        return made

    def decorators(self):
        found = {}
        while self.takes("@"):
            kind, at, *rest = self.postfix()
            if kind != "call":
                self.fail("a decorator is a call", at)
            found[rest[0]] = rest[1]
            self.lines()
        return found

    def body(self):
        """Of a resource or module: an object, under a condition, in a loop."""
        at = self.at
        if self.takes("if"):
            self.need("(")
            condition = self.expression()
            self.need(")")
            self.space()
            return ("if", at, condition, self.expression())
        return self.expression()

    # ---- types

    def type(self):
        self.lines()
        self.takes("|")
        at, options = self.at, [self.type_item()]
        while self.takes("|"):
            options.append(self.type_item())
        return options[0] if len(options) == 1 else ("union", at, options)

    def type_item(self):
        self.space()
        at = self.at
        if self.sees("'"):
            found = ("exactly", at, self.plain())
        elif self.takes("{"):
            members = {}
            self.lines()
            while not self.takes("}"):
                decorators = self.decorators()
                key = self.name()
                self.need(":")
                members[key] = ("bounded", at, self.type(), decorators)
                self.lines()
            found = ("members", at, members)
        else:
            found = ("named", at, self.name())
        while self.takes("[]"):
            found = ("list", at, found)
        return ("optional", at, found) if self.takes("?") else found

    # ---- expressions

    def expression(self):
        at, value = self.at, self.binary(0)
        self.space()
        if self.sees("?") and not self.sees("??"):
            self.need("?")
            self.lines()
            yes = self.expression()
            self.lines()
            self.need(":")
            self.lines()
            return ("choice", at, value, yes, self.expression())
        return value

    def binary(self, level):
        if level == len(OPERATORS):
            return self.unary()
        at, left = self.at, self.binary(level + 1)
        while True:
            operator = next((it for it in OPERATORS[level] if self.takes(it)), None)
            if operator is None:
                return left
            self.lines()
            left = ("binary", at, operator, left, self.binary(level + 1))

    def unary(self):
        self.space()
        at = self.at
        for operator in "!-":
            if self.takes(operator):
                return ("unary", at, operator, self.unary())
        return self.postfix()

    def postfix(self):
        value = self.primary()
        while True:
            at = self.at
            if self.sees("["):
                self.at += 1
                index = self.expression()
                self.need("]")
                value = ("index", at, value, index)
            elif self.sees("."):
                self.at += 1
                member = self.name()
                if self.sees("("):
                    value = ("method", at, value, member, self.arguments())
                else:
                    value = ("member", at, value, member)
            else:
                return value

    def primary(self):
        self.space()
        at = self.at
        found = LAMBDA.match(self.text, at)
        if found:
            self.at = found.end()
            names = [found[1]] if found[1] else [it.strip() for it in (found[2] or "").split(",")]
            self.space()
            return ("lambda", at, names, self.expression())
        if self.sees("'"):
            return self.string()
        if self.takes("("):
            self.lines()
            value = self.expression()
            self.lines()
            self.need(")")
            return value
        if self.takes("{"):
            return ("object", at, self.members())
        if self.takes("["):
            return self.list(at)
        number = re.compile(r"\d+").match(self.text, at)
        if number:
            self.at = number.end()
            return ("literal", at, int(number.group()))
        name = self.name()
        if name in ("true", "false", "null"):
            return ("literal", at, {"true": True, "false": False, "null": None}[name])
        return ("call", at, name, self.arguments()) if self.sees("(") else ("name", at, name)

    def arguments(self):
        self.need("(")
        found = []
        self.lines()
        while not self.takes(")"):
            found.append(self.expression())
            self.lines()
            if not self.takes(",") and not self.sees(")"):
                self.fail("`,` or `)` is missing")
            self.lines()
        return found

    def members(self):
        found = []
        self.lines()
        while not self.takes("}"):
            self.space()
            key = self.string() if self.sees("'") else ("literal", self.at, self.name())
            self.need(":")
            self.space()
            found.append((key, self.expression()))
            self.separated("}")
        return found

    def list(self, at):
        self.lines()
        if self.takes("for"):
            if self.takes("("):
                item = self.name()
                self.need(",")
                index = self.name()
                self.need(")")
            else:
                item, index = self.name(), None
            self.need("in")
            over = self.expression()
            self.need(":")
            self.space()
            body = self.body()
            self.lines()
            self.need("]")
            return ("for", at, item, index, over, body)
        found = []
        while not self.takes("]"):
            found.append(self.expression())
            self.separated("]")
        return ("list", at, found)

    def separated(self, end):
        """Items stand on lines of their own, or are separated by commas."""
        before = self.at
        self.space()
        comma = self.takes(",")
        self.lines()
        if not comma and not self.sees(end) and "\n" not in self.text[before:self.at]:
            self.fail(f"`,`, a new line or `{end}` is missing")

    def string(self):
        at, parts, text = self.at, [], ""
        if self.sees("'''"):
            end = self.text.find("'''", at + 3)
            value = self.text[at + 3:end].removeprefix("\n")
            self.at = end + 3
            return ("literal", at, value)
        self.at += 1
        while not self.sees("'"):
            if self.sees("\n") or self.at >= len(self.text):
                self.fail("a string does not end", at)
            if self.sees("\\"):
                escaped = self.text[self.at + 1]
                if escaped not in ESCAPES:
                    self.fail(f"no escape is called `\\{escaped}`")
                text += ESCAPES[escaped]
                self.at += 2
            elif self.sees("${"):
                self.at += 2
                parts += [("literal", at, text), self.expression()]
                text = ""
                self.need("}")
            else:
                text += self.text[self.at]
                self.at += 1
        self.at += 1
        return ("joined", at, parts + [("literal", at, text)]) if parts else ("literal", at, text)
