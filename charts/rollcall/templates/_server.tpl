{{/* Addresses of servers. */}}

{{/* The address that one server tells to clients. */}}
{{- define "rollcall.server.advertise" -}}
{{- $perPod := .Values.server.perPod -}}
{{- if .Values.server.advertise -}}
{{- .Values.server.advertise -}}
{{- else if eq $perPod.type "NodePort" -}}
{{- /* The last digit is the server's number: checks.yaml sees to it that there is one. */ -}}
{{- printf "%s:%s$(POD_INDEX)" (default "$(HOST_IP)" $perPod.host) ($perPod.nodePortBase | int | toString | trimSuffix "0") -}}
{{- else if eq $perPod.type "LoadBalancer" -}}
{{- printf "%s:1883" $perPod.host -}}
{{- else -}}
{{- printf "$(POD_NAME).%s:1883" (include "rollcall.host" (list . "server")) -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.server.grace" -}}
{{- if .Values.server.terminationGracePeriodSeconds -}}
{{- int .Values.server.terminationGracePeriodSeconds -}}
{{- else -}}
{{- add 30 (ceil (divf .Values.server.capacity .Values.server.connectRate)) -}}
{{- end -}}
{{- end -}}

{{/* Names that a server's certificate is for, comma separated. */}}
{{- define "rollcall.server.names" -}}
{{- $service := include "rollcall.fullname" . -}}
{{- $pods := include "rollcall.name" (list . "server") -}}
{{- $names := list (include "rollcall.clientHost" .) (printf "*.%s" (include "rollcall.host" (list . "server"))) -}}
{{- $names = concat $names (list $service (printf "%s.%s" $service .Release.Namespace) (printf "%s.%s.svc" $service .Release.Namespace) (printf "*.%s.%s.svc" $pods .Release.Namespace) "localhost") -}}
{{- /* Of an address with $(…) in its first label a wildcard is left; addresses that are IPs are not known before. */ -}}
{{- range list .Values.server.perPod.host (regexReplaceAll ":[0-9$(){}A-Z_]+$" .Values.server.advertise "") -}}
{{- $name := regexReplaceAll "^[^.]*\\$\\([A-Z_]+\\)[^.]*\\." . "*." -}}
{{- if and $name (not (contains "$(" $name)) -}}
{{- $names = append $names $name -}}
{{- end -}}
{{- end -}}
{{- join "," (concat $names .Values.certificates.serverNames | uniq) -}}
{{- end -}}
