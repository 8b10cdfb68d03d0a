// Where logs and metrics go: a Log Analytics workspace, an Azure Monitor workspace (managed Prometheus), and the rules
// that say what the machines send there.

@description('Put before the name of every resource.')
param prefix string

@description('Region.')
param location string

@description('Days that logs are kept.')
@minValue(30)
@maxValue(730)
param retentionDays int

@description('Gigabytes of logs a day after which no more are taken until the next day; -1 is no limit.')
@minValue(-1)
@maxValue(4000)
param dailyQuotaGb int

@description('Tags of every resource.')
param tags object

resource workspace 'Microsoft.OperationalInsights/workspaces@2022-10-01' = {
  name: '${prefix}-logs'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: retentionDays
    workspaceCapping: {
      dailyQuotaGb: dailyQuotaGb
    }
    features: {
      // Readers see the logs of the resources that they may read, and no shared key writes any.
      enableLogAccessUsingOnlyResourcePermissions: true
      disableLocalAuth: true
    }
  }
}

resource metrics 'Microsoft.Monitor/accounts@2023-04-03' = {
  name: '${prefix}-metrics'
  location: location
  tags: tags
}

resource ingestion 'Microsoft.Insights/dataCollectionEndpoints@2022-06-01' = {
  name: '${prefix}-metrics'
  location: location
  tags: tags
  kind: 'Linux'
  properties: {
    networkAcls: {
      publicNetworkAccess: 'Enabled'
    }
  }
}

resource metricsRule 'Microsoft.Insights/dataCollectionRules@2022-06-01' = {
  name: '${prefix}-metrics'
  location: location
  tags: tags
  kind: 'Linux'
  properties: {
    dataCollectionEndpointId: ingestion.id
    dataSources: {
      prometheusForwarder: [
        {
          name: 'prometheus'
          streams: [
            'Microsoft-PrometheusMetrics'
          ]
          labelIncludeFilter: {}
        }
      ]
    }
    destinations: {
      monitoringAccounts: [
        {
          name: 'metrics'
          accountResourceId: metrics.id
        }
      ]
    }
    dataFlows: [
      {
        streams: [
          'Microsoft-PrometheusMetrics'
        ]
        destinations: [
          'metrics'
        ]
      }
    ]
  }
}

resource logsRule 'Microsoft.Insights/dataCollectionRules@2022-06-01' = {
  name: '${prefix}-logs'
  location: location
  tags: tags
  kind: 'Linux'
  properties: {
    dataSources: {
      syslog: [
        {
          // What both programs write to the journal arrives as the facility daemon. The access log stays on the machine.
          name: 'journal'
          streams: [
            'Microsoft-Syslog'
          ]
          facilityNames: [
            'daemon'
            'kern'
            'authpriv'
          ]
          logLevels: [
            'Info'
            'Notice'
            'Warning'
            'Error'
            'Critical'
            'Alert'
            'Emergency'
          ]
        }
      ]
    }
    destinations: {
      logAnalytics: [
        {
          name: 'logs'
          workspaceResourceId: workspace.id
        }
      ]
    }
    dataFlows: [
      {
        streams: [
          'Microsoft-Syslog'
        ]
        destinations: [
          'logs'
        ]
      }
    ]
  }
}

@description('The Log Analytics workspace.')
output workspaceId string = workspace.id

@description('The Azure Monitor workspace.')
output metricsAccountId string = metrics.id

@description('The rule that metrics are written through.')
output metricsRuleId string = metricsRule.id

@description('Its name.')
output metricsRuleName string = metricsRule.name

@description('The rule that the machines\' logs are sent by.')
output logsRuleId string = logsRule.id

@description('Where Prometheus writes to.')
output remoteWriteUrl string = '${ingestion.properties.metricsIngestion.endpoint}/dataCollectionRules/${metricsRule.properties.immutableId}/streams/Microsoft-PrometheusMetrics/api/v1/write?api-version=2023-04-24'
