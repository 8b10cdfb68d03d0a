"""What README.md promises of the rendered chart, and a schema cannot say."""

import ipaddress
import re
import unittest

import yaml

from chart import NAMESPACE, RELEASE, EachCase, class_of, each, matches

SUBNETS = ["10.20.0.0/24", "10.20.1.0/24"]
INTERNAL = "service.beta.kubernetes.io/azure-load-balancer-internal"
GATEWAY_PODS = {"gateway.networking.k8s.io/gateway-name": RELEASE}
METRICS_PORTS = {"approuting-istio": 15020, "istio": 15020, "nginx": 9113}


def routes(rendered):
    return rendered.kind("HTTPRoute")


def spec_of(rendered, kind, name):
    return rendered.one(kind, name)["spec"]


class TheGateway(EachCase):
    @each()
    def test_demands_our_client_certificate(self, values, rendered):
        spec = rendered.gateway()["spec"]
        demanded = []
        if values.get("gateway.frontendValidation", True):
            validation = spec["tls"]["frontend"]["default"]["validation"]
            self.assertEqual(validation["mode"], "AllowValidOnly")
            self.assertEqual([ref["name"] for ref in validation["caCertificateRefs"]], [f"{RELEASE}-tls-cacert"])
            demanded.append("field")
        for listener in spec["listeners"]:
            self.assertEqual((listener["protocol"], listener["tls"]["mode"]), ("HTTPS", "Terminate"))
            options = listener["tls"].get("options", {})
            if class_of(values) == "nginx":
                self.assertEqual(options, {})
            else:
                self.assertEqual(options, {"gateway.istio.io/tls-terminate-mode": "MUTUAL"})
                # Istio looks for the CA in the certificate's secret, or one of that name with -cacert.
                self.assertEqual([ref["name"] for ref in listener["tls"]["certificateRefs"]], [f"{RELEASE}-tls"])
                demanded.append("option")
        self.assertTrue(demanded)

    @each()
    def test_compares_no_name_in_tls_with_a_host_in_http(self, values, rendered):
        for listener in rendered.gateway()["spec"]["listeners"]:
            self.assertNotIn("hostname", listener)
        if class_of(values) == "nginx":
            proxy = spec_of(rendered, "NginxProxy", f"{RELEASE}-gateway")
            self.assertIs(proxy["disableSNIHostValidation"], True)

    @each()
    def test_takes_routes_of_its_own_namespace_alone(self, _, rendered):
        for listener in rendered.gateway()["spec"]["listeners"]:
            self.assertEqual(listener["allowedRoutes"]["namespaces"], {"from": "Same"})

    @each()
    def test_scales_and_is_kept_through_disruptions(self, values, rendered):
        if class_of(values) == "nginx":
            deployment = spec_of(rendered, "NginxProxy", f"{RELEASE}-gateway")["kubernetes"]["deployment"]
            scale, spread = deployment["autoscaling"], deployment["pod"]["topologySpreadConstraints"]
            self.assertTrue(scale["enable"])
            budget = spec_of(rendered, "PodDisruptionBudget", f"{RELEASE}-gateway")
            self.assertEqual(budget["selector"]["matchLabels"], GATEWAY_PODS)
        else:
            over = rendered.laid_over()
            scale, budget = over["horizontalPodAutoscaler"]["spec"], over["podDisruptionBudget"]["spec"]
            spread = over["deployment"]["spec"]["template"]["spec"]["topologySpreadConstraints"]
        self.assertGreaterEqual(scale["minReplicas"], 2)
        self.assertEqual(budget["minAvailable"], 1)
        self.assertEqual(spread[0]["topologyKey"], "topology.kubernetes.io/zone")
        self.assertTrue(all(matches(rule["labelSelector"], GATEWAY_PODS) for rule in spread))


