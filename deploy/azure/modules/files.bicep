// What cloud-init lays down on a machine. Makes no resource: it fills templates, @@name@@ by @@name@@.

param dataPort int
param probePort int
param natPrefix string
param clusters object[]
param ingressEndpoints string[]
param routingEndpoints string[]
param routingName string
param serverCertificates object[]
param clientCertificate string
param clientSubject string
param issueClientCertificate bool
param caCertificate string
param sharedTickets bool
param stores string
param drainNotice int
param drainTimeout int
param startSpread int
param clientId string
param mainVaultUrl string
param caVaultUrl string
param ticketVaultUrl string
param postern object
param posternControl object
param pushMetrics bool
param remoteWriteUrl string
param scaleSet string

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
  issue: issueClientCertificate ? '\n[certificates.client.issue]\nsubject = "${clientSubject}"\n\n[certificates.client.issue.ca]\ncertificate = "${caCertificate}"\nvault = "ca"' : ''
  servers: join(map(serverCertificates, it => '[certificates.server-${it.name}]\nkind = "server"\nvault = "main"\nname = "${it.name}"\nstore = "${stores}/server-${it.name}"\nnames = ${string(it.names)}\n'), '\n')
  tickets: sharedTickets ? '[vaults.tickets]\nurl = "${ticketVaultUrl}"\nidentity = "vm"\n\n[tickets]\nvault = "tickets"\nname = "postern-tickets"\nstore = "${stores}/tickets"' : ''
  startSpread: string(startSpread)
}

var controlToml = reduce(items(controlValues), loadTextContent('../templates/postern-control.toml'), (text, it) => replace(text, '@@${it.key}@@', it.value))

// ---- metrics

var prometheusValues = {
  clientId: clientId
  remoteWriteUrl: remoteWriteUrl
  scaleSet: scaleSet
}

var prometheusYml = reduce(items(prometheusValues), loadTextContent('../templates/prometheus.yml'), (text, it) => replace(text, '@@${it.key}@@', it.value))

// ---- all of it

var values = {
  prometheus: pushMetrics ? 'true' : 'false'
  packages: pushMetrics ? '[prometheus]' : '[]'
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
