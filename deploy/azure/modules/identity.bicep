// Who the machines are towards Azure. There is no secret: tokens come from the instance's metadata service, which the
// unit of the data plane is fenced off from.

@description('Put before the name of every resource.')
param prefix string

@description('Region.')
param location string

@description('Tags of every resource.')
param tags object

resource machine 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${prefix}-machine'
  location: location
  tags: tags
}

@description('The identity, as the scale set names it.')
output id string = machine.id

@description('The identity, as programs on the machine name it.')
output clientId string = machine.properties.clientId

@description('The identity, as role assignments name it.')
output principalId string = machine.properties.principalId
