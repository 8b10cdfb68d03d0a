"""Wrong values are refused, with a sentence that says which."""

import os
import subprocess
import unittest

from chart import CHART, HERE, Refused, quiet, render

# Values, and what Helm says of them.
REFUSED = [
    ({"clas": "nginx"}, "additional properties 'clas' not allowed"),
    ({"class": "nginx-ingress"}, "value must be one of 'approuting-istio', 'istio', 'nginx'"),
    ({"gateway.loadbalancer": {}}, "additional properties 'loadbalancer' not allowed"),
    ({"gateway.scale.min": 1}, "at '/gateway/scale/min': minimum: got 1, want 2"),
    ({"gateway.scale.min": 20}, "gateway.scale.min is greater than gateway.scale.max"),
    ({"gateway.serverName": "no spaces"}, "at '/gateway/serverName'"),
    ({"gateway.serverName": ""}, "required and have no default: gateway.serverName"),
    ({"gateway.serverName": "a.dicom.example"}, "*.dicom.example covers gateway.serverName"),
    ({"gateway.loadBalancer.address": "10.0.0.256"}, "at '/gateway/loadBalancer/address'"),
    ({"class": "nginx", "gateway.frontendValidation": False}, "gateway.frontendValidation must be true"),
    ({"postern.subnets": []}, "required and have no default: postern.subnets"),
    ({"postern.subnets": ["0.0.0.0/0"]}, "at '/postern/subnets/0'"),
    ({"postern.subnets": ["10.0.0.1"]}, "at '/postern/subnets/0'"),
    ({"certificates.clientId": "mine"}, "at '/certificates/clientId'"),
    ({"certificates.keyVault.name": "https://v.vault.azure.net"}, "at '/certificates/keyVault/name'"),
    ({"routes.dicom.hostnames": []}, "required and have no default: routes.dicom.hostnames"),
    ({"routes.dicom.hostnames": ["*"]}, "at '/routes/dicom/hostnames/0'"),
    ({"routes.dicom.hostnames": ["fhir.example"]}, "fhir.example is also in routes."),
    ({"routes.dicom.timeout": "an hour"}, "at '/routes/dicom/timeout'"),
    ({"routes.dicom.retries": 3}, "additional properties 'retries' not allowed"),
    ({"routes.other": {"enabled": True}}, "at '/routes/other': missing properties"),
    ({"routing.replicas": 2}, "additional properties 'replicas' not allowed"),
    ({"routing.image.tag": "latest"}, "at '/routing/image/tag'"),
    ({"routing.image.tag": ""}, "required and have no default: routing.image.tag (or digest)"),
    ({"routing.clients.proxies.roles": ["admin"]}, "value must be one of 'read', 'authorize', 'write'"),
    ({"monitoring.apiVersion": "monitoring.coreos.com/v2"}, "at '/monitoring/apiVersion'"),
]


class Values(unittest.TestCase):
    def test_the_chart_has_no_lint(self):
        done = subprocess.run([os.environ["HELM"], "lint", "--strict", str(CHART), "--values", str(HERE / "values.yaml")],
                              capture_output=True, text=True, env=quiet())
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_wrong_ones_are_refused(self):
        for values, sentence in REFUSED:
            with self.subTest(str(values)):
                with self.assertRaises(Refused) as refused:
                    render(values)
                self.assertIn(sentence, str(refused.exception))

    def test_the_defaults_alone_say_all_that_is_missing(self):
        with self.assertRaises(Refused) as refused:
            render(base=False)
        for name in ("postern.subnets", "gateway.serverName", "certificates.keyVault.name", "certificates.clientId",
                     "routes.dicom.hostnames", "routes.fhir.hostnames", "routing.image.repository", "routing.clients"):
            self.assertIn(name, str(refused.exception))


if __name__ == "__main__":
    unittest.main()
