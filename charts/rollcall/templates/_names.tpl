{{/* Names and labels. Names of cluster-wide objects end in the namespace, so that
installations of the same name in two namespaces do not meet. */}}

{{- define "rollcall.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* rollcall.name (list $ "part"): the name of a part's objects. */}}
{{- define "rollcall.name" -}}
{{- printf "%s-%s" (include "rollcall.fullname" (first .)) (last .) -}}
{{- end -}}

{{/* rollcall.clusterName (list $ "part"): the same, for objects without a namespace. */}}
{{- define "rollcall.clusterName" -}}
{{- printf "%s.%s" (include "rollcall.name" .) (first .).Release.Namespace -}}
{{- end -}}

{{/* rollcall.selector (list $ "part"). The name and the component are what kubectl
presence and the agents look for. */}}
{{- define "rollcall.selector" -}}
app.kubernetes.io/name: rollcall
app.kubernetes.io/instance: {{ (first .).Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end -}}

{{- define "rollcall.labels" -}}
{{ include "rollcall.selector" . }}
app.kubernetes.io/version: {{ (first .).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (first .).Release.Service }}
helm.sh/chart: {{ (first .).Chart.Name }}-{{ (first .).Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* rollcall.metadata (list $ "part"): of the part's objects with a namespace. */}}
{{- define "rollcall.metadata" -}}
name: {{ include "rollcall.name" . }}
namespace: {{ (first .).Release.Namespace }}
labels:
  {{- include "rollcall.labels" . | nindent 2 }}
{{- end -}}

{{- define "rollcall.clusterMetadata" -}}
name: {{ include "rollcall.clusterName" . }}
labels:
  {{- include "rollcall.labels" . | nindent 2 }}
{{- end -}}

{{/* rollcall.image (list $ .Values.image "default tag") */}}
{{- define "rollcall.image" -}}
{{- $i := index . 1 -}}
{{- if $i.digest -}}
{{- printf "%s@%s" $i.repository $i.digest -}}
{{- else -}}
{{- printf "%s:%s" $i.repository (default (index . 2) $i.tag) -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.rollcallImage" -}}
{{- include "rollcall.image" (list . .Values.image .Chart.AppVersion) -}}
{{- end -}}

{{/* rollcall.host (list $ "service"): a Service's full name. With the cluster's
domain it has dots enough for resolvers to ask for it as it is, at once. */}}
{{- define "rollcall.host" -}}
{{- printf "%s.%s.svc.%s" (include "rollcall.name" .) (first .).Release.Namespace (first .).Values.clusterDomain -}}
{{- end -}}

{{/* The client Service has the release's own name. */}}
{{- define "rollcall.clientHost" -}}
{{- printf "%s.%s.svc.%s" (include "rollcall.fullname" .) .Release.Namespace .Values.clusterDomain -}}
{{- end -}}
