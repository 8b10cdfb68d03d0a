// Private DNS: the vaults' private addresses, and the internal names of the ingresses.

@description('The internal domain: internal.<domain>.')
param internalDomain string

@description('Networks that resolve these names: ours, and those of the AKS clusters and of account routing.')
param networkIds string[]

@description('An existing zone privatelink.vaultcore.azure.net, in a hub. Empty: one is made.')
param existingVaultZoneId string

@description('Aliases in the internal domain: { name, target }.')
param aliases object[]

@description('Addresses in the internal domain, such as account routing: { name, addresses }.')
param hosts object[]

@description('Seconds that an answer may be kept.')
@minValue(1)
@maxValue(3600)
param ttl int

@description('Tags of every resource.')
param tags object

// Not environment(): its suffix is the public name, and this zone has a name of its own.
var vaultZoneName = 'privatelink.vaultcore.azure.net'

resource vaultZone 'Microsoft.Network/privateDnsZones@2020-06-01' = if (empty(existingVaultZoneId)) {
  name: vaultZoneName
  location: 'global'
  tags: tags
}

resource vaultZoneLinks 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2020-06-01' = [for id in networkIds: if (empty(existingVaultZoneId)) {
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

resource internalZone 'Microsoft.Network/privateDnsZones@2020-06-01' = {
  name: internalDomain
  location: 'global'
  tags: tags
}

resource internalZoneLinks 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2020-06-01' = [for id in networkIds: {
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

resource aliasRecords 'Microsoft.Network/privateDnsZones/CNAME@2020-06-01' = [for alias in aliases: {
  parent: internalZone
  name: alias.name
  properties: {
    ttl: ttl
    cnameRecord: {
      cname: alias.target
    }
  }
}]

resource hostRecords 'Microsoft.Network/privateDnsZones/A@2020-06-01' = [for host in hosts: {
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
