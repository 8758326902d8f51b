{{/* What values.schema.json cannot say: values that go together, and what is in the
cluster already. Every sentence says what to change. */}}
{{- define "rollcall.checks" -}}
{{- $e := .Values.etcd -}}
{{- $s := .Values.server -}}
{{- if and $e.endpoints $e.ephemeral -}}
{{- fail "etcd.endpoints names an etcd of your own, and etcd.ephemeral asks for one of the chart's: give only one of the two" -}}
{{- end -}}
{{- range $e.endpoints -}}
{{- if not (regexMatch "^https?://[^\\s/]+:[0-9]+$" .) -}}
{{- fail (printf "etcd.endpoints has %q: write https://host:port" .) -}}
{{- end -}}
{{- end -}}
{{- if and $e.tls.secretName (not $e.endpoints) -}}
{{- fail "etcd.tls.secretName is for an etcd of your own: give etcd.endpoints too, or leave it out (the chart's etcd gets its certificates by itself)" -}}
{{- end -}}
{{- if and $e.tls.secretName (hasPrefix "http://" (first $e.endpoints)) -}}
{{- fail "etcd.tls.secretName does nothing for http:// endpoints: write etcd.endpoints with https://" -}}
{{- end -}}
{{- if not $e.endpoints -}}
{{- $quota := include "rollcall.bytes" $e.quota | int64 -}}
{{- if gt $quota 8589934592 -}}
{{- fail (printf "etcd.quota is %s: etcd supports at most 8Gi" $e.quota) -}}
{{- end -}}
{{- if lt (mul 5 (include "rollcall.bytes" $e.storage.size | int64)) (mul 6 $quota) -}}
{{- fail (printf "etcd.storage.size is %s, too little for a database of up to %s (etcd.quota) and its log: make it a fifth larger than the quota at least, or lower the quota" $e.storage.size $e.quota) -}}
{{- end -}}
{{- end -}}
{{- $a := .Values.access -}}
{{- if and $a.jwt.issuer (not (and $a.jwt.audience $a.jwt.keys $a.jwt.claim)) -}}
{{- fail "access.jwt.issuer needs access.jwt.audience, access.jwt.keys and access.jwt.claim too" -}}
{{- end -}}
{{- if and (not $a.jwt.issuer) (or $a.jwt.audience $a.jwt.keys) -}}
{{- fail "access.jwt.audience and access.jwt.keys do nothing without access.jwt.issuer: give it too" -}}
{{- end -}}
{{- if and $a.clientCertificates.secretName (not $s.tls.enabled) -}}
{{- fail "access.clientCertificates.secretName needs TLS: set server.tls.enabled=true" -}}
{{- end -}}
{{- if and (eq $s.perPod.type "LoadBalancer") (not $s.advertise) (not $s.perPod.host) -}}
{{- fail "server.perPod.type is LoadBalancer, whose addresses nobody knows beforehand: set server.perPod.host to a name for each server, with $(POD_NAME) in it, and let DNS have it" -}}
{{- end -}}
{{- if and (eq $s.perPod.type "LoadBalancer") (not $s.advertise) (gt (int $s.replicas) 1) (not (regexMatch "\\$\\(POD_(NAME|INDEX)\\)" $s.perPod.host)) -}}
{{- fail (printf "server.perPod.host is %q for all servers: put $(POD_NAME) or $(POD_INDEX) in it, so that each has its own" $s.perPod.host) -}}
{{- end -}}
{{- if and $s.balanced.enabled (not $s.balanced.trusted) -}}
{{- fail "server.balanced.enabled needs server.balanced.trusted, the networks of the load balancer, such as [10.0.0.0/24]: whoever may send such headers says who clients are" -}}
{{- end -}}
{{- if and $s.balanced.trusted (not $s.balanced.enabled) -}}
{{- fail "server.balanced.trusted does nothing without server.balanced.enabled: set it to true" -}}
{{- end -}}
{{- if and $s.http.advertise (not $s.http.enabled) -}}
{{- fail "server.http.advertise does nothing without server.http.enabled: set it to true" -}}
{{- end -}}
{{- if and $s.http.advertise (gt (int $s.replicas) 1) (not (contains "$(" $s.http.advertise)) -}}
{{- fail (printf "server.http.advertise is %q for all servers, but it must lead to one of them: put $(POD_NAME), $(POD_IP), $(HOST_IP), $(NODE_NAME) or $(POD_INDEX) in it" $s.http.advertise) -}}
{{- end -}}
{{- if and $s.http.enabled (ne $s.perPod.type "None") (not $s.http.advertise) -}}
{{- fail (printf "server.http.enabled with server.perPod.type %s, whose Services lead to MQTT only: set server.http.advertise to where clients reach port %s of each server, such as $(POD_IP):%s for those in the cluster" $s.perPod.type (include "rollcall.server.httpPort" .) (include "rollcall.server.httpPort" .)) -}}
{{- end -}}
{{- if and $s.udp.enabled (not $s.tls.enabled) -}}
{{- fail "server.udp.enabled needs TLS, over which alone clients are given keys for it: set server.tls.enabled=true" -}}
{{- end -}}
{{- if and $s.udp.enabled (ne $s.perPod.type "None") (not $s.udp.advertise) -}}
{{- fail (printf "server.udp.enabled with server.perPod.type %s, whose Services lead to TCP only: set server.udp.advertise to where clients reach UDP port 8884 of each server, such as $(POD_IP):8884 for those in the cluster" $s.perPod.type) -}}
{{- end -}}
{{- if and $s.udp.advertise (not $s.udp.enabled) -}}
{{- fail "server.udp.advertise does nothing without server.udp.enabled: set it to true" -}}
{{- end -}}
{{- if and $s.udp.advertise (gt (int $s.replicas) 1) (not (contains "$(" $s.udp.advertise)) -}}
{{- fail (printf "server.udp.advertise is %q for all servers, but it must lead to one of them: put $(POD_NAME), $(POD_IP), $(HOST_IP), $(NODE_NAME) or $(POD_INDEX) in it" $s.udp.advertise) -}}
{{- end -}}
{{- if eq $s.perPod.type "NodePort" -}}
{{- if ne (mod (int $s.perPod.nodePortBase) 10) 0 -}}
{{- fail (printf "server.perPod.nodePortBase is %d: it must end in 0, the servers' numbers take its place" (int $s.perPod.nodePortBase)) -}}
{{- end -}}
{{- if gt (int $s.replicas) 10 -}}
{{- fail (printf "server.replicas is %d: with server.perPod.type NodePort there can be 10, use LoadBalancer for more" (int $s.replicas)) -}}
{{- end -}}
{{- end -}}
{{- if and $s.advertise (eq $s.perPod.type "None") (gt (int $s.replicas) 1) (not (contains "$(" $s.advertise)) -}}
{{- fail (printf "server.advertise is %q for all servers, but it must lead to one of them: put $(POD_NAME), $(POD_IP), $(HOST_IP), $(NODE_NAME) or $(POD_INDEX) in it" $s.advertise) -}}
{{- end -}}
{{- if and (ne $s.service.type "ClusterIP") (eq (int $s.service.nodePort) (int $s.perPod.nodePortBase)) (eq $s.perPod.type "NodePort") -}}
{{- fail (printf "server.service.nodePort and server.perPod.nodePortBase are both %d: a node port leads to one Service" (int $s.service.nodePort)) -}}
{{- end -}}
{{- if and (eq $s.service.type "ClusterIP") $s.service.nodePort -}}
{{- fail "server.service.nodePort needs server.service.type NodePort or LoadBalancer" -}}
{{- end -}}
{{- if and (eq .Values.certificates.provider "certManager") (not (.Capabilities.APIVersions.Has "cert-manager.io/v1")) -}}
{{- fail "certificates.provider is certManager, and the cluster does not know cert-manager.io/v1: install cert-manager first, or set it to auto or job (helm template: add --api-versions cert-manager.io/v1)" -}}
{{- end -}}
{{- range list .Values.controller .Values.server .Values.agent .Values.agent.sever -}}
{{- range $name, $_ := .extraFlags -}}
{{- if not (regexMatch "^[a-z][a-z0-9-]*$" $name) -}}
{{- fail (printf "extraFlags has %q: write a flag's name without dashes before it, as in {log-level: debug}" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $g := .Values.agent.gossip -}}
{{- if and $g.hostNetwork (eq (int $g.port) (int $g.httpPort)) -}}
{{- fail (printf "agent.gossip.port and agent.gossip.httpPort are both %d: give each its own" (int $g.port)) -}}
{{- end -}}
{{- if and $g.hostNetwork .Values.networkPolicies.enabled .Values.networkPolicies.clients (not (contains "ipBlock" (toJson .Values.networkPolicies.clients))) -}}
{{- fail "agent.gossip.hostNetwork makes agents come from their nodes' addresses, which no pod selector finds: add the nodes' network to networkPolicies.clients, as {ipBlock: {cidr: 10.0.0.0/24}}" -}}
{{- end -}}
{{- include "rollcall.checkCluster" . -}}
{{- end -}}

{{/* What another installation has. Nothing is found where no cluster is asked (helm template). */}}
{{- define "rollcall.checkCluster" -}}
{{- $other := lookup "v1" "ConfigMap" .Release.Namespace "rollcall-installation" -}}
{{- if $other -}}
{{- $release := dig "data" "release" "" $other -}}
{{- if and $release (ne $release .Release.Name) -}}
{{- fail (printf "namespace %s has an installation already, the release %s: choose another with --namespace, a namespace holds one" .Release.Namespace $release) -}}
{{- end -}}
{{- end -}}
{{- if .Values.installation.default -}}
{{- $claim := lookup "rbac.authorization.k8s.io/v1" "ClusterRole" "" "rollcall-default-installation" -}}
{{- if $claim -}}
{{- $namespace := dig "metadata" "labels" "rollcall.dev/installation" "" $claim -}}
{{- if ne $namespace .Release.Namespace -}}
{{- fail (printf "namespace %s has the cluster's default installation of Rollcall already, and both would look after the same Presences: set installation.default=false and crds.enabled=false, and label the Presences that this one is to look after rollcall.dev/installation: %s (if that installation is gone: kubectl delete clusterrole rollcall-default-installation)" $namespace .Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .Values.crds.enabled -}}
{{- $crd := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "presences.rollcall.dev" -}}
{{- if $crd -}}
{{- $a := dig "metadata" "annotations" dict $crd -}}
{{- $release := get $a "meta.helm.sh/release-name" -}}
{{- $namespace := get $a "meta.helm.sh/release-namespace" -}}
{{- if and $release (or (ne $release .Release.Name) (ne $namespace .Release.Namespace)) -}}
{{- fail (printf "the CRDs belong to the release %s in namespace %s: set crds.enabled=false to share them (if that release is gone, hand them over: kubectl annotate crd presences.rollcall.dev failovers.rollcall.dev --overwrite meta.helm.sh/release-name=%s meta.helm.sh/release-namespace=%s)" $release $namespace .Release.Name .Release.Namespace) -}}
{{- end -}}
{{- if not $release -}}
{{- fail "the CRDs are in the cluster, and not Helm's: set crds.enabled=false" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
