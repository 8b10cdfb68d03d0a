"""Each resource against its schema: unknown fields, forms, and the rules that definitions carry (CEL)."""

import copy
import os
import pathlib
import subprocess
import tempfile
import unittest

import yaml

from chart import CLASSES, HERE, RELEASE, EachCase, Rendered, class_of, each, render

# The newest whose schemas the validator carries.
KUBERNETES = "1.30"
SCHEMAS = pathlib.Path(os.environ["SCHEMAS"])
# Where spec.tls.frontend is in the standard channel, and where it is not yet.
GATEWAYS_WITH_FRONTEND = ("gateway-1.5", "gateway-1.7")
GATEWAY_WITHOUT_FRONTEND = "gateway-1.3"

# https://learn.microsoft.com/azure/aks/istio-gateway-api, "Resource customization allowlist": what of it the chart uses.
AKS_LETS_THROUGH = {
    "service": {"metadata.annotations", "spec.type", "spec.loadBalancerSourceRanges", "spec.externalTrafficPolicy"},
    "deployment": {"spec.template.spec.topologySpreadConstraints"},
    "horizontalPodAutoscaler": {
        "spec.metrics", "spec.minReplicas", "spec.maxReplicas",
        "spec.behavior.scaleDown.stabilizationWindowSeconds", "spec.behavior.scaleDown.policies",
    },
    "podDisruptionBudget": {"spec.minAvailable"},
}


def validate(resources, gateway):
    """Nothing, or what the validator says is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        for number, resource in enumerate(resources):
            name = f"{number:03}-{resource['kind']}.yaml"
            (pathlib.Path(folder) / name).write_text(yaml.safe_dump(resource))
        done = subprocess.run(
            [os.environ["VALIDATE"], "--version", KUBERNETES, "--local-crds", str(SCHEMAS / gateway),
             "--local-crds", str(HERE / "schemas"), folder],
            capture_output=True, text=True)
        passed = done.stdout.count("OK")
        if done.returncode == 0 and passed != len(resources):
            return f"{passed} of {len(resources)} resources were looked at"
        return done.stdout + done.stderr if done.returncode else ""


class Schemas(EachCase):
    @each()
    def test_each_resource_is_what_its_schema_says(self, values, rendered):
        older = not values.get("gateway.frontendValidation", True)
        for gateway in (GATEWAY_WITHOUT_FRONTEND,) if older else GATEWAYS_WITH_FRONTEND:
            self.assertEqual(validate(rendered.all, gateway), "")

    @each(lambda values: not values.get("gateway.frontendValidation", True))
    def test_with_istio_the_chart_also_fits_newer_definitions_without_the_field(self, values, rendered):
        self.assertEqual(validate(rendered.all, GATEWAYS_WITH_FRONTEND[-1]), "")

    def test_an_older_gateway_api_refuses_the_field_it_does_not_know(self):
        said = validate([Rendered(render()).gateway()], GATEWAY_WITHOUT_FRONTEND)
        self.assertIn("spec.tls", said)
        self.assertIn("unknown field", said)

    def test_the_validator_finds_mistakes_in_each_kind(self):
        """Otherwise all of the above says nothing."""
        kinds = set()
        for name in CLASSES:
            for resource in render({"class": name, "monitoring.enabled": True}):
                body = "spec" if "spec" in resource else None
                if body is None or resource["kind"] in kinds:
                    continue
                kinds.add(resource["kind"])
                with self.subTest(resource["kind"]):
                    wrong = copy.deepcopy(resource)
                    wrong[body]["misspelt"] = 1
                    self.assertIn("unknown field", validate([wrong], GATEWAYS_WITH_FRONTEND[-1]))
        self.assertEqual(len(kinds), 16, kinds)

    def test_a_rule_of_a_definition_is_held(self):
        gateway = Rendered(render()).gateway()
        gateway["spec"]["listeners"] *= 2
        self.assertIn("unique", validate([gateway], GATEWAYS_WITH_FRONTEND[-1]).lower())


class LaidOver(EachCase):
    """What the chart asks Istio to lay over its own resources is text in a ConfigMap, which no schema reads."""

    wanted = staticmethod(lambda values: class_of(values) != "nginx")

    @each()
    def test_with_what_istio_makes_it_is_whole(self, _, rendered):
        pods = {"gateway.networking.k8s.io/gateway-name": RELEASE}
        container = {"name": "istio-proxy", "image": "auto"}
        made = {
            "service": ("v1", "Service", {"ports": [{"port": 443}], "selector": pods}),
            "deployment": ("apps/v1", "Deployment", {
                "selector": {"matchLabels": pods},
                "template": {"metadata": {"labels": pods}, "spec": {"containers": [container]}},
            }),
            "horizontalPodAutoscaler": ("autoscaling/v2", "HorizontalPodAutoscaler", {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": RELEASE},
            }),
            "podDisruptionBudget": ("policy/v1", "PodDisruptionBudget", {"selector": {"matchLabels": pods}}),
        }
        laid_over = rendered.laid_over()
        self.assertEqual(set(laid_over), set(made))
        whole = [
            merged({"apiVersion": version, "kind": kind, "metadata": {"name": RELEASE}, "spec": spec}, laid_over[name])
            for name, (version, kind, spec) in made.items()
        ]
        self.assertEqual(validate(whole, GATEWAYS_WITH_FRONTEND[-1]), "")

    @each()
    def test_aks_lets_each_field_through(self, _, rendered):
        for name, tree in rendered.laid_over().items():
            for path in paths(tree):
                self.assertTrue(any(f"{path}.".startswith(f"{let}.") for let in AKS_LETS_THROUGH[name]), f"{name}: {path}")


def merged(under, over):
    """`over` laid over `under`; null takes a key away, as in a strategic merge."""
    if not isinstance(over, dict):
        return over
    under = under if isinstance(under, dict) else {}
    laid = {key: merged(under.get(key), value) for key, value in over.items() if value is not None}
    return {**{key: value for key, value in under.items() if key not in over}, **laid}


def paths(tree, before=""):
    """All leaves, lists and empty values of a tree, with dots."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from paths(value, f"{before}{key}.")
        else:
            yield f"{before}{key}"


if __name__ == "__main__":
    unittest.main()
