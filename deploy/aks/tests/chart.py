"""What the checks have in common: rendering the chart, asking about what came out."""

import functools
import os
import pathlib
import subprocess
import tempfile
import unittest

import yaml

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE.parent
CLASSES = ("approuting-istio", "istio", "nginx")
RELEASE = "edge"
NAMESPACE = "ingress"

# What is rendered and checked: each name with the values that make it.
CASES = {
    **{name: {"class": name} for name in CLASSES},
    **{f"{name}, monitored": {"class": name, "monitoring.enabled": True} for name in CLASSES},
    "the operator's Prometheus": {"monitoring.enabled": True, "monitoring.apiVersion": "monitoring.coreos.com/v1"},
    "older Gateway API": {"gateway.frontendValidation": False},
    "older Gateway API, mesh": {"class": "istio", "gateway.frontendValidation": False, "mesh.revision": "asm-1-28"},
    "addresses": {
        "gateway.loadBalancer.subnet": "ingress",
        "gateway.loadBalancer.address": "10.30.0.10",
        "routing.loadBalancer.subnet": "ingress",
        "routing.loadBalancer.address": "10.30.0.11",
    },
    "without account routing": {"routing.enabled": False},
    "without network policies": {"networkPolicy.enabled": False},
    "DICOM alone, in our namespace": {"routes.fhir.enabled": False, "routes.dicom.service.namespace": ""},
    "image by digest": {"routing.image.tag": "", "routing.image.digest": "sha256:" + "0" * 64},
}


class Refused(Exception):
    """Helm rendered nothing, and said why."""


def settings(values):
    """`values` as a tree: their names have dots."""
    tree = {}
    for name, value in values.items():
        *path, last = name.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = value
    return tree


def render(values=None, base=True):
    """The resources that the chart makes of these values on top of values.yaml beside this file."""
    command = [os.environ["HELM"], "template", RELEASE, str(CHART), "--namespace", NAMESPACE]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(settings(values or {}), file)
        file.flush()
        if base:
            command += ["--values", str(HERE / "values.yaml")]
        # Names that Helm's library would take for files of the user.
        done = subprocess.run(command + ["--values", file.name], capture_output=True, text=True, env=quiet())
    if done.returncode:
        raise Refused(done.stderr)
    return [resource for resource in yaml.safe_load_all(done.stdout) if resource]


def quiet():
    """The environment without a cluster or configuration of whoever runs this."""
    return {name: text for name, text in os.environ.items() if not name.startswith(("HELM_", "KUBE"))}


class Rendered:
    """All resources of one case."""

    def __init__(self, resources):
        self.all = resources

    def kind(self, kind):
        return [resource for resource in self.all if resource["kind"] == kind]

    def one(self, kind, name):
        found = [resource for resource in self.kind(kind) if resource["metadata"]["name"] == name]
        if len(found) != 1:
            raise AssertionError(f"{len(found)} resources are {kind} {name}")
        return found[0]

    def has(self, kind, name):
        return any(resource["metadata"]["name"] == name for resource in self.kind(kind))

    def gateway(self):
        return self.one("Gateway", RELEASE)

    def pods(self):
        """The pod templates of all workloads, with their workload's name."""
        for deployment in self.kind("Deployment"):
            yield deployment["metadata"]["name"], deployment["spec"]["template"]

    def laid_over(self):
        """What Istio lays over the resources that it makes for the gateway, by the name of the resource."""
        found = self.one("ConfigMap", f"{RELEASE}-gateway")["data"]
        return {name: yaml.safe_load(text) for name, text in found.items()}


@functools.cache
def cases():
    """All cases, rendered once: name, values, resources."""
    return [(name, values, Rendered(render(values))) for name, values in CASES.items()]


class EachCase(unittest.TestCase):
    """Tests that go through all cases, or those that the class wants."""

    wanted = staticmethod(lambda values: True)


def each(wanted=lambda values: True):
    """A test of one case that is made for each, as a sub-test."""

    def of(test):
        def run(self):
            chosen = [case for case in cases() if self.wanted(case[1]) and wanted(case[1])]
            self.assertTrue(chosen, "no case is looked at")
            for name, values, rendered in chosen:
                with self.subTest(name):
                    test(self, values, rendered)

        run.__doc__ = test.__doc__
        return run

    return of


def case(name):
    """The resources of one case."""
    return next(rendered for other, _, rendered in cases() if other == name)


def class_of(values):
    return values.get("class", "approuting-istio")


def matches(selector, labels):
    """Whether a selector of `matchLabels` takes these labels. An empty one takes all."""
    assert set(selector) <= {"matchLabels"}, selector
    return selector.get("matchLabels", {}).items() <= labels.items()
