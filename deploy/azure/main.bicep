// Postern behind a Private Link Service: everything in one resource group but the storage account of the programs and
// what is on the other side (the customers' endpoints, AKS, account routing).
//
//   monitoring ── network ── private-link ─┐
//            │          └──── dns ── vaults ─┼─ files ── scale-set ── autoscale
//            └─ identity ─────────────┘      ┘                 └───── alerts, prometheus-rules

import { cluster, host, ingress, probeSettings, program, scalingBounds, serverCertificate } from 'types.bicep'

// ---- names and place

@description('Put before the name of every resource: 2 to 8 small letters and digits.')
@minLength(2)
@maxLength(8)
param prefix string = 'postern'

@description('Region.')
param location string = resourceGroup().location

@description('The region, as internal names have it: weu, neu, eus2.')
@minLength(2)
@maxLength(8)
param regionCode string

@description('Availability zones that machines, the frontend and the NAT gateway\'s address are in.')
@minLength(1)
@maxLength(3)
param zones string[] = ['1', '2', '3']

@description('Tags of every resource.')
param tags object = {}

// ---- network

@description('Address space of the virtual network.')
param addressPrefix string = '10.20.0.0/16'

@description('Subnet of the machines: twice the machines at most, as an upgrade makes new ones first.')
param instancesPrefix string = '10.20.0.0/22'

@description('Subnet of the Private Link Service\'s addresses.')
param natPrefix string = '10.20.4.0/27'

@description('Subnet of the private endpoints of the vaults.')
param endpointsPrefix string = '10.20.4.32/27'

@description('A firewall that everything leaving the network goes through. Empty: a NAT gateway is made.')
param firewallAddress string = ''

@description('Networks (CIDR) that may connect to port 22. Empty: none.')
param sshSources string[] = []

// ---- Private Link Service and load balancer

@description('Addresses that connections are translated to, about 64,000 connections each to one machine. They are used one after the other.')
@minValue(1)
@maxValue(8)
param natAddresses int = 2

@description('Subscriptions that can see the service; [\'*\'] is everyone who knows its alias.')
param visibleTo string[] = []

@description('Subscriptions whose connections need no approval at the service.')
param approvedSubscriptions string[] = []

@description('Minutes without a byte until the load balancer resets a flow: not under the Private Link Service\'s own 5.')
@minValue(5)
@maxValue(100)
param idleTimeoutMinutes int = 15

@description('Seconds between two probes of the load balancer.')
@minValue(5)
@maxValue(15)
param probeInterval int = 5

@description('Failed probes until a machine gets no new connections.')
@minValue(1)
@maxValue(3)
param probeThreshold int = 2

// ---- machines

@description('The size of the machines: with accelerated networking, encryption at host and trusted launch.')
param vmSize string = 'Standard_D4as_v5'

@description('Machines at least.')
@minValue(2)
@maxValue(100)
param instancesMin int = 3

@description('Machines at most.')
@minValue(2)
@maxValue(500)
param instancesMax int = 20

@description('The version of the Ubuntu 24.04 image.')
param imageVersion string = 'latest'

@description('Gigabytes of the system disk.')
@minValue(30)
@maxValue(1023)
param osDiskGb int = 64

@description('The operator\'s account on the machines.')
param adminUsername string = 'posternadmin'

@description('Its SSH public key. There is no password, and no way in but from sshSources.')
param adminPublicKey string

@description('The data plane.')
param postern program

@description('The sidecar.')
param posternControl program

@description('The storage account that the programs are in; empty if they are elsewhere.')
param artifactAccount string = ''

@description('Its container.')
param artifactContainer string = 'postern'

@description('Its resource group.')
param artifactResourceGroup string = resourceGroup().name

@description('Whether an upgrade makes new machines before it deletes old ones. Needs the feature MaxSurgeRollingUpgrade.')
param maxSurge bool = true

