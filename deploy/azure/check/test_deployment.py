"""What the deployment promises, held against what it computes to. Nothing here talks to Azure."""

import copy
import dataclasses
import ipaddress
import json
import pathlib
import re
import tempfile
import unittest

import conform
import evaluate
import tree_sitter
import tree_sitter_bicep
import yaml
from deployment import FOLDER, VARIANTS, Deployment, text, variant, written
from syntax import BicepError, Parser

PROBE_SOURCE = "AzureLoadBalancer"
# Built-in roles: Key Vault Reader, Key Vault Certificate User, Key Vault Certificates Officer, Storage Blob Data Reader.
READER, CERTIFICATE_USER = "21090545-7ca7-4776-b22c-e363652d74d2", "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba"
OFFICER, BLOB_READER = "a4417e6f-fecd-4de8-b567-7b0420556985", "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"


def seconds(period):
    """An ISO 8601 period of minutes or seconds."""
    amount, unit = re.fullmatch(r"PT(\d+)([MS])", period).groups()
    return int(amount) * (60 if unit == "M" else 1)


class Form(unittest.TestCase):
    """That Azure would understand it."""

    def test_another_grammar_of_the_language_agrees(self):
        parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bicep.language()))
        for file in [*FOLDER.glob("*.bicep"), *FOLDER.glob("modules/*.bicep")]:
            self.assertFalse(parser.parse(file.read_bytes()).root_node.has_error, file.name)
        self.assertTrue(parser.parse(b"param a string = [1\n").root_node.has_error)

    def test_every_resource_has_the_form_that_azure_publishes(self):
        for name in VARIANTS:
            found = [fault for it in variant(name).resources for fault in conform.faults(it)]
            self.assertEqual(found, [], name)

    def test_a_misspelt_property_is_noticed(self):
        free, checked = {"tags", "settings", "userAssignedIdentities", "labels", "annotations"}, 0
        for resource in variant("example").resources:
            for path in self.paths(resource.body):
                if free.isdisjoint(path[:-1]):
                    body = copy.deepcopy(resource.body)
                    inside = body
                    for key in path[:-1]:
                        inside = inside[key]
                    inside[f"{path[-1]}x"] = inside.pop(path[-1])
                    self.assertTrue(conform.faults(dataclasses.replace(resource, body=body)), path)
                    checked += 1
        self.assertGreater(checked, 900)

    def paths(self, value, before=()):
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, it in items:
            if isinstance(value, dict):
                yield (*before, key)
            yield from self.paths(it, (*before, key))

    def test_every_branch_of_every_template_is_taken(self):
        for name in VARIANTS:
            variant(name)
        for file in [FOLDER / "main.bicep", *FOLDER.glob("modules/*.bicep")]:
            for condition in self.conditions([it.value for it in Parser(file, file.read_text()).file()]):
                for outcome in (True, False):
                    place = (file.name, condition[1], outcome)
                    self.assertIn(place, evaluate.Template.taken, file.read_text()[condition[1]:][:60])

    def conditions(self, node):
        if isinstance(node, tuple) and node[:1] in (("choice",), ("if",)):
            yield node[2]
        if isinstance(node, (tuple, list)):
            for it in node:
                yield from self.conditions(it)

    def test_no_two_resources_are_the_same(self):
        for name in VARIANTS:
            ids = [it.id.lower() for it in variant(name).resources]
            self.assertEqual(sorted(ids), sorted(set(ids)))

    def test_what_is_referred_to_is_deployed(self):
        for name in VARIANTS:
            ours, seen = variant(name), 0
            ids = {it.id for it in ours.resources}
            for it in ours.resources:
                for found in re.findall(r"/subscriptions/0000[^\"]*?(?=\"|$)", text(it.body)):
                    if any(part in found for part in ("roleDefinitions", "/blobServices/")) or found.endswith("/postern"):
                        continue
                    owner = re.sub(r"/(subnets|frontendIPConfigurations|backendAddressPools|probes)/[\w-]+$", "", found)
                    self.assertIn(owner, ids, f"{name}: {it.type} {it.name}")
                    seen += 1
            self.assertGreater(seen, 40, name)

    def test_parameters_are_described_and_sizes_bounded(self):
        for file in [FOLDER / "main.bicep", *sorted((FOLDER / "modules").glob("*.bicep"))]:
            for it in Parser(file, file.read_text()).file():
                if it.kind in ("param", "output"):
                    self.assertIn("description", it.decorators, f"{file.name}: {it.name}")
                bounds = {"minValue", "maxValue"} if it.kind == "param" and it.type[2] == "int" else set()
                needless = {"ttl"} if file.name != "main.bicep" else set()
                self.assertTrue(bounds <= set(it.decorators) or it.name in needless, f"{file.name}: {it.name} is not bounded")

    def test_parameters_out_of_bounds_are_refused(self):
        for wrong in (
            {"natAddresses": 9}, {"natAddresses": 0}, {"terminateNoticeMinutes": 16}, {"prefix": "too-long-a-prefix"},
            {"vaultSku": "basic"}, {"clusters": []}, {"ingresses": [{"zone": "4", "endpoints": []}]}, {"unknown": 1},
            {"serverCertificates": [{"name": "dicom"}]},
            {"scaling": {"cpuOutPercent": 99, "cpuInPercent": 25, "networkOutMbps": 4000, "networkInMbps": 1000}}, {"instancesMin": True}, {"postern": {"url": "https://x"}},
        ):
            with self.assertRaises(BicepError, msg=wrong):
                Deployment(**wrong)

    def test_mistakes_in_templates_are_refused(self):
        for wrong, why in (
            ("param a string\n", "described|uses"),
            ("output a string = b\n", "nothing is called"),
            ("output a string = resourceGroup().nme\n", "has no"),
            ("output a int = 'x'\n", "has not its type"),
            ("output a string = frobnicate()\n", "no function"),
            ("var a = 1\n", "nothing uses"),
            ("resource a 'X/y@2020-01-01' = {\n  name: 'a' tags: {}\n}\n", "is missing"),
            ("resource a 'X/y@2020-01-01' = {\n  name: b.properties.x\n}\nresource b 'X/y@2020-01-01' = {\n  name: 'b'\n}\n",
             "must be known"),
        ):
            with self.subTest(why), self.assertRaisesRegex(BicepError, why):
                self.evaluated(wrong)

    def evaluated(self, source):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "wrong.bicep")
            file.write_text(source)
            return evaluate.Template(file, {})

    def test_no_output_is_a_secret(self):
        for file in [FOLDER / "main.bicep", *sorted((FOLDER / "modules").glob("*.bicep"))]:
            source = file.read_text()
            self.assertNotRegex(source, r"\blist(Keys|Secrets|AccountSas)?\(|getSecret\(|password\s*:|sharedKey", file.name)


