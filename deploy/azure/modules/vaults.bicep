// Three vaults, one for each thing that the machines may do, since roles are given for a whole vault:
//
//   m  server and client certificates: read, with their keys; new versions of the client certificate
//   c  the internal CA: its certificate is read, its key signs and never leaves
//   t  session-ticket keys: the only secrets that a machine may write

@description('Put before the name of every vault.')
@maxLength(8)
param prefix string

@description('Region.')
param location string

@description('\'premium\' keeps the keys of the first two in a hardware security module.')
@allowed([
  'standard'
  'premium'
])
param sku string

@description('Whether the sidecars issue the client certificate.')
param issueClientCertificate bool

@description('Whether session-ticket keys are shared; without, there is no third vault.')
param sharedTickets bool

@description('The subnet of their private endpoints.')
param endpointsSubnetId string

@description('The private DNS zone that their private addresses are entered in.')
param dnsZoneId string

@description('Public addresses (CIDR) of operators that reach them from outside.')
param operatorAddresses string[]

@description('The machines\' identity.')
param machinePrincipalId string

@description('Groups or people (object ids) that create and import certificates.')
param officers string[]

@description('Where audit logs and metrics go.')
param workspaceId string

@description('Tags of every resource.')
param tags object

// Vaults are unique in Azure and have 24 characters at most, of which these are 13.
var unique = uniqueString(resourceGroup().id)
var mainVault = '${prefix}-m-${unique}'
var caVault = '${prefix}-c-${unique}'
var ticketVault = '${prefix}-t-${unique}'
var suffix = environment().suffixes.keyvaultDns

// Built-in roles: Key Vault Reader, Key Vault Certificate User.
var readerRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '21090545-7ca7-4776-b22c-e363652d74d2')
var certificateUserRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'db79e9a7-68ee-4b58-9aeb-b90e7c24fcba')

module roles 'roles.bicep' = {
  name: 'roles'
  params: {
    prefix: prefix
  }
}

module main 'vault.bicep' = {
  name: 'vault-main'
  params: {
    name: mainVault
    location: location
    sku: sku
    endpointsSubnetId: endpointsSubnetId
    dnsZoneId: dnsZoneId
    operatorAddresses: operatorAddresses
    machinePrincipalId: machinePrincipalId
    machineRoles: issueClientCertificate ? [
      certificateUserRole
      roles.outputs.issuerId
    ] : [
      certificateUserRole
    ]
    officers: officers
    workspaceId: workspaceId
    tags: tags
  }
}

module ca 'vault.bicep' = {
  name: 'vault-ca'
  params: {
    name: caVault
    location: location
    sku: sku
    endpointsSubnetId: endpointsSubnetId
    dnsZoneId: dnsZoneId
    operatorAddresses: operatorAddresses
    machinePrincipalId: machinePrincipalId
    machineRoles: [
      issueClientCertificate ? roles.outputs.signerId : readerRole
    ]
    officers: officers
    workspaceId: workspaceId
    tags: tags
  }
}

module tickets 'vault.bicep' = if (sharedTickets) {
  name: 'vault-tickets'
  params: {
    name: ticketVault
    location: location
    sku: 'standard'
    endpointsSubnetId: endpointsSubnetId
    dnsZoneId: dnsZoneId
    operatorAddresses: operatorAddresses
    machinePrincipalId: machinePrincipalId
    machineRoles: [
      roles.outputs.ticketKeeperId
    ]
    officers: []
    workspaceId: workspaceId
    tags: tags
  }
}

@description('The vault of server and client certificates.')
output mainName string = mainVault

@description('The vault of the internal CA.')
output caName string = caVault

@description('The first vault\'s URL.')
output mainUrl string = 'https://${mainVault}${suffix}'

@description('The second\'s.')
output caUrl string = 'https://${caVault}${suffix}'

@description('The third\'s, whether it is there or not.')
output ticketsUrl string = 'https://${ticketVault}${suffix}'

@description('All that are there: { name, id }.')
output all array = concat([
  {
    name: 'main'
    id: main.outputs.id
  }
  {
    name: 'ca'
    id: ca.outputs.id
  }
], sharedTickets ? [
  {
    name: 'tickets'
    id: resourceId('Microsoft.KeyVault/vaults', ticketVault)
  }
] : [])
