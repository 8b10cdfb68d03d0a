"""Computes what a deployment would ask Azure for: every resource of `main.bicep` and its modules, with its properties.

What only Azure knows (a principal id, an alias) is a `Runtime`: text that stands for it. As with the compiler, no name,
condition or loop may depend on one; within a module it has become a parameter, and may.

Refused, with file and line: unknown names, parameters, members, functions; parameters of a wrong type or out of their
bounds, or without a description; parameters, variables and types that nothing uses.
"""

import base64
import json
import pathlib
import uuid
from dataclasses import dataclass

import yaml
from syntax import Parser

SCOPE = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/"
GROUP = "postern"
LOCATION = "westeurope"
RUNTIME, ESCAPED = "\x01", "\\u0001"
INFERRED = {"string": str, "int": int, "bool": bool, "object": dict, "array": list}


class Runtime(str):
    """What is known once Azure has made the resource."""

    def __new__(cls, of):
        return super().__new__(cls, f"{RUNTIME}{of}")


@dataclass
class Resource:
    """A resource that a deployment asks for, or (`existing`) one that is there."""

    symbol: str
    type: str
    version: str
    name: str
    id: str
    scope: str | None
    body: dict
    existing: bool
    file: str


def is_runtime(value):
    """Whether any of it is known to Azure alone."""
    return ESCAPED in json.dumps(value, default=str)


def settled(value):
    """A value as it is in the module that it is given to."""
    return json.loads(json.dumps(value).replace(ESCAPED, ""))


def guid(*parts):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts)))


def unique(*parts):
    return guid(*parts).replace("-", "")[:13]


def path(type_, *names):
    provider, *kinds = type_.split("/")
    assert len(kinds) == len(names), f"{type_} takes {len(kinds)} names"
    return f"providers/{provider}/" + "/".join(f"{kind}/{name}" for kind, name in zip(kinds, names))


