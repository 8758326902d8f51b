{{/* "job" or "certManager". Who has made them goes on making them: two hands would
take them from each other. */}}
{{- define "rollcall.certificates.provider" -}}
{{- $provider := .Values.certificates.provider -}}
{{- if ne $provider "auto" -}}
{{- $provider -}}
{{- else if lookup "v1" "Secret" .Release.Namespace (include "rollcall.name" (list . "ca-key")) -}}
job
{{- else if .Capabilities.APIVersions.Has "cert-manager.io/v1" -}}
certManager
{{- else -}}
job
{{- end -}}
{{- end -}}

{{- define "rollcall.etcd.names" -}}
{{- $host := include "rollcall.host" (list . "etcd") -}}
{{- $short := printf "%s.%s.svc" (include "rollcall.name" (list . "etcd")) .Release.Namespace -}}
{{- printf "%s,*.%s,%s,*.%s,localhost,127.0.0.1,::1" $host $host $short $short -}}
{{- end -}}

{{/* Secrets that the Job makes; with cert-manager the gossip key alone. */}}
{{- define "rollcall.certificates.secrets" -}}
{{- $parts := list "gossip" -}}
{{- if eq (include "rollcall.certificates.provider" .) "job" -}}
{{- $parts = concat $parts (list "ca-key" "server-tls" "agent-tls") -}}
{{- if include "rollcall.etcd.own" . -}}
{{- $parts = concat $parts (list "etcd-ca-key" "etcd-tls" "etcd-client") -}}
{{- end -}}
{{- end -}}
{{- $names := list -}}
{{- range $parts -}}
{{- $names = append $names (include "rollcall.name" (list $ .)) -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{/* rollcall.certificates.pod (list $ "part" "account" extra arguments): the pod of a Job. */}}
{{- define "rollcall.certificates.pod" -}}
{{- $ := first . -}}
metadata:
  labels:
    {{- include "rollcall.labels" (list $ (index . 1)) | nindent 4 }}
spec:
  restartPolicy: Never
  serviceAccountName: {{ index . 2 }}
  enableServiceLinks: false
  {{- with $.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.Values.controller.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $.Values.controller.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "rollcall.podSecurity" $ | nindent 4 }}
  containers:
    - name: certificates
      image: {{ include "rollcall.rollcallImage" $ | quote }}
      imagePullPolicy: {{ $.Values.image.pullPolicy }}
      securityContext:
        {{- include "rollcall.containerSecurity" $ | nindent 8 }}
      args:
        - certificates
        - --namespace={{ $.Release.Namespace }}
        - --prefix={{ include "rollcall.fullname" $ }}
        - --instance={{ $.Release.Name }}
        {{- if eq (include "rollcall.certificates.provider" $) "certManager" }}
        - --gossip-only
        {{- else }}
        - --server-names={{ include "rollcall.server.names" $ }}
        {{- if include "rollcall.etcd.own" $ }}
        - --etcd-names={{ include "rollcall.etcd.names" $ }}
        {{- end }}
        {{- end }}
        - --log-level={{ $.Values.logLevel }}
        - --log-format={{ $.Values.logFormat }}
        {{- with index . 3 }}
        - {{ . }}
        {{- end }}
      resources:
        requests: {cpu: 10m, memory: 32Mi}
        limits: {memory: 128Mi}
{{- end -}}

{{- define "rollcall.certificates.rules" -}}
# A right to create cannot be bound to names.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ include "rollcall.certificates.secrets" . }}
  verbs: [get, update, delete]
{{- end -}}
