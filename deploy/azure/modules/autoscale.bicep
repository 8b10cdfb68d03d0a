// How many machines: out early and by more, in late and one by one, as each that goes must drain first.

import { scalingBounds } from '../types.bicep'

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

@description('When machines are added, and when taken away.')
param scaling scalingBounds

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
    above: scaling.cpuOutPercent
    below: scaling.cpuInPercent
  }
  {
    metric: 'Network In Total'
    above: scaling.networkOutMbps * bytesPerMinute
    below: scaling.networkInMbps * bytesPerMinute
  }
  {
    metric: 'Network Out Total'
    above: scaling.networkOutMbps * bytesPerMinute
    below: scaling.networkInMbps * bytesPerMinute
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