class Ways(unittest.TestCase):
    """Who reaches what."""

    def test_the_private_link_service_announces_the_link_id(self):
        service = variant("example").properties("Microsoft.Network/privateLinkServices")
        self.assertIs(service["enableProxyProtocol"], True)
        self.assertEqual([it["properties"]["primary"] for it in service["ipConfigurations"]], [True, False])
        for it in service["ipConfigurations"]:
            self.assertTrue(it["properties"]["subnet"]["id"].endswith("/subnets/private-link-nat"))
        self.assertEqual(len(variant("most").properties("Microsoft.Network/privateLinkServices")["ipConfigurations"]), 8)
        allowed = variant("least").properties("Microsoft.Network/privateLinkServices")
        self.assertLessEqual(set(allowed["autoApproval"]["subscriptions"]), set(allowed["visibility"]["subscriptions"]))

    def test_subnets_are_apart_and_fit_for_what_is_in_them(self):
        for name in VARIANTS:
            network = variant(name).properties("Microsoft.Network/virtualNetworks")
            subnets = {it["name"]: it["properties"] for it in network["subnets"]}
            space = ipaddress.ip_network(network["addressSpace"]["addressPrefixes"][0])
            ranges = [ipaddress.ip_network(it["addressPrefix"]) for it in subnets.values()]
            for i, it in enumerate(ranges):
                self.assertTrue(it.subnet_of(space))
                self.assertFalse(any(it.overlaps(other) for other in ranges[i + 1:]))
            self.assertEqual(subnets["private-link-nat"]["privateLinkServiceNetworkPolicies"], "Disabled")
            self.assertEqual(subnets["endpoints"]["privateEndpointNetworkPolicies"], "Enabled")
            self.assertTrue(all(it["defaultOutboundAccess"] is False for it in subnets.values()))
            egress = subnets["instances"]
            self.assertNotEqual(egress["natGateway"] is None, egress["routeTable"] is None)

    def test_only_the_nat_subnet_and_the_prober_get_in(self):
        for name in VARIANTS:
            ours = variant(name)
            nat, _ = self.prefixes(ours)
            rules = [it["properties"] for it in self.group(ours, "instancesGroup")["securityRules"]]
            inbound = sorted((it for it in rules if it["direction"] == "Inbound"), key=lambda it: it["priority"])
            ways = {(it.get("sourceAddressPrefix"), it["destinationPortRange"]) for it in inbound if it["access"] == "Allow"}
            ssh = {(None, "22")} if name == "most" else set()
            self.assertEqual(ways, {(nat, "8443"), (PROBE_SOURCE, "8080")} | ssh)
            self.assertTrue(all(it["protocol"] == "Tcp" for it in inbound if it["access"] == "Allow"))
            last = inbound[-1]
            self.assertEqual((last["access"], last["sourceAddressPrefix"], last["destinationPortRange"], last["priority"]),
                             ("Deny", "*", "*", 4096))
            self.assertEqual(len({(it["direction"], it["priority"]) for it in rules}), len(rules))
            if name == "most":
                self.assertIn(["10.9.0.0/24"], [it.get("sourceAddressPrefixes") for it in inbound])

    def test_only_the_machines_reach_the_vaults(self):
        ours = variant("example")
        _, instances = self.prefixes(ours)
        rules = [it["properties"] for it in self.group(ours, "endpointsGroup")["securityRules"]]
        self.assertEqual([(it["access"], it["sourceAddressPrefix"]) for it in rules], [("Allow", instances), ("Deny", "*")])
        for vault in ours.all("Microsoft.KeyVault/vaults"):
            self.assertEqual(vault.body["properties"]["publicNetworkAccess"], "Disabled")
        for vault in variant("most").all("Microsoft.KeyVault/vaults"):
            acls = vault.body["properties"]["networkAcls"]
            self.assertEqual((acls["defaultAction"], acls["ipRules"]), ("Deny", [{"value": "192.0.2.7/32"}]))

    def group(self, ours, symbol):
        return ours.properties("Microsoft.Network/networkSecurityGroups", symbol)

    def prefixes(self, ours):
        subnets = ours.properties("Microsoft.Network/virtualNetworks")["subnets"]
        named = {it["name"]: it["properties"]["addressPrefix"] for it in subnets}
        return named["private-link-nat"], named["instances"]

    def test_no_machine_has_a_public_address(self):
        for name in VARIANTS:
            ours = variant(name)
            self.assertNotIn("publicIPAddressConfiguration", text(ours.machine()))
            self.assertNotIn("publicIPAddress", text(ours.properties("Microsoft.Network/loadBalancers")))
            addresses = [it.symbol for it in ours.all("Microsoft.Network/publicIPAddresses")]
            self.assertEqual(addresses, [] if name == "least" else ["natAddress"])

    def test_the_load_balancer_probes_what_postern_answers(self):
        for name in VARIANTS:
            balancer = variant(name).properties("Microsoft.Network/loadBalancers")
            (probe,), (rule,) = balancer["probes"], balancer["loadBalancingRules"]
            self.assertEqual((probe["properties"]["protocol"], probe["properties"]["port"], probe["properties"]["requestPath"]),
                             ("Http", 8080, "/healthz"))
            self.assertEqual((rule["properties"]["frontendPort"], rule["properties"]["backendPort"]), (443, 8443))
            self.assertIs(rule["properties"]["enableTcpReset"], True)
            self.assertIs(rule["properties"]["enableFloatingIP"], False)
            self.assertGreaterEqual(rule["properties"]["idleTimeoutInMinutes"] * 60, 300)

    def test_the_ingress_is_found_under_its_internal_name(self):
        ours = variant("example")
        aliases = {it.name: it.body["properties"]["cnameRecord"]["cname"]
                   for it in ours.all("Microsoft.Network/privateDnsZones/CNAME")}
        profiles = ours.all("Microsoft.Network/trafficmanagerprofiles")
        targets = {f"{it.body['properties']['dnsConfig']['relativeName']}.trafficmanager.net" for it in profiles}
        self.assertEqual(set(aliases), {"internal.example/z1-weu-aks", "internal.example/z2-weu-aks"})
        self.assertEqual(set(aliases.values()), targets)
        self.assertEqual(ours.outputs["ingressNames"], ["z1-weu-aks.internal.example", "z2-weu-aks.internal.example"])

    def test_traffic_manager_serves_private_endpoints_unprobed(self):
        ours = variant("example")
        addresses = {it.name: it.body["properties"]["aRecords"] for it in ours.all("Microsoft.Network/privateDnsZones/A")}
        for profile in ours.all("Microsoft.Network/trafficmanagerprofiles"):
            monitor = profile.body["properties"]["monitorConfig"]
            self.assertEqual((monitor["protocol"], monitor["path"]), ("HTTP", "/healthz"))
            self.assertIn((monitor["intervalInSeconds"], monitor["timeoutInSeconds"]), [(10, it) for it in range(5, 10)])
            self.assertNotIn("expectedStatusCodeRanges", monitor)
            for endpoint in profile.body["properties"]["endpoints"]:
                self.assertEqual(endpoint["properties"]["alwaysServe"], "Enabled")
                # A name that only our networks resolve further: Traffic Manager takes no private addresses.
                name, zone = endpoint["properties"]["target"].split(".", 1)
                (address,) = addresses[f"{zone}/{name}"]
                self.assertTrue(ipaddress.ip_address(address["ipv4Address"]).is_private)
        for profile in variant("least").all("Microsoft.Network/trafficmanagerprofiles"):
            self.assertIsNone(profile.body["properties"]["monitorConfig"]["path"])
            (endpoint,) = profile.body["properties"]["endpoints"]
            self.assertEqual((endpoint["properties"]["target"], endpoint["properties"]["alwaysServe"]), ("in.example", "Disabled"))


