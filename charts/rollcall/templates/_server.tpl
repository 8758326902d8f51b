{{/* Addresses of servers. */}}

{{/* The one port for clients: all of them speak TLS, or none does, for a server tells
them one address of another. */}}
{{- define "rollcall.server.port" -}}
{{- ternary 8883 1883 .Values.server.tls.enabled -}}
{{- end -}}

{{- define "rollcall.server.httpPort" -}}
{{- ternary 8443 8081 .Values.server.tls.enabled -}}
{{- end -}}

{{- define "rollcall.server.clientAddress" -}}
{{- printf "%s:%s" (include "rollcall.clientHost" .) (include "rollcall.server.port" .) -}}
{{- end -}}

{{/* Flags of a part that comes to servers. Agents come to pods by their IPs, which no
certificate is for: every server's is for the Service's name. */}}
{{- define "rollcall.tlsClientFlags" -}}
{{- if .Values.server.tls.enabled -}}
- --tls
- --tls-ca=/etc/rollcall/tls/ca.crt
- --tls-server-name={{ include "rollcall.clientHost" . }}
{{- if not .Values.access.clientCertificates.secretName }}
- --tls-cert=/etc/rollcall/tls/tls.crt
- --tls-key=/etc/rollcall/tls/tls.key
{{- end }}
{{- end -}}
{{- end -}}

{{/* rollcall.tokenVolume: who this pod is, and on which node, for heartbeat servers only. */}}
{{- define "rollcall.tokenVolume" -}}
- name: token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {audience: {{ .Values.access.audience }}, expirationSeconds: 3600, path: token}
{{- end -}}

{{- define "rollcall.accessFlags" -}}
{{- with .Values.access }}
- --service-accounts
- --audience={{ .audience }}
{{- if .anonymous }}
- --anonymous
{{- end }}
{{- if .jwt.issuer }}
- --jwt-issuer={{ .jwt.issuer }}
- --jwt-audience={{ .jwt.audience }}
- --jwt-keys={{ .jwt.keys }}
- --jwt-claim={{ .jwt.claim }}
{{- with .jwt.groupsClaim }}
- --jwt-groups-claim={{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The address that one server tells to clients. */}}
{{- define "rollcall.server.advertise" -}}
{{- $perPod := .Values.server.perPod -}}
{{- if .Values.server.advertise -}}
{{- .Values.server.advertise -}}
{{- else if eq $perPod.type "NodePort" -}}
{{- /* The last digit is the server's number: checks.yaml sees to it that there is one. */ -}}
{{- printf "%s:%s$(POD_INDEX)" (default "$(HOST_IP)" $perPod.host) ($perPod.nodePortBase | int | toString | trimSuffix "0") -}}
{{- else if eq $perPod.type "LoadBalancer" -}}
{{- printf "%s:%s" $perPod.host (include "rollcall.server.port" .) -}}
{{- else -}}
{{- printf "$(POD_NAME).%s:%s" (include "rollcall.host" (list . "server")) (include "rollcall.server.port" .) -}}
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
