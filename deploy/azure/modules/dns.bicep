// Names: private DNS for the vaults' private addresses and for the ingresses, each by a Traffic Manager profile:
//
//   z1-weu-aks.internal.example ─CNAME─▶ postern-z1-weu-aks-….trafficmanager.net
//     ─CNAME─▶ current-z1-weu-aks.internal.example ─A─▶ 10.1.0.5

import { host, ingress, probeSettings } from '../types.bicep'

@description('Put before the name of every profile.')
param prefix string

@description('The region, as internal names have it.')
param regionCode string

@description('The ingresses.')
param ingresses ingress[]

@description('What Traffic Manager asks of endpoints that it can probe.')
param probe probeSettings

@description('The internal domain: internal.<domain>.')
param internalDomain string

@description('Networks that resolve these names: ours, and those of the AKS clusters and of account routing.')
param networkIds string[]

@description('An existing zone privatelink.vaultcore.azure.net, in a hub. Empty: one is made.')
param existingVaultZoneId string

@description('Addresses in the internal domain, such as account routing.')
param hosts host[]

@description('Seconds that an answer may be kept.')
@minValue(1)
@maxValue(3600)
param ttl int

@description('Where logs and metrics go.')
param workspaceId string

@description('Tags of every resource.')
param tags object

var names = map(ingresses, it => 'z${it.zone}-${regionCode}-aks')

// Unique in trafficmanager.net.
var profiles = map(names, name => '${prefix}-${name}-${uniqueString(resourceGroup().id)}')

// Traffic Manager takes no private address: private endpoints have names here.
var endpointHosts = flatten(map(ingresses, it => map(filter(it.endpoints, endpoint => !endpoint.probed), endpoint => {
  name: '${endpoint.name}-z${it.zone}-${regionCode}-aks'
  addresses: [endpoint.address]
})))

// Not environment(): its suffix is the public name, and this zone has a name of its own.
var vaultZoneName = 'privatelink.vaultcore.azure.net'

module trafficManagers 'traffic-manager.bicep' = [for (it, i) in ingresses: {
  name: 'traffic-manager-${it.zone}'
  params: {
    name: profiles[i]
    internalName: '${names[i]}.${internalDomain}'
    ttl: ttl
    endpoints: it.endpoints
    probe: probe
    workspaceId: workspaceId
    tags: tags
  }
}]

resource vaultZone 'Microsoft.Network/privateDnsZones@2024-06-01' = if (empty(existingVaultZoneId)) {
  name: vaultZoneName
  location: 'global'
  tags: tags
}

resource vaultZoneLinks 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for id in networkIds: if (empty(existingVaultZoneId)) {
  parent: vaultZone
  name: uniqueString(id)
  location: 'global'
  tags: tags
  properties: {
    registrationEnabled: false
    virtualNetwork: {
      id: id
    }
  }
}]

resource internalZone 'Microsoft.Network/privateDnsZones@2024-06-01' = {
  name: internalDomain
  location: 'global'
  tags: tags
}

resource internalZoneLinks 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for id in networkIds: {
  parent: internalZone
  name: uniqueString(id)
  location: 'global'
  tags: tags
  properties: {
    registrationEnabled: false
    virtualNetwork: {
      id: id
    }
  }
}]

resource aliasRecords 'Microsoft.Network/privateDnsZones/CNAME@2024-06-01' = [for (name, i) in names: {
  parent: internalZone
  name: name
  properties: {
    ttl: ttl
    cnameRecord: {
      // What the profile answers to; outputs of a loop of modules cannot be looped over.
      cname: '${profiles[i]}.trafficmanager.net'
    }
  }
}]

resource hostRecords 'Microsoft.Network/privateDnsZones/A@2024-06-01' = [for host in concat(hosts, endpointHosts): {
  parent: internalZone
  name: host.name
  properties: {
    ttl: ttl
    aRecords: map(host.addresses, address => {
      ipv4Address: address
    })
  }
}]

@description('The zone of the vaults\' private addresses.')
output vaultZoneId string = empty(existingVaultZoneId) ? vaultZone.id : existingVaultZoneId

@description('The internal names of the ingresses.')
output ingressNames array = map(names, name => '${name}.${internalDomain}')