class Machines(unittest.TestCase):
    """The scale set."""

    def test_it_is_spread_healed_and_upgraded_in_batches(self):
        ours = variant("example")
        scale_set = ours.one("Microsoft.Compute/virtualMachineScaleSets")
        properties = scale_set.body["properties"]
        self.assertEqual((properties["orchestrationMode"], scale_set.body["zones"]), ("Flexible", ["1", "2", "3"]))
        self.assertEqual(properties["platformFaultDomainCount"], 1)
        self.assertEqual(properties["upgradePolicy"]["mode"], "Rolling")
        self.assertTrue(properties["automaticRepairsPolicy"]["enabled"])
        self.assertIn(seconds(properties["automaticRepairsPolicy"]["gracePeriod"]), range(600, 5401))
        self.assertEqual(scale_set.body["identity"]["type"], "UserAssigned")
        # Flexible scale sets take user-assigned identities alone.
        self.assertEqual(len(scale_set.body["identity"]["userAssignedIdentities"]), 1)

    def test_health_is_told_in_rich_states(self):
        health, *others = variant("example").machine()["extensionProfile"]["extensions"]
        self.assertEqual((health["properties"]["type"], health["properties"]["typeHandlerVersion"]), ("ApplicationHealthLinux", "2.0"))
        settings = health["properties"]["settings"]
        self.assertEqual((settings["protocol"], settings["port"], settings["requestPath"]), ("http", 8080, "/health/vmss"))
        self.assertIn(settings["intervalInSeconds"], range(5, 61))
        self.assertIn(settings["numberOfProbes"], range(1, 25))
        self.assertIn(settings["gracePeriod"], range(5, 7201))
        # One source of health for one scale set.
        self.assertNotIn("healthProbe", text(variant("example").machine()))
        self.assertEqual([it["properties"]["type"] for it in others], ["AzureMonitorLinuxAgent"])

    def test_a_machine_drains_before_it_is_deleted(self):
        for name in VARIANTS:
            ours = variant(name)
            profile = ours.machine()["scheduledEventsProfile"]["terminateNotificationProfile"]
            notice = seconds(profile["notBeforeTimeout"])
            self.assertTrue(profile["enable"])
            self.assertIn(notice, range(300, 901))
            drain = self.files(ours)["drain"]
            probe = ours.properties("Microsoft.Network/loadBalancers")["probes"][0]["properties"]
            self.assertGreater(drain["notice"], probe["intervalInSeconds"] * probe["probeThreshold"])
            self.assertLessEqual(drain["notice"] + drain["timeout"] + 60, notice)
            self.assertGreater(drain["stop"], drain["notice"] + drain["timeout"])
            self.assertGreaterEqual(drain["timeout"], 30)

    def files(self, ours):
        postern, unit = written(ours, "postern.toml"), written(ours, "drain.conf")
        pick = lambda pattern, source: int(re.search(pattern, source)[1])  # noqa: E731
        return {"drain": {"notice": pick(r'notice = "(\d+)s"', postern), "timeout": pick(r'\ntimeout = "(\d+)s"', postern),
                          "stop": pick(r"TimeoutStopSec=(\d+)s", unit)}}

    def test_it_is_trusted_encrypted_and_without_passwords(self):
        machine = variant("example").machine()
        security, linux = machine["securityProfile"], machine["osProfile"]["linuxConfiguration"]
        self.assertEqual((security["encryptionAtHost"], security["securityType"]), (True, "TrustedLaunch"))
        self.assertEqual(security["uefiSettings"], {"secureBootEnabled": True, "vTpmEnabled": True})
        self.assertTrue(linux["disablePasswordAuthentication"])
        self.assertNotIn("adminPassword", machine["osProfile"])
        image = machine["storageProfile"]["imageReference"]
        self.assertEqual((image["publisher"], image["offer"]), ("Canonical", "ubuntu-24_04-lts"))

    def test_its_interface_is_fast_and_in_the_pool(self):
        (interface,) = variant("example").machine()["networkProfile"]["networkInterfaceConfigurations"]
        self.assertTrue(interface["properties"]["enableAcceleratedNetworking"])
        (address,) = interface["properties"]["ipConfigurations"]
        (pool,) = address["properties"]["loadBalancerBackendAddressPools"]
        self.assertTrue(pool["id"].endswith("/backendAddressPools/postern"))

    def test_it_scales_out_by_any_signal_and_in_one_by_one_by_all(self):
        for name in VARIANTS:
            ours = variant(name)
            (profile,) = ours.properties("Microsoft.Insights/autoscaleSettings")["profiles"]
            metrics = {"Percentage CPU", "Network In Total", "Network Out Total"}
            for direction in ("Increase", "Decrease"):
                rules = [it for it in profile["rules"] if it["scaleAction"]["direction"] == direction]
                self.assertEqual({it["metricTrigger"]["metricName"] for it in rules}, metrics)
            notice = seconds(ours.machine()["scheduledEventsProfile"]["terminateNotificationProfile"]["notBeforeTimeout"])
            for rule in (it for it in profile["rules"] if it["scaleAction"]["direction"] == "Decrease"):
                self.assertEqual((rule["scaleAction"]["type"], rule["scaleAction"]["value"]), ("ChangeCount", "1"))
                self.assertGreater(seconds(rule["scaleAction"]["cooldown"]), notice)
            triggers = {it["metricTrigger"]["metricName"]: {} for it in profile["rules"]}
            for it in profile["rules"]:
                triggers[it["metricTrigger"]["metricName"]][it["metricTrigger"]["operator"]] = it["metricTrigger"]["threshold"]
            for metric, it in triggers.items():
                # So far apart that one machine less does not bring back the load that adds one.
                self.assertLess(it["LessThan"] * 2, it["GreaterThan"], metric)


