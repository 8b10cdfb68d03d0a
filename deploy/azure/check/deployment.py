"""The deployment, computed with other parameters than the example's where a test asks for it."""

import base64
import functools
import json
import pathlib

import evaluate
import yaml

FOLDER = pathlib.Path(__file__).resolve().parent.parent

# Between them, every branch of every template is taken.
VARIANTS = {
    "example": {},
    "least": {
        "approvedSubscriptions": ["22222222-2222-2222-2222-222222222222"],
        "artifactAccount": "",
        "existingVaultZoneId": "/subscriptions/x/resourceGroups/hub/providers/Microsoft.Network/privateDnsZones/z",
        "firewallAddress": "10.0.0.4",
        "ingresses": [{"zone": "1", "endpoints": [{"name": "a", "address": "in.example", "enabled": True, "probed": True}]}],
        "issueClientCertificate": False,
        "maxSurge": False,
        "pushMetrics": False,
        "repairs": False,
        "sharedTickets": False,
        "trafficManagerProbe": {"protocol": "TCP", "port": 443, "path": ""},
        "visibleTo": ["22222222-2222-2222-2222-222222222222"],
    },
    "most": {
        "actionGroupIds": ["/subscriptions/x/resourceGroups/y/providers/microsoft.insights/actionGroups/z"],
        "caTrustedForHours": 0,
        "certificateOfficers": ["33333333-3333-3333-3333-333333333333"],
        "drainSeconds": 840,
        "instancesMax": 500,
        "natAddresses": 8,
        "operatorAddresses": ["192.0.2.7/32"],
        "peerNetworkIds": ["/subscriptions/x/resourceGroups/aks/providers/Microsoft.Network/virtualNetworks/n"],
        "prefix": "abcdefgh",
        "probeInterval": 15,
        "probeThreshold": 3,
        "sshSources": ["10.9.0.0/24"],
        "terminateNoticeMinutes": 5,
    },
}


class Deployment:
    """What Azure would be asked for."""

    def __init__(self, **changes):
        template, given = evaluate.parameters(FOLDER / "main.bicepparam")
        self.template = evaluate.Template(template, given | changes)
        self.resources, self.outputs = self.template.resources, evaluate.settled(self.template.results)

    def all(self, type_):
        """The resources of a type."""
        return [it for it in self.resources if it.type.lower() == type_.lower()]

    def one(self, type_, symbol=None):
        """The only one of a type, or of a name in its template."""
        found = [it for it in self.all(type_) if symbol in (None, it.symbol)]
        assert len(found) == 1, f"{len(found)} of {type_} {symbol or ''}"
        return found[0]

    def properties(self, type_, symbol=None):
        return self.one(type_, symbol).body["properties"]

    def machine(self):
        """What the scale set makes machines of."""
        return self.properties("Microsoft.Compute/virtualMachineScaleSets")["virtualMachineProfile"]

    def cloud_init(self):
        """The text that a machine is given."""
        return base64.b64decode(self.machine()["osProfile"]["customData"]).decode()

    def roles(self, scope):
        """The roles that the machines have at the resource whose id ends so: the last part of each role's id."""
        found = [it for it in self.all("Microsoft.Authorization/roleAssignments") if it.scope.endswith(scope)]
        return {it.body["properties"]["roleDefinitionId"].rsplit("/", 1)[1] for it in found}

    def role(self, symbol):
        """The id of a role of ours, and what it allows."""
        found = self.one("Microsoft.Authorization/roleDefinitions", symbol)
        return found.name, found.body["properties"]["permissions"][0]["dataActions"]


def files(ours):
    """What cloud-init writes: path to content."""
    found = {}
    for it in yaml.safe_load(ours.cloud_init())["write_files"]:
        encoded = it.get("encoding") == "b64"
        found[it["path"]] = base64.b64decode(it["content"]).decode() if encoded else it["content"]
    return found


def written(ours, name):
    """The one file of that name."""
    (found,) = [content for path, content in files(ours).items() if path.endswith(f"/{name}")]
    return found


@functools.cache
def variant(name):
    return Deployment(**VARIANTS[name])


def text(value):
    return json.dumps(value, ensure_ascii=False)
