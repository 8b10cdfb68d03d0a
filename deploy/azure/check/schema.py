"""Writes `schema.json`: what each resource type of the deployment may have, by the models of Azure's own Python SDK.

    python schema.py OUT         in an environment with requirements.txt

Taken over are names, types, known words, and what is required or read-only. The pinned packages speak the versions of the
interfaces that the deployment names; of Microsoft.Monitor/accounts, an earlier one.
"""

import importlib
import json
import re
import sys

NETWORK, DNS, COLLECTION = "network.models", "privatedns.models", "monitor.v2022_06_01.models"
AUTHORIZATION = "authorization.v2022_04_01.models"

# Resource type: module below azure.mgmt, and the model that is sent.
ROOTS = {
    "Microsoft.Authorization/roleAssignments": (AUTHORIZATION, "RoleAssignmentCreateParameters"),
    "Microsoft.Authorization/roleDefinitions": (AUTHORIZATION, "RoleDefinition"),
    "Microsoft.Compute/virtualMachineScaleSets": ("compute.v2024_07_01.models", "VirtualMachineScaleSet"),
    "Microsoft.Insights/activityLogAlerts": ("monitor.v2020_10_01.models", "ActivityLogAlertResource"),
    "Microsoft.Insights/autoscaleSettings": ("monitor.v2022_10_01.models", "AutoscaleSettingResource"),
    "Microsoft.Insights/dataCollectionEndpoints": (COLLECTION, "DataCollectionEndpointResource"),
    "Microsoft.Insights/dataCollectionRuleAssociations": (COLLECTION, "DataCollectionRuleAssociationProxyOnlyResource"),
    "Microsoft.Insights/dataCollectionRules": (COLLECTION, "DataCollectionRuleResource"),
    "Microsoft.Insights/diagnosticSettings": ("monitor.v2021_05_01_preview.models", "DiagnosticSettingsResource"),
    "Microsoft.Insights/metricAlerts": ("monitor.v2018_03_01.models", "MetricAlertResource"),
    "Microsoft.KeyVault/vaults": ("keyvault.v2023_07_01.models", "VaultCreateOrUpdateParameters"),
    "Microsoft.ManagedIdentity/userAssignedIdentities": ("msi.v2023_01_31.models", "Identity"),
    "Microsoft.Monitor/accounts": ("monitor.v2021_06_03_preview.models", "AzureMonitorWorkspaceResource"),
    "Microsoft.Network/loadBalancers": (NETWORK, "LoadBalancer"),
    "Microsoft.Network/natGateways": (NETWORK, "NatGateway"),
    "Microsoft.Network/networkSecurityGroups": (NETWORK, "NetworkSecurityGroup"),
    "Microsoft.Network/privateDnsZones": (DNS, "PrivateZone"),
    "Microsoft.Network/privateDnsZones/A": (DNS, "RecordSet"),
    "Microsoft.Network/privateDnsZones/CNAME": (DNS, "RecordSet"),
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks": (DNS, "VirtualNetworkLink"),
    "Microsoft.Network/privateEndpoints": (NETWORK, "PrivateEndpoint"),
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups": (NETWORK, "PrivateDnsZoneGroup"),
    "Microsoft.Network/privateLinkServices": (NETWORK, "PrivateLinkService"),
    "Microsoft.Network/publicIPAddresses": (NETWORK, "PublicIPAddress"),
    "Microsoft.Network/routeTables": (NETWORK, "RouteTable"),
    "Microsoft.Network/trafficmanagerprofiles": ("trafficmanager.models", "Profile"),
    "Microsoft.Network/virtualNetworks": (NETWORK, "VirtualNetwork"),
    "Microsoft.OperationalInsights/workspaces": ("loganalytics.models", "Workspace"),
}
# No stable package has these; written by hand from Azure's published index of types, version 2023-03-01.
BY_HAND = {
    "Microsoft.AlertsManagement/prometheusRuleGroups": {
        "location": {"type": "string", "required": True},
        "tags": {"type": {"map": "string"}},
        "properties": {"required": True, "type": {"members": {
            "clusterName": {"type": "string"}, "description": {"type": "string"}, "enabled": {"type": "bool"},
            "interval": {"type": "string"}, "scopes": {"type": {"list": "string"}, "required": True},
            "rules": {"required": True, "type": {"list": {"members": {
                "alert": {"type": "string"}, "record": {"type": "string"}, "enabled": {"type": "bool"},
                "expression": {"type": "string", "required": True}, "for": {"type": "string"}, "severity": {"type": "int"},
                "labels": {"type": {"map": "string"}}, "annotations": {"type": {"map": "string"}},
                "resolveConfiguration": {"type": {"members": {
                    "autoResolved": {"type": "bool"}, "timeToResolve": {"type": "string"}}}},
                "actions": {"type": {"list": {"members": {
                    "actionGroupId": {"type": "string"}, "actionProperties": {"type": {"map": "string"}}}}}},
            }}}},
        }}},
    },
}
PLAIN = {"str": "string", "int": "int", "float": "number", "bool": "bool", "object": "any", "iso-8601": "string", "duration": "string"}
REQUIRED, READ_ONLY = "required", "read_only"
KNOWN = r":ivar {}:(?:(?!\n    :).)*?Known values\s+are:\s+(.*?)\.?\n    :vartype"


