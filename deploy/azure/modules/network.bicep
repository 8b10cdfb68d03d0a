// The virtual network: who may reach the data port, and how the machines reach out.

@description('Put before the name of every resource.')
param prefix string

@description('Region.')
param location string

@description('Availability zones of the NAT gateway\'s public address.')
param zones string[]

@description('Address space, for example 10.20.0.0/16.')
param addressPrefix string

@description('Subnet of the machines and of the load balancer.')
param instancesPrefix string

@description('Subnet of the addresses that the Private Link Service translates to. Nothing else is in it: whoever is in it can claim any link id.')
param natPrefix string

@description('Subnet of the private endpoints of the vaults.')
param endpointsPrefix string

@description('The port of Postern\'s data listener.')
@minValue(1024)
@maxValue(65535)
param dataPort int

@description('The port of Postern\'s probe listener.')
@minValue(1024)
@maxValue(65535)
param probePort int

@description('Networks (CIDR) that may connect to port 22. Empty: none.')
param sshSources string[]

@description('The address of a firewall that everything leaving the network goes through. Empty: a NAT gateway is made.')
param firewallAddress string

@description('Where diagnostic logs go.')
param workspaceId string

@description('Tags of every resource.')
param tags object

var throughGateway = empty(firewallAddress)

var ssh = empty(sshSources) ? [] : [
  {
    name: 'ssh'
    properties: {
      description: 'Operators.'
      priority: 120
      direction: 'Inbound'
      access: 'Allow'
      protocol: 'Tcp'
      sourceAddressPrefixes: sshSources
      sourcePortRange: '*'
      destinationAddressPrefix: instancesPrefix
      destinationPortRange: '22'
    }
  }
]

resource instancesGroup 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  name: '${prefix}-instances'
  location: location
  tags: tags
  properties: {
    securityRules: concat([
      {
        name: 'data-from-private-link'
        properties: {
          description: 'Data connections, with their PROXY header: from the Private Link Service alone.'
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: natPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: instancesPrefix
          destinationPortRange: string(dataPort)
        }
      }
      {
        name: 'probe-from-load-balancer'
        properties: {
          description: 'Health probes come from 168.63.129.16, which this tag stands for.'
          priority: 110
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: 'AzureLoadBalancer'
          sourcePortRange: '*'
          destinationAddressPrefix: instancesPrefix
          destinationPortRange: string(probePort)
        }
      }
      {
        name: 'nothing-else-in'
        properties: {
          description: 'Before the default rules, which let the whole virtual network in.'
          priority: 4096
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
      {
        name: 'web-out'
        properties: {
          description: 'Entra ID, blobs, Azure Monitor, packages of the distribution. A firewall can tell them apart by name.'
          priority: 100
          direction: 'Outbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: instancesPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: 'Internet'
          destinationPortRanges: [
            '80'
            '443'
          ]
        }
      }
      {
        name: 'nothing-else-out'
        properties: {
          description: 'The virtual network and its peers stay reachable by the default rules: ingress, routing, vaults.'
          priority: 4096
          direction: 'Outbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: 'Internet'
          destinationPortRange: '*'
        }
      }
    ], ssh)
  }
}

resource endpointsGroup 'Microsoft.Network/networkSecurityGroups@2024-05-01' = {
  name: '${prefix}-endpoints'
  location: location
  tags: tags
  properties: {
    securityRules: [
      {
        name: 'https-from-instances'
        properties: {
          description: 'The sidecar asks the vaults.'
          priority: 100
          direction: 'Inbound'
          access: 'Allow'
          protocol: 'Tcp'
          sourceAddressPrefix: instancesPrefix
          sourcePortRange: '*'
          destinationAddressPrefix: endpointsPrefix
          destinationPortRange: '443'
        }
      }
      {
        name: 'nothing-else-in'
        properties: {
          description: 'Before the default rules, which let the whole virtual network in.'
          priority: 4096
          direction: 'Inbound'
          access: 'Deny'
          protocol: '*'
          sourceAddressPrefix: '*'
          sourcePortRange: '*'
          destinationAddressPrefix: '*'
          destinationPortRange: '*'
        }
      }
    ]
  }
}

resource natAddress 'Microsoft.Network/publicIPAddresses@2024-05-01' = if (throughGateway) {
  name: '${prefix}-nat'
  location: location
  tags: tags
  zones: zones
  sku: {
    name: 'Standard'
  }
  properties: {
    publicIPAllocationMethod: 'Static'
    publicIPAddressVersion: 'IPv4'
    idleTimeoutInMinutes: 4
  }
}

resource natGateway 'Microsoft.Network/natGateways@2024-05-01' = if (throughGateway) {
  name: '${prefix}-nat'
  location: location
  tags: tags
  sku: {
    name: 'Standard'
  }
  properties: {
    idleTimeoutInMinutes: 4
    publicIpAddresses: [
      {
        id: natAddress.id
      }
    ]
  }
}

resource routes 'Microsoft.Network/routeTables@2024-05-01' = if (!throughGateway) {
  name: '${prefix}-egress'
  location: location
  tags: tags
  properties: {
    disableBgpRoutePropagation: false
    routes: [
      {
        name: 'everything-through-the-firewall'
        properties: {
          addressPrefix: '0.0.0.0/0'
          nextHopType: 'VirtualAppliance'
          nextHopIpAddress: firewallAddress
        }
      }
    ]
  }
}

resource network 'Microsoft.Network/virtualNetworks@2024-05-01' = {
  name: '${prefix}-network'
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        addressPrefix
      ]
    }
    subnets: [
      {
        name: 'instances'
        properties: {
          addressPrefix: instancesPrefix
          defaultOutboundAccess: false
          networkSecurityGroup: {
            id: instancesGroup.id
          }
          natGateway: throughGateway ? {
            id: natGateway.id
          } : null
          routeTable: throughGateway ? null : {
            id: routes.id
          }
        }
      }
      {
        name: 'private-link-nat'
        properties: {
          addressPrefix: natPrefix
          defaultOutboundAccess: false
          // The Private Link Service cannot be made otherwise.
          privateLinkServiceNetworkPolicies: 'Disabled'
        }
      }
      {
        name: 'endpoints'
        properties: {
          addressPrefix: endpointsPrefix
          defaultOutboundAccess: false
          // The security group holds for private endpoints, too.
          privateEndpointNetworkPolicies: 'Enabled'
          networkSecurityGroup: {
            id: endpointsGroup.id
          }
        }
      }
    ]
  }
}

resource instancesGroupLogs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: instancesGroup
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

resource networkMetrics 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: network
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

@description('The virtual network.')
output networkId string = network.id

@description('The subnet of the machines.')
output instancesSubnetId string = '${network.id}/subnets/instances'

@description('The subnet of the Private Link Service\'s addresses.')
output natSubnetId string = '${network.id}/subnets/private-link-nat'

@description('The subnet of private endpoints.')
output endpointsSubnetId string = '${network.id}/subnets/endpoints'

@description('The NAT gateway; empty where a firewall takes its place.')
output natGatewayId string = throughGateway ? natGateway.id : ''