@description('Part of the machines that are upgraded at once, in percent.')
@minValue(5)
@maxValue(50)
param batchPercent int = 20

@description('Seconds that a new machine has until its health counts: installing, certificates, routes.')
@minValue(60)
@maxValue(3600)
param healthGraceSeconds int = 600

@description('Whether unhealthy machines are replaced: not while a fleet is set up and its vaults are empty.')
param repairs bool = true

@description('Minutes until an unhealthy machine is replaced.')
@minValue(10)
@maxValue(90)
param repairGraceMinutes int = 20

@description('Minutes of notice before a machine is deleted: what its connections have to end.')
@minValue(5)
@maxValue(15)
param terminateNoticeMinutes int = 10

@description('Seconds that connections have to end while a machine drains; cut to what the notice of termination allows.')
@minValue(30)
@maxValue(840)
param drainSeconds int = 300

@description('When machines are added, by any of these, and taken away one by one, by all of them.')
param scaling scalingBounds = { cpuOutPercent: 60, cpuInPercent: 25, networkOutMbps: 4000, networkInMbps: 1000 }

// ---- what Postern serves

@description('Server certificates in the main vault.')
@minLength(1)
param serverCertificates serverCertificate[]

@description('Our client certificate in the main vault.')
param clientCertificate string = 'postern-client'

@description('The internal CA in the CA vault: trusted for the ingress and our client certificate.')
param caCertificate string = 'internal-ca'

@description('Hours that a new version of the CA must have been in its vault before it signs, so that every machine trusts it. 0 for the first CA of a fleet, which nothing uses yet.')
@minValue(0)
@maxValue(720)
param caTrustedForHours int = 72

@description('Whether the sidecars issue the client certificate themselves, with the CA\'s key in the vault. Otherwise somebody else puts new versions there.')
param issueClientCertificate bool = true

@description('The subject of issued client certificates.')
param clientSubject string = 'CN=postern'

@description('Whether the machines share the keys of session tickets, in a vault of their own.')
param sharedTickets bool = true

@description('Where account routing listens: host:port.')
@minLength(1)
param routingEndpoints string[]

@description('The name that account routing\'s certificate must have.')
param routingName string

@description('The clusters that routes name. Each goes to all ingresses.')
@minLength(1)
param clusters cluster[]

@description('The ingresses.')
@minLength(1)
@maxLength(3)
param ingresses ingress[]

@description('The internal domain, a private DNS zone: internal.<domain>.')
param internalDomain string

@description('Further names in the internal domain, such as account routing.')
param internalHosts host[] = []

@description('Other virtual networks that resolve internal names: the AKS clusters\', account routing\'s.')
param peerNetworkIds string[] = []

@description('Seconds that a DNS answer about an ingress may be kept.')
@minValue(1)
@maxValue(300)
param dnsTtl int = 30

@description('What Traffic Manager asks of endpoints that it can probe.')
param trafficManagerProbe probeSettings = { protocol: 'HTTP', port: 8080, path: '/healthz' }

// ---- vaults

@description('\'premium\' keeps keys in a hardware security module, the internal CA\'s first of all.')
@allowed(['standard', 'premium'])
param vaultSku string = 'premium'

@description('Groups or people (object ids) that create and import certificates.')
param certificateOfficers string[] = []

@description('Public addresses (CIDR) of operators that reach the vaults from outside. Empty: only through the network.')
param operatorAddresses string[] = []

@description('An existing zone privatelink.vaultcore.azure.net, in a hub. Empty: one is made.')
param existingVaultZoneId string = ''

// ---- watching

@description('Days that logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Gigabytes of logs a day at most; -1 is no limit.')
@minValue(-1)
@maxValue(4000)
param logDailyQuotaGb int = 10

@description('Whether the machines push their metrics to an Azure Monitor workspace, with Ubuntu\'s Prometheus as agent.')
param pushMetrics bool = true