class LoadBalancers(EachCase):
    """None is public, each keeps the source address and takes Postern's alone."""

    def balanced(self, values, rendered):
        for service in rendered.kind("Service"):
            self.assertEqual(service["spec"]["type"], "LoadBalancer")
            yield service["metadata"]["annotations"], service["spec"]
        annotations = rendered.gateway()["spec"]["infrastructure"]["annotations"]
        if class_of(values) == "nginx":
            yield annotations, spec_of(rendered, "NginxProxy", f"{RELEASE}-gateway")["kubernetes"]["service"]
        else:
            over = rendered.laid_over()["service"]
            # What is laid over may take nothing away that makes it internal.
            self.assertFalse([name for name in over["metadata"]["annotations"] if "internal" in name])
            yield annotations, over["spec"]

    @each()
    def test_all(self, values, rendered):
        seen = 0
        for annotations, spec in self.balanced(values, rendered):
            self.assertEqual(annotations[INTERNAL], "true")
            self.assertEqual(spec["externalTrafficPolicy"], "Local")
            self.assertEqual(spec["loadBalancerSourceRanges"], SUBNETS)
            self.assertNotIn("externalIPs", spec)
            seen += 1
        self.assertEqual(seen, 1 + values.get("routing.enabled", True))

    @each(lambda values: "gateway.loadBalancer.address" in values)
    def test_addresses_and_subnets_are_those_asked_for(self, _, rendered):
        for annotations, address in (
            (rendered.gateway()["spec"]["infrastructure"]["annotations"], "10.30.0.10"),
            (rendered.one("Service", f"{RELEASE}-routing")["metadata"]["annotations"], "10.30.0.11"),
        ):
            self.assertEqual(annotations["service.beta.kubernetes.io/azure-load-balancer-ipv4"], address)
            self.assertEqual(annotations[f"{INTERNAL}-subnet"], "ingress")


class Routes(EachCase):
    @each()
    def test_lead_to_services_and_repeat_nothing(self, values, rendered):
        self.assertTrue(routes(rendered))
        for route in routes(rendered):
            self.assertTrue(route["spec"]["hostnames"])
            self.assertEqual([ref["name"] for ref in route["spec"]["parentRefs"]], [RELEASE])
            names = [listener["name"] for listener in rendered.gateway()["spec"]["listeners"]]
            self.assertIn(route["spec"]["parentRefs"][0]["sectionName"], names)
            for rule in route["spec"]["rules"]:
                self.assertNotIn("retry", rule)
                self.assertNotIn("filters", rule)
                self.assertEqual("timeouts" in rule, class_of(values) != "nginx")

    @each()
    def test_into_another_namespace_are_granted_and_only_those(self, _, rendered):
        foreign = set()
        for route in routes(rendered):
            for backend in route["spec"]["rules"][0]["backendRefs"]:
                if backend["namespace"] != NAMESPACE:
                    foreign.add((backend["namespace"], backend["name"]))
        granted = set()
        for grant in rendered.kind("ReferenceGrant"):
            self.assertEqual([source["namespace"] for source in grant["spec"]["from"]], [NAMESPACE])
            granted |= {(grant["metadata"]["namespace"], to["name"]) for to in grant["spec"]["to"]}
        self.assertEqual(granted, foreign)

    @each()
    def test_in_the_mesh_each_service_is_strict_and_hears_the_gateway_alone(self, values, rendered):
        names = {route["metadata"]["name"] for route in routes(rendered)}
        meshed = names if class_of(values) == "istio" else set()
        for kind in ("PeerAuthentication", "AuthorizationPolicy", "DestinationRule"):
            self.assertEqual({resource["metadata"]["name"] for resource in rendered.kind(kind)}, meshed)
        for name in meshed:
            self.assertEqual(spec_of(rendered, "PeerAuthentication", name)["mtls"], {"mode": "STRICT"})
            self.assertEqual(spec_of(rendered, "DestinationRule", name)["trafficPolicy"]["tls"]["mode"], "ISTIO_MUTUAL")
            policy = spec_of(rendered, "AuthorizationPolicy", name)
            # Istio's account for the gateway: its name, then its class.
            self.assertEqual(policy["rules"][0]["from"][0]["source"]["principals"],
                             [f"cluster.local/ns/{NAMESPACE}/sa/{RELEASE}-istio"])


