// Postern behind a Private Link Service: everything in one resource group but the storage account of the programs and
// what is on the other side (the customers' endpoints, AKS, account routing).
//
//   network ── private-link ──┐
//   identity ── vaults ───────┼── scale-set ── autoscale
//   monitoring ───────────────┤                alerts
//   traffic-manager ── dns ───┘
targetScope = 'resourceGroup'

// One ingress of AKS: z<zone>-<regionCode>-aks.<internalDomain>, by a Traffic Manager profile.
type ingress = {
  @description('The availability zone that it is in. Machines of the same zone go there first.')
  zone: '1' | '2' | '3'

  @description('Its endpoints, best first.')
  endpoints: ingressEndpoint[]
}

type ingressEndpoint = {
  @description('Its name in the profile.')
  name: string

  @description('Address or name.')
  target: string

  @description('Whether it is answered.')
  enabled: bool

  @description('Whether Traffic Manager can probe it: true only for what is reachable from the internet.')
  probed: bool
}

// One service kind, as routes name it.
type cluster = {
  @description('Its name in routes, such as dicom.')
  name: string

  @description('The name that the ingresses\' certificates must have.')
  serverName: string
}

// One server certificate.
type serverCertificate = {
  @description('Its name in the main vault.')
  name: string

  @description('DNS names that every version must cover.')
  names: string[]
}

// One of the two programs.
type program = {
  @description('Where it is: https, best a blob that the machines\' identity may read.')
  url: string

  @description('Its SHA-256, 64 hexadecimal digits.')
  sha256: string
}

type probe = {
  protocol: 'HTTP' | 'HTTPS' | 'TCP'
  port: int
  path: string
}

type host = {
  name: string
  addresses: string[]
}

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
param zones string[] = [
  '1'
  '2'
  '3'
]

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

// ---- autoscale

@description('CPU in percent above which machines are added.')
@minValue(20)
@maxValue(90)
param cpuOutPercent int = 60

@description('CPU in percent below which one is taken away.')
@minValue(5)
@maxValue(50)
param cpuInPercent int = 25

@description('Megabits per second of one machine, received or sent, above which machines are added.')
@minValue(10)
@maxValue(100000)
param networkOutMbps int = 4000

@description('Megabits per second of one machine below which one is taken away.')
@minValue(1)
@maxValue(100000)
param networkInMbps int = 1000

// ---- what Postern serves

@description('Server certificates in the main vault.')
@minLength(1)
param serverCertificates serverCertificate[]

@description('Our client certificate in the main vault.')
param clientCertificate string = 'postern-client'

@description('The internal CA in the CA vault: trusted for the ingress and our client certificate.')
param caCertificate string = 'internal-ca'

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
param trafficManagerProbe probe = {
  protocol: 'HTTP'
  port: 8080
  path: '/healthz'
}

// ---- vaults

@description('\'premium\' keeps keys in a hardware security module, the internal CA\'s first of all.')
@allowed([
  'standard'
  'premium'
])
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

// 13 characters; vaults are unique in Azure and have 24 at most.
var unique = uniqueString(resourceGroup().id)
var vaultSuffix = environment().suffixes.keyvaultDns
var mainVault = '${prefix}-m-${unique}'
var caVault = '${prefix}-c-${unique}'
var ticketVault = '${prefix}-t-${unique}'
var stores = '/var/lib/postern/certs'

var ingressNames = map(ingresses, it => 'z${it.zone}-${regionCode}-aks')
var ingressEndpoints = map(ingresses, it => '{ address = "z${it.zone}-${regionCode}-aks.${internalDomain}:443", zone = "${it.zone}" }')

// Built-in roles: Key Vault Reader, Key Vault Certificate User.
var readerRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '21090545-7ca7-4776-b22c-e363652d74d2')
var certificateUserRole = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'db79e9a7-68ee-4b58-9aeb-b90e7c24fcba')

// ---- modules

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
    tags: tags
  }
}

module roles 'modules/roles.bicep' = {
  name: 'roles'
  params: {
    prefix: prefix
  }
}

module artifactAccess 'modules/artifact-access.bicep' = if (!empty(artifactAccount)) {
  name: 'artifact-access'
  scope: resourceGroup(artifactResourceGroup)
  params: {
    account: artifactAccount
    container: artifactContainer
    machinePrincipalId: identity.outputs.principalId
  }
}

module metricsAccess 'modules/metrics-access.bicep' = {
  name: 'metrics-access'
  params: {
    ruleName: monitoring.outputs.metricsRuleName
    machinePrincipalId: identity.outputs.principalId
  }
}

module trafficManagers 'modules/traffic-manager.bicep' = [for (it, i) in ingresses: {
  name: 'traffic-manager-${it.zone}'
  params: {
    name: '${prefix}-${ingressNames[i]}-${unique}'
    ttl: dnsTtl
    endpoints: it.endpoints
    probe: trafficManagerProbe
    workspaceId: monitoring.outputs.workspaceId
    tags: tags
  }
}]

