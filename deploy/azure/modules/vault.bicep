// One key vault: closed to the network but for its private endpoint, and to everyone but who has a role in it.

@description('Its name: unique in Azure, 3 to 24 characters.')
@minLength(3)
@maxLength(24)
param name string

@description('Region.')
param location string

@description('\'premium\' keeps keys in a hardware security module.')
@allowed([
  'standard'
  'premium'
])
param sku string

@description('The subnet of its private endpoint.')
param endpointsSubnetId string

@description('The private DNS zone that its private address is entered in.')
param dnsZoneId string

@description('Public addresses (CIDR) of operators that reach it from outside. Empty: nobody does.')
param operatorAddresses string[]

@description('The machines\' identity.')
param machinePrincipalId string

@description('The roles (resource ids) that the machines have in it.')
param machineRoles string[]

@description('Groups or people (object ids) that create and import certificates in it.')
param officers string[]

@description('Where audit logs and metrics go.')
param workspaceId string

@description('Tags of every resource.')
param tags object

// Key Vault Certificates Officer.
var officerRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'a4417e6f-fecd-4de8-b567-7b0420556985')

resource vault 'Microsoft.KeyVault/vaults@2023-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: sku
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    enabledForDeployment: false
    enabledForDiskEncryption: false
    enabledForTemplateDeployment: false
    publicNetworkAccess: empty(operatorAddresses) ? 'Disabled' : 'Enabled'
    networkAcls: {
      bypass: 'None'
      defaultAction: 'Deny'
      ipRules: [for address in operatorAddresses: {
        value: address
      }]
      virtualNetworkRules: []
    }
  }
}

resource endpoint 'Microsoft.Network/privateEndpoints@2024-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    subnet: {
      id: endpointsSubnetId
    }
    privateLinkServiceConnections: [
      {
        name: 'vault'
        properties: {
          privateLinkServiceId: vault.id
          groupIds: [
            'vault'
          ]
        }
      }
    ]
  }
}

resource endpointDns 'Microsoft.Network/privateEndpoints/privateDnsZoneGroups@2024-05-01' = {
  parent: endpoint
  name: 'default'
  properties: {
    privateDnsZoneConfigs: [
      {
        name: 'vault'
        properties: {
          privateDnsZoneId: dnsZoneId
        }
      }
    ]
  }
}

resource machineAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for role in machineRoles: {
  name: guid(vault.id, machinePrincipalId, role)
  scope: vault
  properties: {
    principalId: machinePrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: role
  }
}]

resource officerAccess 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for officer in officers: {
  name: guid(vault.id, officer, officerRole)
  scope: vault
  properties: {
    principalId: officer
    roleDefinitionId: officerRole
  }
}]

resource audit 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: vault
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'audit'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

@description('The vault.')
output id string = vault.id

@description('Its name.')
output name string = vault.name
