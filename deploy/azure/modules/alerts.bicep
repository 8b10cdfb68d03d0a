// What the platform knows and Postern cannot: its own symptoms are alerted on from its metrics (deploy/watch). There is
// no alert for customers who take their key away: that is their right, and answered 403.

@description('Put before the name of every resource.')
param prefix string

@description('Action groups (resource ids) that are told. Empty: alerts are only shown.')
param actionGroupIds string[]

@description('Where the pages are that say what to do: the anchor of an alert\'s name is put behind it.')
param runbook string

@description('The load balancer.')
param balancerId string

@description('The Private Link Service.')
param serviceId string

@description('The scale set.')
param scaleSetId string

@description('The NAT gateway; empty where there is none.')
param natGatewayId string

@description('The vaults: { name, id }.')
param vaults object[]

@description('Tags of every resource.')
param tags object

var actions = map(actionGroupIds, id => {
  actionGroupId: id
})

var ofService = [
  {
    name: 'data-path-down'
    says: 'The load balancer cannot reach the data port of the machines: no customer is served.'
    severity: 0
    scope: balancerId
    namespace: 'Microsoft.Network/loadBalancers'
    metric: 'VipAvailability'
    operator: 'LessThan'
    threshold: 90
    aggregation: 'Average'
  }
  {
    name: 'machines-not-ready'
    says: 'Fewer than 60 % of the health probes are answered with 200.'
    severity: 1
    scope: balancerId
    namespace: 'Microsoft.Network/loadBalancers'
    metric: 'DipAvailability'
    operator: 'LessThan'
    threshold: 60
    aggregation: 'Average'
  }
  {
    name: 'nat-ports-running-out'
    says: 'The Private Link Service has used up most ports of its addresses: new connections will fail.'
    severity: 1
    scope: serviceId
    namespace: 'Microsoft.Network/privateLinkServices'
    metric: 'PLSNatPortsUsage'
    operator: 'GreaterThan'
    threshold: 80
    aggregation: 'Average'
  }
  {
    name: 'machines-busy'
    says: 'The machines have been busy for longer than autoscale needs to add some.'
    severity: 2
    scope: scaleSetId
    namespace: 'Microsoft.Compute/virtualMachineScaleSets'
    metric: 'Percentage CPU'
    operator: 'GreaterThan'
    threshold: 85
    aggregation: 'Average'
  }
  {
    name: 'machine-down'
    says: 'A machine is not available to the platform.'
    severity: 2
    scope: scaleSetId
    namespace: 'Microsoft.Compute/virtualMachineScaleSets'
    metric: 'VmAvailabilityMetric'
    operator: 'LessThan'
    threshold: 1
    aggregation: 'Minimum'
  }
]

var ofEgress = empty(natGatewayId) ? [] : [
  {
    name: 'egress-down'
    says: 'The NAT gateway does not work: no tokens, no vaults outside, no programs for new machines.'
    severity: 2
    scope: natGatewayId
    namespace: 'Microsoft.Network/natGateways'
    metric: 'DatapathAvailability'
    operator: 'LessThan'
    threshold: 90
    aggregation: 'Average'
  }
]

var thresholds = concat(ofService, ofEgress)

resource simple 'Microsoft.Insights/metricAlerts@2018-03-01' = [for alert in thresholds: {
  name: '${prefix}-${alert.name}'
  location: 'global'
  tags: tags
  properties: {
    description: '${alert.says} ${runbook}#${alert.name}'
    severity: alert.severity
    enabled: true
    autoMitigate: true
    scopes: [
      alert.scope
    ]
    evaluationFrequency: 'PT1M'
    windowSize: alert.metric == 'Percentage CPU' ? 'PT15M' : 'PT5M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: alert.name
          metricNamespace: alert.namespace
          metricName: alert.metric
          operator: alert.operator
          threshold: alert.threshold
          timeAggregation: alert.aggregation
          dimensions: []
        }
      ]
    }
    actions: actions
  }
}]

resource vaultDown 'Microsoft.Insights/metricAlerts@2018-03-01' = [for vault in vaults: {
  name: '${prefix}-vault-down-${vault.name}'
  location: 'global'
  tags: tags
  properties: {
    description: 'A key vault does not answer: certificates in use stay, new ones wait. ${runbook}#vault-down'
    severity: 2
    enabled: true
    autoMitigate: true
    scopes: [
      vault.id
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT30M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'availability'
          metricNamespace: 'Microsoft.KeyVault/vaults'
          metricName: 'Availability'
          operator: 'LessThan'
          threshold: 90
          timeAggregation: 'Average'
          dimensions: []
        }
      ]
    }
    actions: actions
  }
}]

resource vaultThrottled 'Microsoft.Insights/metricAlerts@2018-03-01' = [for vault in vaults: {
  name: '${prefix}-vault-throttled-${vault.name}'
  location: 'global'
  tags: tags
  properties: {
    description: 'A key vault refuses requests because there are too many (429). ${runbook}#vault-throttled'
    severity: 3
    enabled: true
    autoMitigate: true
    scopes: [
      vault.id
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT30M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          criterionType: 'StaticThresholdCriterion'
          name: 'throttled'
          metricNamespace: 'Microsoft.KeyVault/vaults'
          metricName: 'ServiceApiResult'
          operator: 'GreaterThan'
          threshold: 50
          timeAggregation: 'Count'
          dimensions: [
            {
              name: 'StatusCode'
              operator: 'Include'
              values: [
                '429'
              ]
            }
          ]
        }
      ]
    }
    actions: actions
  }
}]

resource platform 'Microsoft.Insights/activityLogAlerts@2020-10-01' = {
  name: '${prefix}-platform'
  location: 'global'
  tags: tags
  properties: {
    description: 'Azure says that a resource of ours is not healthy. ${runbook}#platform'
    enabled: true
    scopes: [
      resourceGroup().id
    ]
    condition: {
      allOf: [
        {
          field: 'category'
          equals: 'ResourceHealth'
        }
        {
          anyOf: [
            {
              field: 'properties.currentHealthStatus'
              equals: 'Unavailable'
            }
            {
              field: 'properties.currentHealthStatus'
              equals: 'Degraded'
            }
          ]
        }
      ]
    }
    actions: {
      actionGroups: actions
    }
  }
}