class Rights(unittest.TestCase):
    """Who may do what, and nothing more."""

    def vault(self, ours, kind):
        (found,) = [it for it in ours.all("Microsoft.KeyVault/vaults") if f"-{kind}-" in it.name]
        return found

    def test_each_vault_grants_what_the_sidecar_does_there(self):
        ours = variant("example")
        signer, issuer, keeper = (ours.role(it) for it in ("signer", "issuer", "ticketKeeper"))
        self.assertEqual(ours.roles(self.vault(ours, "m").name), {CERTIFICATE_USER, issuer[0]})
        self.assertEqual(ours.roles(self.vault(ours, "c").name), {signer[0]})
        self.assertEqual(ours.roles(self.vault(ours, "t").name), {keeper[0]})
        without = variant("least")
        self.assertEqual(without.roles(self.vault(without, "m").name), {CERTIFICATE_USER})
        self.assertEqual(without.roles(self.vault(without, "c").name), {READER})
        self.assertEqual(len(without.all("Microsoft.KeyVault/vaults")), 2)
        officers = variant("most")
        self.assertIn(OFFICER, officers.roles(self.vault(officers, "m").name))
        self.assertNotIn(OFFICER, officers.roles(self.vault(officers, "t").name))

    def test_roles_of_ours_destroy_and_reveal_nothing(self):
        ours = variant("example")
        for symbol in ("signer", "issuer", "ticketKeeper"):
            _, actions = ours.role(symbol)
            self.assertFalse([it for it in actions if re.search(r"\*|delete|purge|backup|decrypt|import", it)])
        self.assertNotIn("getSecret", text(ours.role("signer")))
        for it in ours.all("Microsoft.Authorization/roleDefinitions"):
            self.assertEqual(it.body["properties"]["assignableScopes"], [evaluate.SCOPE + evaluate.GROUP])

    def test_machines_have_no_other_role(self):
        ours = variant("example")
        scopes = {it.scope.split("/providers/")[1].rsplit("/", 1)[0] for it in ours.all("Microsoft.Authorization/roleAssignments")}
        self.assertEqual(scopes, {
            "Microsoft.KeyVault/vaults", "Microsoft.Insights/dataCollectionRules",
            "Microsoft.Storage/storageAccounts/posternartifacts/blobServices/default/containers"})
        self.assertEqual(ours.roles("/containers/postern"), {BLOB_READER})

    def test_vaults_keep_what_is_deleted(self):
        for it in variant("example").all("Microsoft.KeyVault/vaults"):
            properties = it.body["properties"]
            self.assertTrue(properties["enableRbacAuthorization"] and properties["enablePurgeProtection"])
            self.assertEqual(properties["softDeleteRetentionInDays"], 90)
            self.assertLessEqual(len(it.name), 24)
        for it in variant("most").all("Microsoft.KeyVault/vaults"):
            self.assertLessEqual(len(it.name), 24)