class AccountRouting(EachCase):
    wanted = staticmethod(lambda values: values.get("routing.enabled", True))

    @each()
    def test_is_one_pod_with_its_own_disk(self, _, rendered):
        deployment = spec_of(rendered, "Deployment", f"{RELEASE}-routing")
        self.assertEqual((deployment["replicas"], deployment["strategy"]), (1, {"type": "Recreate"}))
        claim = rendered.one("PersistentVolumeClaim", f"{RELEASE}-routing")
        self.assertEqual(claim["spec"]["accessModes"], ["ReadWriteOncePod"])
        self.assertEqual(claim["metadata"]["annotations"], {"helm.sh/resource-policy": "keep"})
        self.assertFalse(rendered.kind("HorizontalPodAutoscaler"))
        self.assertFalse(rendered.has("PodDisruptionBudget", f"{RELEASE}-routing"))

    @each()
    def test_is_probed_where_it_answers(self, _, rendered):
        container = spec_of(rendered, "Deployment", f"{RELEASE}-routing")["template"]["spec"]["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        toml = rendered.one("ConfigMap", f"{RELEASE}-routing")["data"]["postern-routing.toml"]
        self.assertIn(f'[listen]\naddress = "0.0.0.0:{ports["routing"]}"', toml)
        self.assertIn(f'listen = "0.0.0.0:{ports["admin"]}"', toml)
        for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            self.assertEqual(container[probe]["httpGet"], {"path": path, "port": "admin"})

    @each()
    def test_reads_what_is_mounted(self, _, rendered):
        pod = spec_of(rendered, "Deployment", f"{RELEASE}-routing")["template"]["spec"]
        mounts = [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]]
        toml = rendered.one("ConfigMap", f"{RELEASE}-routing")["data"]["postern-routing.toml"]
        vault = rendered.one("SecretProviderClass", f"{RELEASE}-routing")["spec"]["parameters"]["objects"]
        for path in re.findall(r'"(/[^"]+)"', toml):
            self.assertTrue(any(path.startswith(f"{mount}/") for mount in mounts), path)
            if path.startswith("/var/run/postern/certificates/"):
                self.assertIn(f"objectAlias: {path.rsplit('/', 1)[1]}\n", vault)


