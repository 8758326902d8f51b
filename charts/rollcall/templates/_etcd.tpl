{{/* "true" where the chart runs etcd. */}}
{{- define "rollcall.etcd.own" -}}
{{- if not .Values.etcd.endpoints }}true{{ end -}}
{{- end -}}

{{- define "rollcall.etcd.members" -}}
{{- ternary 1 (int .Values.etcd.members) .Values.etcd.ephemeral -}}
{{- end -}}

{{/* Addresses of the chart's own members. */}}
{{- define "rollcall.etcd.ownEndpoints" -}}
{{- $urls := list -}}
{{- range until (int (include "rollcall.etcd.members" .)) -}}
{{- $urls = append $urls (printf "https://%s-%d.%s:2379" (include "rollcall.name" (list $ "etcd")) . (include "rollcall.host" (list $ "etcd"))) -}}
{{- end -}}
{{- join "," $urls -}}
{{- end -}}

{{- define "rollcall.etcd.initialCluster" -}}
{{- $members := list -}}
{{- range until (int (include "rollcall.etcd.members" .)) -}}
{{- $name := printf "%s-%d" (include "rollcall.name" (list $ "etcd")) . -}}
{{- $members = append $members (printf "%s=https://%s.%s:2380" $name $name (include "rollcall.host" (list $ "etcd"))) -}}
{{- end -}}
{{- join "," $members -}}
{{- end -}}

{{/* The Secret with which Rollcall's parts come to etcd; empty: none. */}}
{{- define "rollcall.etcd.clientSecret" -}}
{{- if include "rollcall.etcd.own" . -}}
{{- include "rollcall.name" (list . "etcd-client") -}}
{{- else -}}
{{- .Values.etcd.tls.secretName -}}
{{- end -}}
{{- end -}}

{{- define "rollcall.etcd.flags" -}}
- --etcd={{ if include "rollcall.etcd.own" . }}{{ include "rollcall.etcd.ownEndpoints" . }}{{ else }}{{ join "," .Values.etcd.endpoints }}{{ end }}
{{- if include "rollcall.etcd.clientSecret" . }}
- --etcd-ca=/etc/rollcall/etcd/ca.crt
- --etcd-cert=/etc/rollcall/etcd/tls.crt
- --etcd-key=/etc/rollcall/etcd/tls.key
{{- end }}
{{- end -}}

{{- define "rollcall.etcd.mount" -}}
{{- if include "rollcall.etcd.clientSecret" . }}
- {name: etcd-client, mountPath: /etc/rollcall/etcd, readOnly: true}
{{- end }}
{{- end -}}

{{- define "rollcall.etcd.volume" -}}
{{- with include "rollcall.etcd.clientSecret" . }}
{{- include "rollcall.secretVolume" (list "etcd-client" .) }}
{{- end }}
{{- end -}}

{{/* rollcall.bytes "8Gi": a quantity in bytes. */}}
{{- define "rollcall.bytes" -}}
{{- $n := regexFind "^[0-9]+" . | int64 -}}
{{- $factor := dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "K" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 -}}
{{- mul $n (get $factor (regexFind "[A-Za-z]*$" .) | int64) -}}
{{- end -}}
