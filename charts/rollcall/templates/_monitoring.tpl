{{/* rollcall.operator (list $ value "name of the value"): "true" where auto, true or
false comes out as yes. */}}
{{- define "rollcall.operator" -}}
{{- $ := first . -}}
{{- $there := $.Capabilities.APIVersions.Has "monitoring.coreos.com/v1" -}}
{{- $value := toString (index . 1) -}}
{{- if and (eq $value "true") (not $there) -}}
{{- fail (printf "monitoring.%s is true, and the cluster does not know monitoring.coreos.com/v1: install the Prometheus operator first, or set it to auto (helm template: add --api-versions monitoring.coreos.com/v1)" (last .)) -}}
{{- end -}}
{{- if and $there (ne $value "false") -}}true{{- end -}}
{{- end -}}
