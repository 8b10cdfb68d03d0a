// One Traffic Manager profile: the name behind <zone>-<region>-aks.internal.<domain>, which moves an ingress to another
// address without anybody's configuration.
//
// Traffic Manager takes no private addresses, probes from the internet and presents no client certificate. So a private
// endpoint is a name of the internal domain, which only our networks resolve further, and is always served: Postern itself
// finds out by its own mutual TLS which endpoints are up. It is moved by priority: disable the endpoint, and the next one
// is answered.

import { ingressEndpoint, probeSettings } from '../types.bicep'

@description('Its name, unique in trafficmanager.net, too.')
param name string

@description('The internal name that it stands behind; private endpoints are called ENDPOINT-<this>.')
param internalName string

@description('Seconds that an answer may be kept. Postern honours it, between 1 and 300.')
@minValue(0)
@maxValue(300)
param ttl int

@description('Its endpoints, best first.')
param endpoints ingressEndpoint[]

@description('What is asked of probed endpoints. Exactly 200 is healthy.')
param probe probeSettings

@description('Where logs and metrics go.')
param workspaceId string

@description('Tags of every resource.')
param tags object

resource profile 'Microsoft.Network/trafficmanagerprofiles@2022-04-01' = {
  name: name
  location: 'global'
  tags: tags
  properties: {
    profileStatus: 'Enabled'
    trafficRoutingMethod: 'Priority'
    trafficViewEnrollmentStatus: 'Disabled'
    dnsConfig: {
      relativeName: name
      ttl: ttl
    }
    monitorConfig: {
      protocol: probe.protocol
      port: probe.port
      // A TCP probe connects, and asks for nothing.
      path: probe.protocol == 'TCP' ? null : probe.path
      // The fast kind: its timeout is 5 to 9 seconds. An endpoint is down after four misses, about 40 s.
      intervalInSeconds: 10
      timeoutInSeconds: 5
      toleratedNumberOfFailures: 3
    }
    endpoints: [for (endpoint, i) in endpoints: {
      name: endpoint.name
      type: 'Microsoft.Network/trafficManagerProfiles/externalEndpoints'
      properties: {
        target: endpoint.probed ? endpoint.address : '${endpoint.name}-${internalName}'
        endpointStatus: endpoint.enabled ? 'Enabled' : 'Disabled'
        priority: i + 1
        alwaysServe: endpoint.probed ? 'Disabled' : 'Enabled'
      }
    }]
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: profile
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

@description('The name that the internal name is an alias of.')
output name string = profile.properties.dnsConfig.fqdn
