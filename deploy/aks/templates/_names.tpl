{{/* Labels of everything. */}}
{{- define "postern.labels" -}}
app.kubernetes.io/part-of: postern
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The pods of one part: (list $ "routing"). */}}
{{- define "postern.selector" -}}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The gateway's pods: every implementation labels them so. */}}
{{- define "postern.gatewayPods" -}}
gateway.networking.k8s.io/gateway-name: {{ .Release.Name }}
{{- end }}

{{/* The namespace of a route's service: (list $ $route). */}}
{{- define "postern.namespace" -}}
{{- (index . 1).service.namespace | default (index . 0).Release.Namespace -}}
{{- end }}

{{/* What makes a load balancer internal: .subnet and .address are values. */}}
{{- define "postern.internal" -}}
service.beta.kubernetes.io/azure-load-balancer-internal: "true"
{{- with .subnet }}
service.beta.kubernetes.io/azure-load-balancer-internal-subnet: {{ . | quote }}
{{- end }}
{{- with .address }}
service.beta.kubernetes.io/azure-load-balancer-ipv4: {{ . | quote }}
{{- end }}
{{- end }}

{{/* Spread over zones first: the labels of the pods. */}}
{{- define "postern.spread" -}}
- maxSkew: 1
  topologyKey: topology.kubernetes.io/zone
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- . | nindent 6 }}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- . | nindent 6 }}
{{- end }}

{{- define "postern.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "postern.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* One object of the vault as a file: (list "name" "file"). A certificate's secret is its key and whole chain. */}}
{{- define "postern.vaultObject" -}}
- |
  objectName: {{ index . 0 }}
  objectType: secret
  objectAlias: {{ index . 1 }}
{{- end }}

{{/* Peers of network policies. */}}
{{- define "postern.fromPostern" -}}
{{- range .Values.postern.subnets }}
- ipBlock:
    cidr: {{ . }}
{{- end }}
{{- end }}

{{- define "postern.fromMonitoring" -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ .Values.monitoring.namespace }}
  podSelector:
    matchLabels:
      {{- toYaml .Values.monitoring.labels | nindent 6 }}
{{- end }}

{{/* Fewer gateway pods only slowly: each that goes ends long uploads. */}}
{{- define "postern.scaling" -}}
scaleDown:
  stabilizationWindowSeconds: 1800
  policies:
    - type: Pods
      value: 1
      periodSeconds: 600
{{- end }}
