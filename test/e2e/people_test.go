package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/client/crowd"
)

// Who is there: clients of the SDK in one pod, and clients that are not ours in
// another, half of them with MQTT 5 and half with 3.1.1.
const (
	peopleNamespace, peoplePresence = "im", "apps"

	sdkName, sdkClients         = "crowd", 960
	mosquittoName, mosquittos   = "mosquitto", 40
	patientName, patients       = "patient", 500
	sdkInterval, mosquittoAlive = 5, 10 // seconds
	patientAlive                = 60
)

// people are the pods of clients.
type people struct {
	w *world
	// count of clients that should be here.
	count int
}

var manifest = template.Must(template.New("people").Parse(`
apiVersion: v1
kind: Namespace
metadata: {name: {{.Namespace}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: servers-authority, namespace: {{.Namespace}}}
data: {ca.crt: {{printf "%q" .Authority}}}
---
apiVersion: rollcall.dev/v1alpha1
kind: Presence
metadata: {name: {{.Presence}}, namespace: {{.Namespace}}}
spec: {clients: {interval: {min: 1s, max: 2m}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: client, namespace: {{.Namespace}}}
rules: [{apiGroups: [rollcall.dev], resources: [presences/clients], verbs: [connect, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: clients, namespace: {{.Namespace}}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: client}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: "system:serviceaccounts:{{.Namespace}}"}]
{{- range .Pods}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: {{.Name}}, namespace: {{$.Namespace}}}
---
apiVersion: v1
kind: Pod
metadata: {name: {{.Name}}, namespace: {{$.Namespace}}, labels: {app: {{.Name}}}}
spec:
  serviceAccountName: {{.Name}}
  enableServiceLinks: false
  terminationGracePeriodSeconds: 5
  nodeSelector: {kubernetes.io/hostname: {{$.Node}}}
  # The clients are to stay where they are, whatever becomes of their node.
  tolerations: [{operator: Exists}]
  {{- if .Script}}
  # mosquitto_sub sets no limit to how long it connects, and the kernel's is over two
  # minutes: long enough to be held offline, where the address was that of a server that is
  # gone. With three repetitions it is 4 to 15 s, like that of most clients' libraries.
  initContainers:
    - name: connects-have-a-limit
      image: {{.Image}}
      imagePullPolicy: IfNotPresent
      command: [/bin/sh, -c, "echo 3 >/proc/sys/net/ipv4/tcp_syn_retries"]
      securityContext: {privileged: true}
  {{- end}}
  containers:
    - name: clients
      image: {{.Image}}
      imagePullPolicy: IfNotPresent
      {{- if .Script}}
      command: [/bin/sh, -c, {{printf "%q" .Script}}]
      {{- else}}
      args: {{.Args}}
      {{- end}}
      volumeMounts:
        - {name: authority, mountPath: /etc/rollcall/tls, readOnly: true}
        - {name: token, mountPath: /var/run/rollcall, readOnly: true}
  volumes:
    - name: authority
      configMap: {name: servers-authority}
    - name: token
      projected:
        sources: [{serviceAccountToken: {audience: rollcall, path: token, expirationSeconds: 86400}}]
{{- end}}
`))

// ordinary runs clients that are not ours, and says who ended and when. Each
// comes back after a second when its program ends, as a service manager would
// have it.
const ordinary = `host=%s i=0
while [ $i -lt %d ]; do
	version=mqttv5
	[ $((i %% 2)) = 0 ] || version=mqttv311
	while :; do
		mosquitto_sub -V $version -h ${host%%:*} -p ${host##*:} --cafile /etc/rollcall/tls/ca.crt \
			-i %s-$i -u %s -P "$(cat /var/run/rollcall/token)" -k %d -t "\$rollcall/presence/%[4]s/%[3]s-$i" >/dev/null
		echo "$i ended with $?"
		sleep 1
	done &
	i=$((i+1))
done
wait`

// clientPod is a pod of so many clients, whose ids begin with its name.
type clientPod struct {
	Count               int
	Name, Image, Script string
	Args                string // a JSON list; empty with a Script
}

// firstServer is where clients find their first server.
const firstServer = release + "." + namespace + ".svc.cluster.local:8883"

func sdkPod(name, image string, count int) clientPod {
	args, err := json.Marshal([]string{
		"crowd", fmt.Sprintf("--count=%d", count), "--prefix=" + name, "--presence=" + peopleNamespace + "/" + peoplePresence,
		"--servers=" + firstServer, "--tls", "--tls-ca=/etc/rollcall/tls/ca.crt", "--token-file=/var/run/rollcall/token",
		fmt.Sprintf("--interval=%ds", sdkInterval), "--start-rate=200",
	})
	if err != nil {
		panic(err) // strings always can be written
	}
	return clientPod{Count: count, Name: name, Image: image, Args: string(args)}
}

// mosquittoPod has clients with the given keepalive, in seconds.
func mosquittoPod(name string, count, keepalive int) clientPod {
	return clientPod{Count: count, Name: name, Image: *mosquitto, Script: fmt.Sprintf(ordinary, firstServer, count, name, peopleNamespace+"/"+peoplePresence, keepalive)}
}

// come makes pods of clients on a node.
func (p *people) come(ctx context.Context, node string, pods ...clientPod) error {
	secret, err := p.w.kube.CoreV1().Secrets(namespace).Get(ctx, release+"-server-tls", metav1.GetOptions{})
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := manifest.Execute(&b, map[string]any{
		"Namespace": peopleNamespace, "Presence": peoplePresence, "Authority": string(secret.Data["ca.crt"]), "Node": node, "Pods": pods,
	}); err != nil {
		return err
	}
	for _, pod := range pods {
		p.count += pod.Count
	}
	return p.w.apply(ctx, b.String())
}

// heard are the events that the clients of the SDK told from a time on, counted
// by kind, with the reason for which a server was left.
func (p *people) heard(ctx context.Context, pod string, from time.Time) (map[string]int, error) {
	since := metav1.NewTime(from)
	logs, err := p.w.kube.CoreV1().Pods(peopleNamespace).GetLogs(pod, &corev1.PodLogOptions{SinceTime: &since}).Stream(ctx)
	if err != nil {
		return nil, fmt.Errorf("what clients told: %w", err)
	}
	defer logs.Close()
	told := map[string]int{}
	lines := bufio.NewReader(logs)
	for {
		text, err := lines.ReadBytes('\n')
		var l crowd.Line
		if json.Unmarshal(text, &l) == nil && l.Client != "" && !l.At.Before(from) {
			told[string(l.Kind)]++
			if l.Kind == "Moved" {
				told["Moved "+l.Reason]++
			}
		}
		if err == io.EOF {
			return told, nil
		}
		if err != nil {
			return nil, fmt.Errorf("what clients told: %w", err)
		}
	}
}
