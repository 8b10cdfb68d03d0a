// Lets the machines write metrics through one data collection rule.

@description('The name of the rule.')
param ruleName string

@description('The machines\' identity.')
param machinePrincipalId string

// Monitoring Metrics Publisher.
var publisherRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '3913510d-42f4-4e42-8a64-420c390055eb')

resource rule 'Microsoft.Insights/dataCollectionRules@2022-06-01' existing = {
  name: ruleName
}

resource access 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(rule.id, machinePrincipalId, publisherRole)
  scope: rule
  properties: {
    principalId: machinePrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: publisherRole
  }
}