class Watching(unittest.TestCase):
    """Alerts and logs."""

    def test_each_alert_says_what_to_do(self):
        readme = (FOLDER / "README.md").read_text()
        for name in VARIANTS:
            ours = variant(name)
            for it in ours.all("Microsoft.Insights/metricAlerts") + ours.all("Microsoft.Insights/activityLogAlerts"):
                anchor = it.body["properties"]["description"].rsplit("#", 1)[1]
                self.assertIn(f'<a id="{anchor}"></a>', readme)

    def test_what_the_platform_knows_is_alerted_on(self):
        metrics = {(it["metricNamespace"], it["metricName"])
                   for alert in variant("example").all("Microsoft.Insights/metricAlerts")
                   for it in alert.body["properties"]["criteria"]["allOf"]}
        self.assertEqual(metrics, {
            ("Microsoft.Network/loadBalancers", "VipAvailability"), ("Microsoft.Network/loadBalancers", "DipAvailability"),
            ("Microsoft.Network/privateLinkServices", "PLSNatPortsUsage"), ("Microsoft.Network/natGateways", "DatapathAvailability"),
            ("Microsoft.Compute/virtualMachineScaleSets", "Percentage CPU"),
            ("Microsoft.Compute/virtualMachineScaleSets", "VmAvailabilityMetric"),
            ("Microsoft.KeyVault/vaults", "Availability"), ("Microsoft.KeyVault/vaults", "ServiceApiResult")})

    def test_postern_s_own_rules_are_evaluated_as_they_are(self):
        ours = {}
        for group in variant("most").all("Microsoft.AlertsManagement/prometheusRuleGroups"):
            # Azure takes 20 rules in a group.
            self.assertLessEqual(len(group.body["properties"]["rules"]), 20)
            ours |= {it.get("alert") or it["record"]: it for it in group.body["properties"]["rules"]}
        theirs = {}
        for path in (FOLDER.parent / "watch" / "rules").glob("*.yaml"):
            for group in yaml.safe_load(path.read_text())["groups"]:
                theirs |= {it.get("alert") or it["record"]: it for it in group["rules"]}
        self.assertEqual(set(ours), set(theirs))
        for name, rule in theirs.items():
            self.assertEqual(ours[name]["expression"], rule["expr"])
            if "alert" in rule:
                self.assertRegex(ours[name]["for"] or "PT0M", r"^PT\d+[HMS]$")
                self.assertEqual(ours[name]["severity"], {"page": 1, "ticket": 3}[rule["labels"]["severity"]])
                self.assertEqual(len(ours[name]["actions"]), 1)

    def test_no_alert_is_about_a_customers_key(self):
        alerts = json.dumps([it.body for it in variant("example").all("Microsoft.Insights/metricAlerts")]).lower()
        self.assertNotRegex(alerts, "customer.?key|cmk")

    def test_logs_and_metrics_are_kept(self):
        scopes = {it.scope.split("/providers/")[1].split("/")[1]
                  for it in variant("example").all("Microsoft.Insights/diagnosticSettings")}
        self.assertEqual(scopes, {
            "loadBalancers", "privateLinkServices", "networkSecurityGroups", "virtualNetworks", "vaults",
            "trafficmanagerprofiles", "virtualMachineScaleSets", "autoscaleSettings"})


if __name__ == "__main__":
    unittest.main()
