// Who the machines are towards Azure. There is no secret: tokens come from the instance's metadata service, which the
// unit of the data plane is fenced off from.

@description('Put before the name of every resource.')
param prefix string

@description('Region.')
param location string

@description('The storage account that the programs are in; empty if they are elsewhere.')
param artifactAccount string

@description('Its container.')
param artifactContainer string

@description('Its resource group.')
param artifactResourceGroup string

@description('The data collection rule that metrics are written through.')
param metricsRuleName string

@description('Tags of every resource.')
param tags object

resource machine 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${prefix}-machine'
  location: location
  tags: tags
}

module artifactAccess 'artifact-access.bicep' = if (!empty(artifactAccount)) {
  name: 'artifact-access'
  scope: resourceGroup(artifactResourceGroup)
  params: {
    account: artifactAccount
    container: artifactContainer
    machinePrincipalId: machine.properties.principalId
  }
}

module metricsAccess 'metrics-access.bicep' = {
  name: 'metrics-access'
  params: {
    ruleName: metricsRuleName
    machinePrincipalId: machine.properties.principalId
  }
}

@description('The identity, as the scale set names it.')
output id string = machine.id

@description('The identity, as programs on the machine name it.')
output clientId string = machine.properties.clientId

@description('The identity, as role assignments name it.')
output principalId string = machine.properties.principalId