@description('Action groups (resource ids) that are told of alerts.')
param actionGroupIds string[] = []

@description('The page that says what to do about an alert of the platform, this folder\'s README.md; #ALERT is put behind it.')
param runbook string = 'https://runbooks.postern.example/azure.md'

@description('Where the pages of deploy/watch/runbook are, one for each of Postern\'s own alerts.')
param runbooks string = 'https://runbooks.postern.example'

@description('The Grafana that the dashboards of deploy/watch are in.')
param dashboards string = 'https://grafana.postern.example'

// ---- what follows from these

var dataPort = 8443
var probePort = 8080

// Everything drains by the same arithmetic: the probes notice, connections end, a minute is left.
var drainNotice = probeInterval * probeThreshold + 5
var drainTimeout = min(drainSeconds, terminateNoticeMinutes * 60 - drainNotice - 60)

var ingressEndpoints = map(ingresses, it => '{ address = "z${it.zone}-${regionCode}-aks.${internalDomain}:443", zone = "${it.zone}" }')

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    prefix: prefix
    location: location
    retentionDays: logRetentionDays
    dailyQuotaGb: logDailyQuotaGb
    tags: tags
  }
}

module network 'modules/network.bicep' = {
  name: 'network'
  params: {
    prefix: prefix
    location: location
    zones: zones
    addressPrefix: addressPrefix
    instancesPrefix: instancesPrefix
    natPrefix: natPrefix
    endpointsPrefix: endpointsPrefix
    dataPort: dataPort
    probePort: probePort
    sshSources: sshSources
    firewallAddress: firewallAddress
    workspaceId: monitoring.outputs.workspaceId
    tags: tags
  }
}

module privateLink 'modules/private-link.bicep' = {
  name: 'private-link'
  params: {
    prefix: prefix
    location: location
    zones: zones
    instancesSubnetId: network.outputs.instancesSubnetId
    natSubnetId: network.outputs.natSubnetId
    natAddresses: natAddresses
    dataPort: dataPort
    probePort: probePort
    probeInterval: probeInterval
    probeThreshold: probeThreshold
    idleTimeoutMinutes: idleTimeoutMinutes
    visibleTo: visibleTo
    approvedSubscriptions: approvedSubscriptions
    workspaceId: monitoring.outputs.workspaceId
    tags: tags
  }
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  params: {
    prefix: prefix
    location: location
    artifactAccount: artifactAccount
    artifactContainer: artifactContainer
    artifactResourceGroup: artifactResourceGroup
    metricsRuleName: monitoring.outputs.metricsRuleName
    tags: tags
  }
}

module dns 'modules/dns.bicep' = {
  name: 'dns'
  params: {
    prefix: prefix
    regionCode: regionCode
    internalDomain: internalDomain
    ingresses: ingresses
    probe: trafficManagerProbe
    networkIds: concat([network.outputs.networkId], peerNetworkIds)
    existingVaultZoneId: existingVaultZoneId
    hosts: internalHosts
    ttl: dnsTtl
    workspaceId: monitoring.outputs.workspaceId
    tags: tags
  }
}

module vaults 'modules/vaults.bicep' = {
  name: 'vaults'
  params: {
    prefix: prefix
    location: location
    sku: vaultSku
    issueClientCertificate: issueClientCertificate
    sharedTickets: sharedTickets
    endpointsSubnetId: network.outputs.endpointsSubnetId
    dnsZoneId: dns.outputs.vaultZoneId
    operatorAddresses: operatorAddresses
    machinePrincipalId: identity.outputs.principalId
    officers: certificateOfficers
    workspaceId: monitoring.outputs.workspaceId
    tags: tags
  }
}

