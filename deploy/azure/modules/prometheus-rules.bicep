// The alerts and recorded series of deploy/watch, evaluated by Azure Monitor: one group for each of theirs.

@description('Put before the name of every group.')
param prefix string

@description('Region: that of the Azure Monitor workspace.')
param location string

@description('The Azure Monitor workspace that the metrics are in.')
param metricsAccountId string

@description('Action groups (resource ids) that are told. Empty: alerts are only shown.')
param actionGroupIds string[]

@description('Where the pages of deploy/watch/runbook are.')
param runbooks string

@description('The Grafana that the dashboards of deploy/watch are in.')
param dashboards string

@description('Tags of every resource.')
param tags object

var files = [
  loadYamlContent('../../watch/rules/recording.yaml')
  loadYamlContent('../../watch/rules/availability.yaml')
  loadYamlContent('../../watch/rules/certificates.yaml')
  loadYamlContent('../../watch/rules/lifecycle.yaml')
  loadYamlContent('../../watch/rules/refusals.yaml')
  loadYamlContent('../../watch/rules/routing.yaml')
  loadYamlContent('../../watch/rules/saturation.yaml')
  loadYamlContent('../../watch/rules/upstream.yaml')
]

var groups = flatten(map(files, file => file.groups))

var actions = map(actionGroupIds, id => {
  actionGroupId: id
})

resource rules 'Microsoft.AlertsManagement/prometheusRuleGroups@2023-03-01' = [for group in groups: {
  name: '${prefix}-${group.name}'
  location: location
  tags: tags
  properties: {
    enabled: true
    interval: 'PT1M'
    scopes: [
      metricsAccountId
    ]
    rules: map(group.rules, rule => contains(rule, 'record') ? {
      record: rule.record
      expression: rule.expr
    } : {
      alert: rule.alert
      expression: rule.expr
      // 5m, 1h: the same words in ISO 8601.
      'for': contains(rule, 'for') ? 'PT${toUpper(rule['for'])}' : null
      severity: rule.labels.severity == 'page' ? 1 : 3
      labels: rule.labels
      annotations: toObject(items(rule.annotations), it => it.key, it => replace(replace(it.value, 'https://runbooks.postern.example', runbooks), 'https://grafana.postern.example', dashboards))
      resolveConfiguration: {
        autoResolved: true
        timeToResolve: 'PT10M'
      }
      actions: actions
    })
  }
}]