class Models:
    """The models of one module, and what they refer to."""

    def __init__(self, module, found):
        self.module = importlib.import_module(f"azure.mgmt.{module}")
        self.prefix, self.found = module.removesuffix(".models"), found

    def reference(self, model):
        name = f"{self.prefix}.{model.__name__}"
        if name not in self.found:
            self.found[name] = {}
            self.found[name].update(self.members(model))
        return {"model": name}

    def members(self, model):
        made = {}
        for name, attribute in model._attribute_map.items():
            *outer, wire = re.split(r"(?<!\\)\.", attribute["key"])
            inside = made
            for key in outer:
                inside = inside.setdefault(key, {"type": {"members": {}}})["type"]["members"]
            wire = wire.replace("\\.", ".")
            rules = model._validation.get(name, {})
            if rules.get("readonly"):
                inside[wire] = {READ_ONLY: True}
                continue
            inside[wire] = {"type": self.attribute(attribute["type"], model, name)}
            inside[wire] |= {REQUIRED: True} if rules.get("required") else {}
        return made

    def attribute(self, text, model, name):
        if text[0] in "[{":
            return {"list" if text[0] == "[" else "map": self.attribute(text[1:-1], model, name)}
        if text in PLAIN:
            words = re.search(KNOWN.format(re.escape(name)), model.__doc__ or "", re.S)
            return {"words": sorted(re.findall(r'"([^"]+)"', words[1]))} if words and text == "str" else PLAIN[text]
        inner = getattr(self.module, text)
        kinds = getattr(inner, "_subtype_map", {})
        if kinds:
            key = next(iter(kinds))
            wire = inner._attribute_map[key]["key"].replace("\\.", ".")
            of = {word: self.reference(getattr(self.module, it)) for word, it in kinds[key].items()}
            return {"by": wire, "of": of}
        return self.reference(inner)


def main(out):
    models = {}
    roots = {type_: Models(module, models).reference(getattr(importlib.import_module(f"azure.mgmt.{module}"), name))
             for type_, (module, name) in ROOTS.items()}
    roots |= {type_: {"members": members} for type_, members in BY_HAND.items()}
    lines = [f"{json.dumps(name)}: {json.dumps(models[name], sort_keys=True)}" for name in sorted(models)]
    with open(out, "w", encoding="utf-8") as file:
        file.write('{"roots": ' + json.dumps(roots, sort_keys=True) + ',\n"models": {\n' + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    main(sys.argv[1])
