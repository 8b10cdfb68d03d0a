{{/* postern-routing.toml; what is not said here has the program's default. */}}
{{- define "postern.routingConfiguration" -}}
[listen]
address = "0.0.0.0:8450"

[tls]
identity = "/var/run/postern/certificates/server.pem"
trust = "/var/run/postern/certificates/client-ca.pem"
{{ range $name, $client := .Values.routing.clients }}
[clients.{{ $name }}]
san = {{ $client.san | quote }}
roles = {{ $client.roles | toJson }}
{{ end }}
[store]
kind = "sqlite"
path = "/var/lib/postern/routing.sqlite"

# Reached by the kubelet's probes and by who scrapes; the network policy lets nobody else in.
[admin]
listen = "0.0.0.0:9093"

[log]
level = {{ .Values.routing.logLevel | quote }}
{{- end }}