module files 'modules/files.bicep' = {
  name: 'files'
  params: {
    dataPort: dataPort
    probePort: probePort
    natPrefix: natPrefix
    clusters: clusters
    ingressEndpoints: ingressEndpoints
    routingEndpoints: routingEndpoints
    routingName: routingName
    serverCertificates: serverCertificates
    clientCertificate: clientCertificate
    clientSubject: clientSubject
    issueClientCertificate: issueClientCertificate
    caCertificate: caCertificate
    caTrustedForHours: caTrustedForHours
    sharedTickets: sharedTickets
    drainNotice: drainNotice
    drainTimeout: drainTimeout
    startSpread: max(4, instancesMax * 45 / 100)
    clientId: identity.outputs.clientId
    mainVaultUrl: vaults.outputs.mainUrl
    caVaultUrl: vaults.outputs.caUrl
    ticketVaultUrl: vaults.outputs.ticketsUrl
    postern: postern
    posternControl: posternControl
    pushMetrics: pushMetrics
    remoteWriteUrl: monitoring.outputs.remoteWriteUrl
    region: location
  }
}

module scaleSet 'modules/scale-set.bicep' = {
  name: 'scale-set'
  params: {
    prefix: prefix
    location: location
    zones: zones
    vmSize: vmSize
    instances: instancesMin
    imageVersion: imageVersion
    osDiskGb: osDiskGb
    adminUsername: adminUsername
    adminPublicKey: adminPublicKey
    cloudInit: files.outputs.cloudInit
    subnetId: network.outputs.instancesSubnetId
    backendPoolId: privateLink.outputs.backendPoolId
    identityId: identity.outputs.id
    probePort: probePort
    healthGraceSeconds: healthGraceSeconds
    terminateNoticeMinutes: terminateNoticeMinutes
    repairs: repairs
    repairGraceMinutes: repairGraceMinutes
    maxSurge: maxSurge
    batchPercent: batchPercent
    logsRuleId: monitoring.outputs.logsRuleId
    workspaceId: monitoring.outputs.workspaceId
    tags: tags
  }
  // The first machines find what they may read, and the names that they resolve.
  dependsOn: [vaults, dns]
}

module autoscale 'modules/autoscale.bicep' = {
  name: 'autoscale'
  params: {
    prefix: prefix
    location: location
    scaleSetId: scaleSet.outputs.id
    least: instancesMin
    most: instancesMax
    scaling: scaling
    scaleInCooldownMinutes: terminateNoticeMinutes + 5
    workspaceId: monitoring.outputs.workspaceId
    tags: tags
  }
}

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  params: {
    prefix: prefix
    actionGroupIds: actionGroupIds
    runbook: runbook
    balancerId: privateLink.outputs.balancerId
    serviceId: privateLink.outputs.serviceId
    scaleSetId: scaleSet.outputs.id
    natGatewayId: network.outputs.natGatewayId
    vaults: vaults.outputs.all
    tags: tags
  }
}

module prometheusRules 'modules/prometheus-rules.bicep' = if (pushMetrics) {
  name: 'prometheus-rules'
  params: {
    prefix: prefix
    location: location
    metricsAccountId: monitoring.outputs.metricsAccountId
    actionGroupIds: actionGroupIds
    runbooks: runbooks
    dashboards: dashboards
    tags: tags
  }
}

// ---- what comes after needs

@description('What customers name in their private endpoint.')
output privateLinkAlias string = privateLink.outputs.alias

@description('The Private Link Service.')
output privateLinkServiceId string = privateLink.outputs.serviceId

@description('The scale set.')
output scaleSetName string = scaleSet.outputs.name

@description('The vault of server and client certificates.')
output mainVaultName string = vaults.outputs.mainName

@description('The vault of the internal CA.')
output caVaultName string = vaults.outputs.caName

@description('Our virtual network, to be peered with the AKS clusters\'.')
output networkId string = network.outputs.networkId

@description('Where metrics are: the data source of the dashboards.')
output metricsAccountId string = monitoring.outputs.metricsAccountId

@description('The internal names of the ingresses.')
output ingressNames array = dns.outputs.ingressNames
