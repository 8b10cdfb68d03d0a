"""Holds a resource against `schema.json`: what is unknown, read-only, missing, of a wrong type or no word of its set."""

import json
import pathlib

SCHEMA = json.loads((pathlib.Path(__file__).parent / "schema.json").read_text())
PLAIN = {"string": str, "int": int, "number": (int, float), "bool": bool}

# Types and versions that are in the published index of Azure's types (azure/bicep-types-az).
VERSIONS = {
    "Microsoft.AlertsManagement/prometheusRuleGroups": "2023-03-01",
    "Microsoft.Authorization/roleAssignments": "2022-04-01",
    "Microsoft.Authorization/roleDefinitions": "2022-04-01",
    "Microsoft.Compute/virtualMachineScaleSets": "2024-07-01",
    "Microsoft.Insights/activityLogAlerts": "2020-10-01",
    "Microsoft.Insights/autoscaleSettings": "2022-10-01",
    "Microsoft.Insights/dataCollectionEndpoints": "2022-06-01",
    "Microsoft.Insights/dataCollectionRuleAssociations": "2022-06-01",
    "Microsoft.Insights/dataCollectionRules": "2022-06-01",
    "Microsoft.Insights/diagnosticSettings": "2021-05-01-preview",
    "Microsoft.Insights/metricAlerts": "2018-03-01",
    "Microsoft.KeyVault/vaults": "2023-07-01",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "2023-01-31",
    "Microsoft.Monitor/accounts": "2023-04-03",
    "Microsoft.Network/trafficmanagerprofiles": "2022-04-01",
    "Microsoft.OperationalInsights/workspaces": "2022-10-01",
}
OF_PROVIDER = {"Microsoft.Network/privateDnsZones": "2024-06-01", "Microsoft.Network/": "2024-05-01"}


def version(type_):
    """The version that resources of a type are asked for in."""
    return VERSIONS.get(type_) or next(it for start, it in OF_PROVIDER.items() if type_.startswith(start))


def faults(resource):
    """What is wrong with it, one line each."""
    where = f"{resource.file}: {resource.type} {resource.symbol}"
    if resource.type not in SCHEMA["roots"]:
        return [f"{where}: no such type is known"]
    found = [] if resource.version == version(resource.type) else [f"{where}: {resource.version} is not {version(resource.type)}"]
    return found + list(of(SCHEMA["roots"][resource.type], resource.body, where))


def of(type_, value, where):
    """Walks a type and a value side by side."""
    if value is None or type_ == "any":
        return
    if isinstance(type_, str):
        right = isinstance(value, PLAIN[type_]) and (type_ == "bool" or not isinstance(value, bool))
        if not right:
            yield f"{where}: {value!r} is no {type_}"
    elif "words" in type_:
        if value not in type_["words"]:
            yield f"{where}: {value!r} is none of {type_['words']}"
    elif "list" in type_:
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for i, it in enumerate(value):
            yield from of(type_["list"], it, f"{where}[{i}]")
    elif "map" in type_:
        for key, it in value.items():
            yield from of(type_["map"], it, f"{where}.{key}")
    else:
        yield from members(type_, value, where)


def members(type_, value, where):
    if "by" in type_:
        kind = value.get(type_["by"])
        if kind not in type_["of"]:
            yield f"{where}: {type_['by']} {kind!r} is none of {sorted(type_['of'])}"
            return
        type_ = type_["of"][kind]
    known = SCHEMA["models"][type_["model"]] if "model" in type_ else type_["members"]
    for key, it in value.items():
        if key not in known:
            yield f"{where}: there is no `{key}`; there are {sorted(known)}"
        elif known[key].get("read_only"):
            yield f"{where}: `{key}` is read-only"
        else:
            yield from of(known[key]["type"], it, f"{where}.{key}")
    for key, it in known.items():
        if it.get("required") and value.get(key) is None:
            yield f"{where}: `{key}` is missing"