module dns 'modules/dns.bicep' = {
  name: 'dns'
  params: {
    internalDomain: internalDomain
    networkIds: concat([
      network.outputs.networkId
    ], peerNetworkIds)
    existingVaultZoneId: existingVaultZoneId
    aliases: [for (it, i) in ingresses: {
      name: ingressNames[i]
      // What trafficManagers answer to: a module's outputs cannot be collected in a loop.
      target: '${prefix}-${ingressNames[i]}-${unique}.trafficmanager.net'
    }]
    hosts: internalHosts
    ttl: dnsTtl
    tags: tags
  }
}

// Certificates that are served and shown: read; new versions of the client certificate: begun and completed.
module vault 'modules/vault.bicep' = {
  name: 'vault-main'
  params: {
    name: mainVault
    location: location
    sku: vaultSku
    endpointsSubnetId: network.outputs.endpointsSubnetId
    dnsZoneId: dns.outputs.vaultZoneId
    operatorAddresses: operatorAddresses
    machinePrincipalId: identity.outputs.principalId
    machineRoles: issueClientCertificate ? [
      certificateUserRole
      roles.outputs.issuerId
    ] : [
      certificateUserRole
    ]
    officers: certificateOfficers
    workspaceId: monitoring.outputs.workspaceId
    tags: tags
  }
}

// The internal CA: its certificate is read, and its key signs if the sidecars issue. No machine can read the key.
module vaultOfCa 'modules/vault.bicep' = {
  name: 'vault-ca'
  params: {
    name: caVault
    location: location
    sku: vaultSku
    endpointsSubnetId: network.outputs.endpointsSubnetId
    dnsZoneId: dns.outputs.vaultZoneId
    operatorAddresses: operatorAddresses
    machinePrincipalId: identity.outputs.principalId
    machineRoles: [
      issueClientCertificate ? roles.outputs.signerId : readerRole
    ]
    officers: certificateOfficers
    workspaceId: monitoring.outputs.workspaceId
    tags: tags
  }
}

// Session-ticket keys: the only secrets that a machine may write are alone in their vault.
module vaultOfTickets 'modules/vault.bicep' = if (sharedTickets) {
  name: 'vault-tickets'
  params: {
    name: ticketVault
    location: location
    sku: 'standard'
    endpointsSubnetId: network.outputs.endpointsSubnetId
    dnsZoneId: dns.outputs.vaultZoneId
    operatorAddresses: operatorAddresses
    machinePrincipalId: identity.outputs.principalId
    machineRoles: [
      roles.outputs.ticketKeeperId
    ]
    officers: []
    workspaceId: monitoring.outputs.workspaceId
    tags: tags
  }
}

// ---- the machines' files

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
    sharedTickets: sharedTickets
    stores: stores
    drainNotice: drainNotice
    drainTimeout: drainTimeout
    startSpread: max(4, instancesMax * 45 / 100)
    clientId: identity.outputs.clientId
    mainVaultUrl: 'https://${mainVault}${vaultSuffix}'
    caVaultUrl: 'https://${caVault}${vaultSuffix}'
    ticketVaultUrl: 'https://${ticketVault}${vaultSuffix}'
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
  dependsOn: [
    artifactAccess
    metricsAccess
    vault
    vaultOfCa
    vaultOfTickets
    trafficManagers
    dns
  ]
}

module autoscale 'modules/autoscale.bicep' = {
  name: 'autoscale'
  params: {
    prefix: prefix
    location: location
    scaleSetId: scaleSet.outputs.id
    least: instancesMin
    most: instancesMax
    cpuOutPercent: cpuOutPercent
    cpuInPercent: cpuInPercent
    networkOutMbps: networkOutMbps
    networkInMbps: networkInMbps
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
    vaults: concat([
      {
        name: 'main'
        id: vault.outputs.id
      }
      {
        name: 'ca'
        id: vaultOfCa.outputs.id
      }
    ], sharedTickets ? [
      {
        name: 'tickets'
        id: resourceId('Microsoft.KeyVault/vaults', ticketVault)
      }
    ] : [])
    tags: tags
  }
  dependsOn: [
    vaultOfTickets
  ]
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
output mainVaultName string = vault.outputs.name

@description('The vault of the internal CA.')
output caVaultName string = vaultOfCa.outputs.name

@description('Our virtual network, to be peered with the AKS clusters\'.')
output networkId string = network.outputs.networkId

@description('Where metrics are: the data source of the dashboards.')
output metricsAccountId string = monitoring.outputs.metricsAccountId

@description('The internal names of the ingresses.')
output ingressNames array = map(ingressNames, it => '${it}.${internalDomain}')
