// The load balancer, and the Private Link Service in front of it.

@description('Put before the name of every resource.')
param prefix string

@description('Region.')
param location string

@description('Availability zones of the frontend address.')
param zones string[]

@description('The subnet of the machines: the frontend address is in it.')
param instancesSubnetId string

@description('The subnet of the addresses that connections come from.')
param natSubnetId string

@description('How many of them. Each takes about 64,000 connections to one machine and port.')
@minValue(1)
@maxValue(8)
param natAddresses int

@description('The port of Postern\'s data listener.')
@minValue(1024)
@maxValue(65535)
param dataPort int

@description('The port of Postern\'s probe listener.')
@minValue(1024)
@maxValue(65535)
param probePort int

@description('Seconds between two health probes.')
@minValue(5)
@maxValue(15)
param probeInterval int

@description('Probes that must fail before a machine gets no new connections.')
@minValue(1)
@maxValue(3)
param probeThreshold int

@description('Minutes without a byte after which the load balancer forgets a flow, and resets both ends.')
@minValue(4)
@maxValue(100)
param idleTimeoutMinutes int

@description('Subscriptions that can see the service. [\'*\'] is everyone who knows its alias.')
param visibleTo string[]

@description('Subscriptions whose connections need no approval here; each of them must see the service. Account routing decides about every link all the same.')
param approvedSubscriptions string[]

@description('Where metrics go.')
param workspaceId string

@description('Tags of every resource.')
param tags object

var balancerName = '${prefix}-data'

resource balancer 'Microsoft.Network/loadBalancers@2024-05-01' = {
  name: balancerName
  location: location
  tags: tags
  sku: {
    name: 'Standard'
    tier: 'Regional'
  }
  properties: {
    frontendIPConfigurations: [
      {
        name: 'private-link'
        zones: zones
        properties: {
          privateIPAllocationMethod: 'Dynamic'
          privateIPAddressVersion: 'IPv4'
          subnet: {
            id: instancesSubnetId
          }
        }
      }
    ]
    backendAddressPools: [
      {
        // Members are network interfaces: a Private Link Service takes no pool of IP addresses.
        name: 'postern'
      }
    ]
    probes: [
      {
        // Once the Private Link Service sends PROXY headers, every probe of this load balancer carries one.
        name: 'healthz'
        properties: {
          protocol: 'Http'
          port: probePort
          requestPath: '/healthz'
          intervalInSeconds: probeInterval
          numberOfProbes: probeThreshold
          probeThreshold: probeThreshold
          noHealthyBackendsBehavior: 'AllProbedDown'
        }
      }
    ]
    loadBalancingRules: [
      {
        name: 'data'
        properties: {
          protocol: 'Tcp'
          frontendPort: 443
          backendPort: dataPort
          enableFloatingIP: false
          enableTcpReset: true
          idleTimeoutInMinutes: idleTimeoutMinutes
          loadDistribution: 'Default'
          disableOutboundSnat: true
          frontendIPConfiguration: {
            id: resourceId('Microsoft.Network/loadBalancers/frontendIPConfigurations', balancerName, 'private-link')
          }
          backendAddressPool: {
            id: resourceId('Microsoft.Network/loadBalancers/backendAddressPools', balancerName, 'postern')
          }
          probe: {
            id: resourceId('Microsoft.Network/loadBalancers/probes', balancerName, 'healthz')
          }
        }
      }
    ]
  }
}

resource service 'Microsoft.Network/privateLinkServices@2024-05-01' = {
  name: '${prefix}-private-link'
  location: location
  tags: tags
  properties: {
    // The link id, which every decision of Postern begins with, is in this header.
    enableProxyProtocol: true
    loadBalancerFrontendIpConfigurations: [
      {
        id: resourceId('Microsoft.Network/loadBalancers/frontendIPConfigurations', balancer.name, 'private-link')
      }
    ]
    ipConfigurations: [for i in range(0, natAddresses): {
      name: 'nat-${i}'
      properties: {
        primary: i == 0
        privateIPAllocationMethod: 'Dynamic'
        privateIPAddressVersion: 'IPv4'
        subnet: {
          id: natSubnetId
        }
      }
    }]
    visibility: {
      subscriptions: visibleTo
    }
    autoApproval: {
      subscriptions: approvedSubscriptions
    }
  }
}

resource balancerMetrics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: balancer
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

resource serviceMetrics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: service
  properties: {
    workspaceId: workspaceId
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

@description('What customers name in their private endpoint.')
output alias string = service.properties.alias

@description('The Private Link Service.')
output serviceId string = service.id

@description('The load balancer.')
output balancerId string = balancer.id

@description('The pool that the machines\' network interfaces join.')
output backendPoolId string = resourceId('Microsoft.Network/loadBalancers/backendAddressPools', balancer.name, 'postern')