def shown(value):
    """`string()`: text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


FUNCTIONS = {
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "concat": lambda *parts: sum(parts[1:], parts[0]),
    "contains": lambda of, what: what in of,
    "empty": lambda value: not value,
    "filter": lambda values, keep: [it for it in values if keep(it)],
    "flatten": lambda lists: [it for one in lists for it in one],
    "guid": guid,
    "items": lambda value: [{"key": key, "value": value[key]} for key in sorted(value)],
    "join": lambda values, by: by.join(values),
    "map": lambda values, each: [each(value) for value in values],
    "max": max,
    "min": min,
    "range": lambda first, count: list(range(first, first + count)),
    "reduce": lambda values, first, each: fold(values, first, each),
    "replace": lambda text, old, new: text.replace(old, new),
    "resourceId": lambda type_, *names: f"{SCOPE}{GROUP}/{path(type_, *names)}",
    "string": shown,
    "subscriptionResourceId": lambda type_, *names: f"{SCOPE.split('/resourceGroups')[0]}/{path(type_, *names)}",
    "uniqueString": unique,
    "toObject": lambda values, key, of: {key(it): of(it) for it in values},
    "toUpper": str.upper,
    "tenant": lambda: {"tenantId": "11111111-1111-1111-1111-111111111111"},
    "environment": lambda: {"suffixes": {"keyvaultDns": ".vault.azure.net"}},
    "resourceGroup": lambda name=GROUP: {"id": SCOPE + name, "name": name, "location": LOCATION},
}
IN_FILES = {"loadTextContent": str, "loadYamlContent": yaml.safe_load}
DECORATORS = {"description", "export", "allowed", "minValue", "maxValue", "minLength", "maxLength"}


def fold(values, first, each):
    for value in values:
        first = each(first, value)
    return first


class Template:
    """One file with its parameters given."""

    # Which way each condition has gone, in any evaluation: file, offset, outcome.
    taken = set()

    def __init__(self, file, given, scope=None):
        self.file = pathlib.Path(file)
        self.scope = scope or SCOPE + GROUP
        self.parser = Parser(self.file, self.file.read_text())
        self.declared, self.outputs, self.used = {}, {}, set()
        for it in self.imported(self.parser.file()):
            space = self.outputs if it.kind == "output" else self.declared
            if it.name in space:
                self.fail(f"`{it.name}` is declared twice", it.at)
            space[it.name] = it
        self.values, self.resources = {}, []
        self.check_names()
        self.take(given)
        for it in self.declared.values():
            if it.kind in ("resource", "module"):
                self.value(it.name)
        self.results = {name: self.result(it) for name, it in self.outputs.items()}

    def imported(self, declarations):
        """Puts in place of each import the types that it names, with those they refer to."""
        for it in declarations:
            if it.kind != "import":
                yield it
                continue
            other = self.file.parent / it.target
            types = {found.name: found for found in Parser(other, other.read_text()).file()}
            for name in it.value:
                if name not in types or "export" not in types[name].decorators:
                    self.fail(f"{it.target} exports no `{name}`", it.at)
            self.used |= set(types) - set(it.value)
            yield from types.values()

    def fail(self, what, at):
        self.parser.fail(what, at)

    # ---- before anything is computed

    def check_names(self):
        for it in [*self.declared.values(), *self.outputs.values()]:
            if not DECORATORS >= set(it.decorators):
                self.fail(f"decorators {sorted(set(it.decorators) - DECORATORS)} are not known here", it.at)
            self.names(it.type, set())
            self.names(it.value, set())
        for it in self.declared.values():
            if it.kind in ("param", "var", "type") and it.name not in self.used:
                self.fail(f"nothing uses `{it.name}`", it.at)

    def names(self, node, local):
        """Walks every branch, taken or not: each name must be declared."""
        if isinstance(node, list):
            for it in node:
                self.names(it, local)
        elif isinstance(node, dict):
            self.names(list(node.values()), local)
        elif isinstance(node, tuple) and node and isinstance(node[0], str) and len(node) > 1:
            kind, at, *rest = node
            if kind == "name":
                self.known(rest[0], at, local, ("param", "var", "resource", "module"))
            elif kind == "named" and rest[0] not in INFERRED:
                self.known(rest[0], at, local, ("type",))
            elif kind == "call" and rest[0] not in FUNCTIONS.keys() | IN_FILES.keys():
                self.fail(f"no function is called `{rest[0]}` here", at)
            if kind == "for":
                item, index, over, body = rest
                self.names(over, local)
                self.names(body, local | {item, index})
            elif kind == "lambda":
                self.names(rest[1], local | set(rest[0]))
            else:
                self.names(rest, local)
        elif isinstance(node, tuple):
            self.names(list(node), local)

    def known(self, name, at, local, kinds):
        if name in local:
            return
        if name not in self.declared or self.declared[name].kind not in kinds:
            self.fail(f"nothing is called `{name}`", at)
        self.used.add(name)

    # ---- parameters

    def take(self, given):
        for it in self.declared.values():
            if it.kind == "param":
                if it.name in given:
                    value = given[it.name]
                elif it.value is not None:
                    value = self.of(it.value, {})
                else:
                    self.fail(f"the parameter `{it.name}` is not given", it.at)
                self.check_parameter(it, value)
                self.values[it.name] = value
        unknown = set(given) - {it.name for it in self.declared.values() if it.kind == "param"}
        if unknown:
            self.fail(f"{sorted(unknown)} are no parameters of it", 0)

    def check_parameter(self, it, value):
        self.check_type(it.type, value, it.name, it.at)
        self.check_bounds(it.decorators, value, it.name, it.at)

    def check_bounds(self, decorators, value, where, at):
        bound = {key: self.of(args[0], {}) for key, args in decorators.items()}
        size = len(value) if isinstance(value, (str, list)) else 0
        if "allowed" in bound and value not in bound["allowed"]:
            self.fail(f"{where}: {value!r} is none of {bound['allowed']}", at)
        for wrong, limit in (
            ("minValue" in bound and value < bound["minValue"], "minValue"),
            ("maxValue" in bound and value > bound["maxValue"], "maxValue"),
            ("minLength" in bound and size < bound["minLength"], "minLength"),
            ("maxLength" in bound and size > bound["maxLength"], "maxLength"),
        ):
            if wrong:
                self.fail(f"{where}: {value!r} is out of bounds, {limit} is {bound[limit]}", at)

    def check_type(self, type_, value, where, at):
        kind, rest = type_[0], type_[2:]
        if kind == "named" and rest[0] in INFERRED:
            right = isinstance(value, INFERRED[rest[0]]) and (rest[0] != "int" or not isinstance(value, bool))
        elif kind == "named":
            return self.check_type(self.declared[rest[0]].type, value, where, at)
        elif kind == "list":
            right = isinstance(value, list)
            for i, it in enumerate(value if right else []):
                self.check_type(rest[0], it, f"{where}[{i}]", at)
        elif kind == "members":
            right = isinstance(value, dict) and set(value) == set(rest[0])
            for key, it in rest[0].items() if right else ():
                self.check_type(it, value[key], f"{where}.{key}", at)
        elif kind == "bounded":
            self.check_bounds(rest[1], value, where, at)
            return self.check_type(rest[0], value, where, at)
        elif kind == "union":
            right = value in [option[2] for option in rest[0]]
        elif kind == "exactly":
            right = value == rest[0]
        else:
            self.fail(f"types of the kind `{kind}` are not known here", at)
        if not right:
            self.fail(f"{where}: {value!r} has not its type", at)
        return None

    # ---- values

    def value(self, name):
        if name not in self.values:
            it = self.declared[name]
            made = {"var": self.of, "resource": self.resource, "module": self.module}[it.kind]
            self.values[name] = made(it.value, {}) if it.kind == "var" else made(it)
        return self.values[name]

    def result(self, it):
        value = self.of(it.value, {})
        if not isinstance(value, Runtime):
            self.check_type(it.type, value, it.name, it.at)
        return value

    def start(self, value, what, at):
        if is_runtime(value):
            self.fail(f"{what} must be known when the deployment starts", at)
        return value

    def bodies(self, it):
        """Each object that a resource or module is declared with, under its loop and conditions."""

        def one(node, local):
            if node[0] == "if":
                if not self.start(self.condition(node[2], local), "a condition", node[1]):
                    return None
                node = node[3]
            return node, local

        if it.value[0] != "for":
            return one(it.value, {})
        _, at, item, index, over, body = it.value
        over = self.start(self.of(over, {}), "a loop", at)
        return [one(body, {item: value, index: i}) for i, value in enumerate(over)]

    def each(self, it, make):
        bodies = self.bodies(it)
        if isinstance(bodies, list):
            return [body and make(it, *body) for body in bodies]
        return bodies and make(it, *bodies)

    def resource(self, it):
        return self.each(it, self.make_resource)

    def make_resource(self, it, node, local):
        body = self.of(node, local)
        type_, version = it.target.split("@")
        name = self.start(body.pop("name"), "a name", it.at)
        parent, scope = body.pop("parent", None), body.pop("scope", None)
        body.pop("dependsOn", None)
        if parent:
            name_path = f"{parent.name}/{name}"
            id_ = f"{parent.id}/{type_.rsplit('/', 1)[1]}/{name}"
            assert type_.rsplit("/", 1)[0].lower() == parent.type.lower(), f"{type_} is no child of {parent.type}"
        else:
            name_path = name
            id_ = f"{scope.id if scope else self.scope}/{path(type_, *name.split('/'))}"
        made = Resource(it.name, type_, version, name_path, id_, scope and scope.id, body, it.existing, self.file.name)
        if not it.existing:
            self.resources.append(made)
        return made

    def module(self, it):
        return self.each(it, self.make_module)

    def make_module(self, it, node, local):
        body = self.of(node, local)
        self.start(body["name"], "a name", it.at)
        unknown = set(body) - {"name", "scope", "params", "dependsOn"}
        if unknown:
            self.fail(f"a module has no {sorted(unknown)}", it.at)
        scope = body["scope"]["id"] if "scope" in body else self.scope
        inner = Template(self.file.parent / it.target, settled(body["params"]), scope)
        self.resources += inner.resources
        return {"outputs": self.outwards(inner.results)}

    def outwards(self, value):
        """An output is known when the module has been deployed; its text shows what it will be."""
        if isinstance(value, list):
            return [self.outwards(it) for it in value]
        if isinstance(value, dict):
            return {key: self.outwards(it) for key, it in value.items()}
        return Runtime(value.lstrip(RUNTIME)) if isinstance(value, str) else value

    def of(self, node, local):
        """The value of an expression."""
        kind, at, *rest = node
        if kind == "literal":
            return rest[0]
        if kind == "joined":
            parts = [self.of(part, local) for part in rest[0]]
            return "".join(it if isinstance(it, str) else shown(it) for it in parts)
        if kind == "name":
            return local[rest[0]] if rest[0] in local else self.value(rest[0])
        if kind == "list":
            return [self.of(it, local) for it in rest[0]]
        if kind == "object":
            made = {}
            for key, value in rest[0]:
                key = self.of(key, local)
                if key in made:
                    self.fail(f"`{key}` is there twice", at)
                made[key] = self.of(value, local)
            return made
        if kind == "for":
            item, index, over, body = rest
            values = enumerate(self.start(self.of(over, local), "a loop", at))
            return [self.of(body, local | {item: value, index: i}) for i, value in values]
        if kind == "lambda":
            return lambda *values: self.of(rest[1], local | dict(zip(rest[0], values, strict=True)))
        if kind == "choice":
            return self.of(rest[1] if self.condition(rest[0], local) else rest[2], local)
        if kind == "unary":
            value = self.of(rest[1], local)
            return not value if rest[0] == "!" else -value
        if kind == "binary":
            return self.binary(rest[0], rest[1], rest[2], local)
        if kind == "call":
            if rest[0] in IN_FILES:
                return IN_FILES[rest[0]]((self.file.parent / self.of(rest[1][0], local)).read_text())
            return FUNCTIONS[rest[0]](*[self.of(it, local) for it in rest[1]])
        if kind in ("member", "index"):
            key = rest[1] if kind == "member" else self.of(rest[1], local)
            return self.member(self.of(rest[0], local), key, at)
        return self.fail(f"`{kind}` is not known here", at)

    def condition(self, node, local):
        value = self.of(node, local)
        self.taken.add((self.file.name, node[1], bool(value)))
        return value

    def binary(self, operator, left, right, local):
        left = self.of(left, local)
        if operator in ("&&", "||"):
            return bool(left and self.of(right, local)) if operator == "&&" else bool(left or self.of(right, local))
        right = self.of(right, local)
        return {
            "==": lambda: left == right,
            "!=": lambda: left != right,
            "<": lambda: left < right,
            ">": lambda: left > right,
            "<=": lambda: left <= right,
            ">=": lambda: left >= right,
            "+": lambda: left + right,
            "-": lambda: left - right,
            "*": lambda: left * right,
            "/": lambda: left // right,
            "%": lambda: left % right,
            "??": lambda: right if left is None else left,
        }[operator]()

    def member(self, of, key, at):
        if isinstance(of, Runtime):
            return Runtime(f"{of.lstrip(RUNTIME)}.{key}")
        if isinstance(of, Resource):
            if key in ("id", "name", "type"):
                return getattr(of, key) if key != "name" else of.name.rsplit("/", 1)[-1]
            return Runtime(f"{of.symbol}.{key}")
        if of is None:
            self.fail(f"`.{key}` of something that is not deployed", at)
        try:
            return of[key]
        except (KeyError, IndexError, TypeError):
            return self.fail(f"it has no `{key}`", at)


def parameters(file):
    """What a parameter file gives, and to which template."""
    file = pathlib.Path(file)
    parser = Parser(file, file.read_text())
    using, *params = parser.file()
    alone = Template.__new__(Template)
    alone.file, alone.parser, alone.declared = file, parser, {}
    return file.parent / using.target, {it.name: alone.of(it.value, {}) for it in params}
