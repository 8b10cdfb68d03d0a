// Roles for what the sidecar does and no built-in role grants alone: those that sign, issue or write secrets may also
// decrypt, delete or purge. Each is assignable in this resource group only.

@description('Put before the name of every role.')
param prefix string

var inThisGroup = [
  resourceGroup().id
]

// Names of roles are unique in a tenant.
var suffix = uniqueString(resourceGroup().id)

resource signer 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, 'postern-ca-signer')
  properties: {
    roleName: '${prefix} CA signer ${suffix}'
    description: 'Read the internal CA\'s certificate and sign with its key, which stays in the vault.'
    type: 'CustomRole'
    assignableScopes: inThisGroup
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.KeyVault/vaults/certificates/read'
          'Microsoft.KeyVault/vaults/keys/sign/action'
        ]
        notDataActions: []
      }
    ]
  }
}

resource issuer 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, 'postern-certificate-issuer')
  properties: {
    roleName: '${prefix} certificate issuer ${suffix}'
    description: 'Begin, cancel and complete (merge) new versions of certificates. Reading is another role.'
    type: 'CustomRole'
    assignableScopes: inThisGroup
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.KeyVault/vaults/certificates/create/action'
          'Microsoft.KeyVault/vaults/certificates/update/action'
        ]
        notDataActions: []
      }
    ]
  }
}

resource ticketKeeper 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, 'postern-ticket-keeper')
  properties: {
    roleName: '${prefix} ticket keeper ${suffix}'
    description: 'List, read and add versions of secrets: the session-ticket keys that the fleet shares.'
    type: 'CustomRole'
    assignableScopes: inThisGroup
    permissions: [
      {
        actions: []
        notActions: []
        dataActions: [
          'Microsoft.KeyVault/vaults/secrets/readMetadata/action'
          'Microsoft.KeyVault/vaults/secrets/getSecret/action'
          'Microsoft.KeyVault/vaults/secrets/setSecret/action'
        ]
        notDataActions: []
      }
    ]
  }
}

@description('Read a CA certificate and sign with its key.')
output signerId string = signer.id

@description('Make new versions of certificates.')
output issuerId string = issuer.id

@description('Read and add versions of secrets.')
output ticketKeeperId string = ticketKeeper.id
