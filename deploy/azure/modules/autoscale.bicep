// How many machines: out early and by more, in late and one by one, as each that goes must drain first.

@description('Put before the name of every resource.')
param prefix string

@description('Region.')
param location string

@description('The scale set.')
param scaleSetId string

@description('Machines at least: one of each zone may be away.')
@minValue(2)
@maxValue(1000)
param least int

@description('Machines at most.')
@minValue(2)
@maxValue(1000)
param most int

@description('CPU in percent above which machines are added.')
@minValue(20)
@maxValue(90)
param cpuOutPercent int

@description('CPU in percent below which one is taken away.')
@minValue(5)
@maxValue(80)
param cpuInPercent int

@description('Megabits per second of one machine, received or sent, above which machines are added.')
@minValue(10)
@maxValue(100000)
param networkOutMbps int

@description('Megabits per second of one machine below which one is taken away.')
@minValue(1)
@maxValue(100000)
param networkInMbps int

@description('Minutes between two steps inwards: longer than a machine drains.')
@minValue(6)
@maxValue(120)
param scaleInCooldownMinutes int

@description('Where logs go.')
param workspaceId string

@description('Tags of every resource.')
param tags object

// The platform counts bytes of each minute.
var bytesPerMinute = 1000000 / 8 * 60

var signals = [
  {
    metric: 'Percentage CPU'
    above: cpuOutPercent
    below: cpuInPercent
  }
  {
    metric: 'Network In Total'
    above: networkOutMbps * bytesPerMinute
    below: networkInMbps * bytesPerMinute
  }
  {
    metric: 'Network Out Total'
    above: networkOutMbps * bytesPerMinute
    below: networkInMbps * bytesPerMinute
  }
]

// Any of these is enough.
var outRules = [for signal in signals: {
  metricTrigger: {
    metricName: signal.metric
    metricResourceUri: scaleSetId
    timeGrain: 'PT1M'
    statistic: 'Average'
    timeWindow: 'PT5M'
    timeAggregation: 'Average'
    operator: 'GreaterThan'
    threshold: signal.above
  }
  scaleAction: {
    direction: 'Increase'
    type: 'PercentChangeCount'
    value: '25'
    cooldown: 'PT5M'
  }
}]

// All of these at once.
var inRules = [for signal in signals: {
  metricTrigger: {
    metricName: signal.metric
    metricResourceUri: scaleSetId
    timeGrain: 'PT1M'
    statistic: 'Average'
    timeWindow: 'PT15M'
    timeAggregation: 'Average'
    operator: 'LessThan'
    threshold: signal.below
  }
  scaleAction: {
    direction: 'Decrease'
    type: 'ChangeCount'
    value: '1'
    cooldown: 'PT${scaleInCooldownMinutes}M'
  }
}]

resource autoscale 'Microsoft.Insights/autoscaleSettings@2022-10-01' = {
  name: '${prefix}-autoscale'
  location: location
  tags: tags
  properties: {
    enabled: true
    targetResourceUri: scaleSetId
    profiles: [
      {
        name: 'load'
        capacity: {
          minimum: string(least)
          maximum: string(most)
          default: string(least)
        }
        rules: concat(outRules, inRules)
      }
    ]
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: autoscale
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
  }
}
