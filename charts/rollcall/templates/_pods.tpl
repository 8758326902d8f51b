{{/* What the pods of all parts have in common. */}}

{{/* rollcall.podSpec (list $ "part"): the beginning of a pod's spec. The severer runs
where agents do. */}}
{{- define "rollcall.podSpec" -}}
{{- $ := first . -}}
{{- $part := index $.Values (ternary "agent" (last .) (eq (last .) "sever")) -}}
serviceAccountName: {{ include "rollcall.name" . }}
{{- with $.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
# A Service called rollcall would put ROLLCALL_SERVICE_HOST into the environment,
# and every ROLLCALL_… is a setting.
enableServiceLinks: false
{{- $priority := include "rollcall.priorityClassName" (list $ $part.priorityClassName) }}
{{- if $priority }}
priorityClassName: {{ $priority }}
{{- end }}
securityContext:
  {{- include "rollcall.podSecurity" . | nindent 2 }}
{{- with $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "rollcall.priorityClassName" -}}
{{- $ := first . -}}
{{- if last . -}}
{{- last . -}}
{{- else if $.Values.priorityClass.create -}}
{{- printf "%s.%s" (include "rollcall.fullname" $) $.Release.Namespace -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "rollcall.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* rollcall.spread (list $ "part" $matchLabelKeys): apart by node wherever there
are nodes enough, by zone where it can be had. A single node takes them all. */}}
{{- define "rollcall.spread" -}}
{{- $ := first . -}}
{{- $part := index . 1 -}}
{{- $selector := include "rollcall.selector" (list $ $part) -}}
topologySpreadConstraints:
  - topologyKey: kubernetes.io/hostname
    maxSkew: 1
    whenUnsatisfiable: DoNotSchedule
    nodeTaintsPolicy: Honor
    {{- with index . 2 }}
    matchLabelKeys: {{ toJson . }}
    {{- end }}
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
  - topologyKey: topology.kubernetes.io/zone
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    nodeTaintsPolicy: Honor
    {{- with index . 2 }}
    matchLabelKeys: {{ toJson . }}
    {{- end }}
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
affinity:
  {{- with (index $.Values $part).affinity }}
  {{- toYaml . | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- $selector | nindent 14 }}
  {{- end }}
{{- end -}}

{{/* Downward API: who this pod is, and where. */}}
{{- define "rollcall.identity" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: HOST_IP
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
# Kubernetes copies it from the node; empty where it does not.
- name: POD_ZONE
  valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}
{{- end -}}

{{/* rollcall.flags (list $ "part"): flags that every part has, and the user's. */}}
{{- define "rollcall.flags" -}}
{{- $ := first . -}}
- --log-level={{ $.Values.logLevel }}
- --log-format={{ $.Values.logFormat }}
- --http={{ include "rollcall.httpHost" . }}:{{ include "rollcall.httpPort" . }}
{{- $part := index $.Values (ternary "agent" (last .) (eq (last .) "sever")) }}
{{- range $name, $value := ternary (dig "sever" dict $part) $part (eq (last .) "sever") | dig "extraFlags" dict }}
- {{ printf "--%s=%v" $name $value | quote }}
{{- end }}
{{- end -}}

{{/* rollcall.httpPort and rollcall.httpHost (list $ "part"): where its metrics and
health are. On the node's network only at the node's own address, and at a port of the user's. */}}
{{- define "rollcall.httpPort" -}}
{{- $g := (first .).Values.agent.gossip -}}
{{- ternary (int $g.httpPort) 8080 (and (eq (last .) "agent") $g.hostNetwork) -}}
{{- end -}}
{{- define "rollcall.httpHost" -}}
{{- ternary "[$(POD_IP)]" "" (and (eq (last .) "agent") (first .).Values.agent.gossip.hostNetwork) -}}
{{- end -}}

{{- define "rollcall.httpProbes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 3
{{- end -}}

{{/* rollcall.secretVolume (list "volume" "secret") */}}
{{- define "rollcall.secretVolume" -}}
- name: {{ first . }}
  secret:
    secretName: {{ last . }}
    defaultMode: 0440
{{- end -}}
