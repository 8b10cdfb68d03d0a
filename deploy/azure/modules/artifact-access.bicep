// Lets the machines read the programs from a storage account, with their identity and no key.

@description('The storage account.')
param account string

@description('The container in it.')
param container string

@description('The machines\' identity.')
param machinePrincipalId string

// Storage Blob Data Reader.
var readerRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1')

resource storage 'Microsoft.Storage/storageAccounts@2023-05-01' existing = {
  name: account
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' existing = {
  parent: storage
  name: 'default'
}

resource programs 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' existing = {
  parent: blobs
  name: container
}

resource access 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(programs.id, machinePrincipalId, readerRole)
  scope: programs
  properties: {
    principalId: machinePrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: readerRole
  }
}
