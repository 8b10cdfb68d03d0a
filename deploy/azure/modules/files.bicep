// What cloud-init lays down on a machine. Makes no resource: it fills templates, @@name@@ by @@name@@.

import { cluster, program, serverCertificate } from '../types.bicep'

@description('The port of Postern\'s data listener.')
@minValue(1024)
@maxValue(65535)
param dataPort int

@description('The port of its probe listener.')
@minValue(1024)
@maxValue(65535)
param probePort int

@description('The subnet that connections come from.')
param natPrefix string

@description('The clusters that routes name.')
param clusters cluster[]

@description('Where each of them is: TOML tables of address and zone.')
param ingressEndpoints string[]

@description('Where account routing listens: host:port.')
param routingEndpoints string[]

@description('The name that its certificate must have.')
param routingName string

@description('Server certificates in the main vault.')
param serverCertificates serverCertificate[]

@description('Our client certificate in the main vault.')
param clientCertificate string

@description('The subject of client certificates that the sidecar issues.')
param clientSubject string

@description('Whether it issues them.')
param issueClientCertificate bool

@description('The internal CA in the CA vault.')
param caCertificate string

@description('Hours until a new version of it signs.')
@minValue(0)
@maxValue(720)
param caTrustedForHours int

@description('Whether session-ticket keys are shared.')
param sharedTickets bool

@description('Seconds until the probes have noticed that a machine is not ready.')
@minValue(6)
@maxValue(60)
param drainNotice int

@description('Seconds that connections then have to end.')
@minValue(30)
@maxValue(840)
param drainTimeout int

@description('Seconds that the first looks of the sidecars are spread over.')
@minValue(4)
@maxValue(225)
param startSpread int

@description('The machines\' identity.')
param clientId string

@description('The vault of server and client certificates.')
param mainVaultUrl string

@description('The vault of the internal CA.')
param caVaultUrl string

@description('The vault of the session-ticket keys.')
param ticketVaultUrl string

@description('The data plane.')
param postern program

@description('The sidecar.')
param posternControl program

@description('Whether Ubuntu\'s Prometheus is installed and pushes metrics.')
param pushMetrics bool

@description('Where it pushes them to.')
param remoteWriteUrl string

@description('The region, on every metric.')
param region string

// Where the sidecar publishes and Postern reads.
var stores = '/var/lib/postern/certs'

// ---- Postern. A list of strings is the same in JSON and in TOML.

var posternValues = {
  dataPort: string(dataPort)
  probePort: string(probePort)
  natPrefix: natPrefix
  serverPlaces: join(map(serverCertificates, it => '{ path = "${stores}/server-${it.name}", names = ${string(it.names)} }'), ', ')
  ticketKeys: sharedTickets ? 'ticket_keys = "${stores}/tickets"' : ''
  routingEndpoints: string(routingEndpoints)
  routingName: routingName
  clusters: join(map(clusters, it => '[upstream.clusters.${it.name}]\nname = "${it.serverName}"\nendpoints = [${join(ingressEndpoints, ', ')}]\n'), '\n')
  drainNotice: string(drainNotice)
  drainTimeout: string(drainTimeout)
}

var posternToml = reduce(items(posternValues), loadTextContent('../templates/postern.toml'), (text, it) => replace(text, '@@${it.key}@@', it.value))

// ---- the sidecar

var controlValues = {
  clientId: clientId
  mainVaultUrl: mainVaultUrl
  caVaultUrl: caVaultUrl
  caCertificate: caCertificate
  clientCertificate: clientCertificate
  issue: issueClientCertificate ? '\n[certificates.client.issue]\nsubject = "${clientSubject}"\n\n[certificates.client.issue.ca]\ncertificate = "${caCertificate}"\nvault = "ca"\ntrusted_for = "${caTrustedForHours}h"' : ''
  servers: join(map(serverCertificates, it => '[certificates.server-${it.name}]\nkind = "server"\nvault = "main"\nname = "${it.name}"\nstore = "${stores}/server-${it.name}"\nnames = ${string(it.names)}\n'), '\n')
  tickets: sharedTickets ? '[vaults.tickets]\nurl = "${ticketVaultUrl}"\nidentity = "vm"\n\n[tickets]\nvault = "tickets"\nname = "postern-tickets"\nstore = "${stores}/tickets"' : ''
  startSpread: string(startSpread)
}

var controlToml = reduce(items(controlValues), loadTextContent('../templates/postern-control.toml'), (text, it) => replace(text, '@@${it.key}@@', it.value))

// ---- metrics

var prometheusValues = {
  clientId: clientId
  remoteWriteUrl: remoteWriteUrl
  region: region
}

var prometheusYml = reduce(items(prometheusValues), loadTextContent('../templates/prometheus.yml'), (text, it) => replace(text, '@@${it.key}@@', it.value))

// ---- all of it

var values = {
  prometheus: pushMetrics ? 'true' : 'false'
  packages: pushMetrics ? '[curl, logrotate, prometheus]' : '[curl, logrotate]'
  sysusers: base64(loadTextContent('../../systemd/postern.sysusers'))
  tmpfiles: base64(loadTextContent('../../systemd/postern.tmpfiles'))
  sysctl: base64(loadTextContent('../../systemd/postern.sysctl'))
  logrotate: base64(loadTextContent('../../systemd/postern.logrotate'))
  posternUnit: base64(loadTextContent('../../systemd/postern.service'))
  controlUnit: base64(loadTextContent('../../systemd/postern-control.service'))
  installer: base64(loadTextContent('../../systemd/postern-install'))
  posternToml: base64(posternToml)
  controlToml: base64(controlToml)
  prometheusYml: base64(prometheusYml)
  clientId: clientId
  // More than a drain takes, and less than the notice of termination.
  stopSeconds: string(drainNotice + drainTimeout + 30)
  probePort: string(probePort)
  posternUrl: postern.url
  posternSha256: postern.sha256
  controlUrl: posternControl.url
  controlSha256: posternControl.sha256
}

@description('The user data of a machine. It holds no secret: programs, names, public identifiers.')
output cloudInit string = reduce(items(values), loadTextContent('../templates/cloud-init.yaml'), (text, it) => replace(text, '@@${it.key}@@', it.value))
