package e2e

import (
	"bytes"
	"fmt"
	"text/template"

	"github.com/rollcall-dev/rollcall/test/e2e/service"
)

// workload is a Deployment of three pods, and the Service that leads to them.
type workload struct {
	Namespace, Name string
	Speech          service.Speech
	// Accepting: it follows the label by which servers are taken out.
	Accepting bool
	// Gated: its pods carry the readiness gate by which servers are taken out.
	Gated bool
	// CPU that a pod may have, as Kubernetes writes it; empty: all that there is.
	CPU string
	// Probes of Kubernetes, a line of the container's YAML.
	Probes string
}

// soonNotReady is a readiness probe that is quicker than usual.
const soonNotReady = "readinessProbe: {tcpSocket: {port: app}, periodSeconds: 2}"

var workloadManifest = template.Must(template.New("workload").Parse(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{.Name}}, namespace: {{.Namespace}}}
spec:
  replicas: 3
  selector: {matchLabels: {app: {{.Name}}}}
  template:
    metadata: {labels: {app: {{.Name}}{{if .Accepting}}, rollcall.dev/accepting: "true"{{end}}}}
    spec:
      terminationGracePeriodSeconds: 1
      {{- if .Gated}}
      readinessGates: [{conditionType: rollcall.dev/accepting}]
      {{- end}}
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: {{.Name}}}}, matchLabelKeys: [pod-template-hash]}
      containers:
        - name: server
          image: {{.Image}}
          imagePullPolicy: IfNotPresent
          args: [serve, -speech, {{.Speech}}]
          ports: [{name: app, containerPort: 8080}]
          {{- with .CPU}}
          resources: {limits: {cpu: {{.}}}}
          {{- end}}
          {{.Probes}}
---
apiVersion: v1
kind: Service
metadata: {name: {{.Name}}, namespace: {{.Namespace}}}
spec:
  selector: {app: {{.Name}}{{if .Accepting}}, rollcall.dev/accepting: "true"{{end}}}
  ports: [{name: app, port: 8080, targetPort: app}]
`))

func (l workload) manifest(image string) (string, error) {
	var b bytes.Buffer
	err := workloadManifest.Execute(&b, struct {
		workload
		Image string
	}{l, image})
	return b.String(), err
}

var servicePresence = template.Must(template.New("presence").Parse(`
apiVersion: rollcall.dev/v1alpha1
kind: Presence
metadata: {name: {{.Name}}, namespace: {{.Namespace}}}
spec:
  servers:
    selector: {matchLabels: {app: {{.Name}}}}
    port: app
    probe: {{if eq .Speech "grpc"}}{grpc: {}}{{else}}{http: {path: /healthz}}{{end}}
    failover: {mode: Automatic, clientsPerSecond: 100, sever: {mode: Paced}{{if .Gated}}, divert: ReadinessGate{{end}}}
`))

// presenceManifest is the Presence that looks after it, with what is usual.
func (l workload) presenceManifest() (string, error) {
	var b bytes.Buffer
	err := servicePresence.Execute(&b, l)
	return b.String(), err
}

// clientsPod is a pod of so many clients on the clients' node, whose answers cost
// so many units of work; 0: the usual ones.
func (s *served) clientsPod(name string, count, units int) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  enableServiceLinks: false
  terminationGracePeriodSeconds: 1
  nodeSelector: {kubernetes.io/hostname: %s}
  tolerations: [{operator: Exists}]
  containers:
    - name: clients
      image: %s
      imagePullPolicy: IfNotPresent
      args: [use, -speech, %s, -address, "%s:8080", -count, "%d", -units, "%d"]
`, name, s.Namespace, s.node, *serviceImage, s.Speech, s.Name, count, units)
}