class Pods(EachCase):
    @each()
    def test_have_no_rights(self, _, rendered):
        for name, template in rendered.pods():
            spec = template["spec"]
            self.assertIs(spec["securityContext"]["runAsNonRoot"], True, name)
            self.assertGreater(spec["securityContext"]["runAsUser"], 0)
            self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertIs(spec["automountServiceAccountToken"], False)
            self.assertIs(spec["enableServiceLinks"], False)
            for absent in ("hostNetwork", "hostPID", "hostIPC", "initContainers"):
                self.assertNotIn(absent, spec)
            for container in spec["containers"]:
                self.assertEqual(container["securityContext"], {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                })
                self.assertIn("memory", container["resources"]["limits"])
                self.assertEqual(set(container["resources"]["requests"]), {"cpu", "memory"})
            for volume in spec["volumes"]:
                self.assertNotIn("hostPath", volume)

    @each()
    def test_are_what_their_workload_its_budget_and_its_service_select(self, _, rendered):
        templates = dict(rendered.pods())
        for deployment in rendered.kind("Deployment"):
            name, selector = deployment["metadata"]["name"], deployment["spec"]["selector"]
            taken = [other for other, template in templates.items() if matches(selector, template["metadata"]["labels"])]
            self.assertEqual(taken, [name])
            for rule in deployment["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
                self.assertTrue(matches(rule["labelSelector"], templates[name]["metadata"]["labels"]))
        selecting = [(budget, budget["spec"]["selector"]) for budget in rendered.kind("PodDisruptionBudget")]
        selecting += [(service, {"matchLabels": service["spec"]["selector"]}) for service in rendered.kind("Service")]
        selecting += [(monitor, monitor["spec"]["selector"]) for monitor in rendered.kind("PodMonitor")]
        for resource, selector in selecting:
            taken = [name for name, template in templates.items() if matches(selector, template["metadata"]["labels"])]
            if selector["matchLabels"] != GATEWAY_PODS:
                self.assertEqual(taken, [resource["metadata"]["name"]])


class References(EachCase):
    @each()
    def test_each_leads_to_something_that_is_rendered(self, values, rendered):
        secrets = {}
        for provider in rendered.kind("SecretProviderClass"):
            parameters = provider["spec"]["parameters"]
            files = {yaml.safe_load(text)["objectAlias"] for text in yaml.safe_load(parameters["objects"])["array"]}
            for made in provider["spec"].get("secretObjects", []):
                secrets[made["secretName"]] = (made["type"], {data["key"] for data in made["data"]})
                self.assertTrue({data["objectName"] for data in made["data"]} <= files)
        self.assertEqual(secrets[f"{RELEASE}-tls"], ("kubernetes.io/tls", {"tls.key", "tls.crt"}))
        self.assertEqual(secrets[f"{RELEASE}-tls-cacert"], ("Opaque", {"ca.crt"}))

        spec = rendered.gateway()["spec"]
        named = [ref for listener in spec["listeners"] for ref in listener["tls"]["certificateRefs"]]
        named += spec.get("tls", {}).get("frontend", {}).get("default", {}).get("validation", {}).get("caCertificateRefs", [])
        for ref in named:
            self.assertEqual((ref["group"], ref["kind"]), ("", "Secret"))
            self.assertIn(ref["name"], secrets)
        parameters = spec["infrastructure"]["parametersRef"]
        self.assertTrue(rendered.has(parameters["kind"], parameters["name"]))
        for kind in ("ClientSettingsPolicy", "ProxySettingsPolicy"):
            for policy in rendered.kind(kind):
                for target in policy["spec"].get("targetRefs", [policy["spec"].get("targetRef")]):
                    self.assertEqual((target["kind"], target["name"]), ("Gateway", RELEASE))

        for _, template in rendered.pods():
            pod = template["spec"]
            account = rendered.one("ServiceAccount", pod["serviceAccountName"])
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            for container in pod["containers"]:
                self.assertEqual({mount["name"] for mount in container["volumeMounts"]}, set(volumes))
            for volume in volumes.values():
                if "csi" in volume:
                    provider = rendered.one("SecretProviderClass", volume["csi"]["volumeAttributes"]["secretProviderClass"])
                    # The account that is federated is that of the identity which the provider asks for.
                    self.assertEqual(provider["spec"]["parameters"]["clientID"],
                                     account["metadata"]["annotations"]["azure.workload.identity/client-id"])
                if "configMap" in volume:
                    self.assertTrue(rendered.has("ConfigMap", volume["configMap"]["name"]))
                if "persistentVolumeClaim" in volume:
                    self.assertTrue(rendered.has("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]))
        self.assertFalse(rendered.kind("Secret"), "a secret in the chart would be one in its history")


class NetworkPolicies(EachCase):
    wanted = staticmethod(lambda values: values.get("networkPolicy.enabled", True))

    @each()
    def test_each_selects_pods_that_exist(self, _, rendered):
        ours = [template["metadata"]["labels"] for _, template in rendered.pods()] + [GATEWAY_PODS]
        services = {route["metadata"]["name"] for route in routes(rendered)}
        for policy in rendered.kind("NetworkPolicy"):
            selector, name = policy["spec"]["podSelector"], policy["metadata"]["name"]
            self.assertTrue(selector.get("matchLabels"), "selects the whole namespace")
            if name in services:
                services.remove(name)
                backend = spec_of(rendered, "HTTPRoute", name)["rules"][0]["backendRefs"][0]
                self.assertEqual(policy["metadata"].get("namespace", NAMESPACE), backend["namespace"])
                if rendered.has("PeerAuthentication", name):
                    self.assertEqual(spec_of(rendered, "PeerAuthentication", name)["selector"], selector)
            else:
                self.assertEqual(len([labels for labels in ours if matches(selector, labels)]), 1)
                ours = [labels for labels in ours if not matches(selector, labels)]
        self.assertEqual((ours, services), ([], set()), "pods without a policy")

    @each()
    def test_let_in_whom_they_must_and_nobody_else(self, values, rendered):
        watched = values.get("monitoring.enabled", False)
        postern = [{"ipBlock": {"cidr": subnet}} for subnet in SUBNETS]
        monitoring = [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"rsName": "ama-metrics"}},
        }]
        gateway = [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
            "podSelector": {"matchLabels": GATEWAY_PODS},
        }]

        def rules(port, metrics):
            let = [{"from": postern, "ports": [{"port": port}]}]
            return let + ([{"from": monitoring, "ports": [{"port": metrics}]}] if watched else [])

        expected = {
            f"{RELEASE}-gateway": (["Ingress"], rules(443, METRICS_PORTS[class_of(values)])),
            f"{RELEASE}-certificates": (["Ingress", "Egress"], None),
        }
        for route in routes(rendered):
            expected[route["metadata"]["name"]] = (["Ingress"], [{"from": gateway, "ports": [{"port": 8080}]}])
        if values.get("routing.enabled", True):
            expected[f"{RELEASE}-routing"] = (["Ingress", "Egress"], rules(8450, 9093))
        seen = {}
        for policy in rendered.kind("NetworkPolicy"):
            self.assertNotIn("egress", policy["spec"])
            seen[policy["metadata"]["name"]] = (policy["spec"]["policyTypes"], policy["spec"].get("ingress"))
        self.assertEqual(seen, expected)

    @each()
    def test_subnets_are_networks(self, _, rendered):
        for policy in rendered.kind("NetworkPolicy"):
            for rule in policy["spec"].get("ingress", []):
                for peer in rule["from"]:
                    if "ipBlock" in peer:
                        ipaddress.IPv4Network(peer["ipBlock"]["cidr"])


if __name__ == "__main__":
    unittest.main()
