package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rollcall-dev/rollcall/controllers/explain"
)

const (
	// askWithin bounds how long a controller is waited for.
	askWithin = 5 * time.Second
	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 4 << 20
	// httpPort of a controller, and where its pod doesn't name one.
	httpPortName, httpPort = "http", 8080
)

// controllerLabels are those of the controllers' pods.
var controllerLabels = client.MatchingLabels{"app.kubernetes.io/name": "rollcall", "app.kubernetes.io/component": "controller"}

// errNotAsked says why no controller could be asked, in a clause.
type errNotAsked struct{ error }

// ask puts a question to a controller, or to all there are, and returns every
// answer. Its error is an errNotAsked; it is nil if there is an answer.
func (p *plugin) ask(ctx context.Context, c *cluster, path string, query url.Values) ([]json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if p.controller != "" {
		raw, err := direct(ctx, p.controller, path, query)
		if err != nil {
			return nil, errNotAsked{fmt.Errorf("%s: %w", p.controller, err)}
		}
		return []json.RawMessage{raw}, nil
	}
	if c == nil {
		return nil, errNotAsked{errors.New("there is no way to it but --controller")}
	}
	var pods corev1.PodList
	if err := c.List(ctx, &pods, client.InNamespace(p.system), controllerLabels); err != nil {
		return nil, errNotAsked{c.sentence("listing the controllers in namespace "+p.system, err)}
	}
	var (
		mu      sync.Mutex
		answers []json.RawMessage
		faults  []string
		wg      sync.WaitGroup
	)
	for _, pod := range pods.Items {
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue
		}
		wg.Go(func() {
			raw, err := c.proxied(ctx, &pod, path, query)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				faults = append(faults, "pod "+pod.Name+" "+err.Error())
				return
			}
			answers = append(answers, raw)
		})
	}
	wg.Wait()
	switch {
	case len(answers) > 0:
		return answers, nil
	case len(faults) > 0:
		return nil, errNotAsked{errors.New(strings.Join(faults, "; "))}
	}
	return nil, errNotAsked{fmt.Errorf("no pod in namespace %s is labelled as a controller, %s (--system-namespace says where Rollcall is installed)",
		p.system, labels.Set(controllerLabels))}
}

// proxied asks one pod through the API server.
func (c *cluster) proxied(ctx context.Context, pod *corev1.Pod, path string, query url.Values) (json.RawMessage, error) {
	params := map[string]string{}
	for k := range query {
		params[k] = query.Get(k)
	}
	raw, err := c.pods.Pods(pod.Namespace).ProxyGet("", pod.Name, strconv.Itoa(portOf(pod)), path, params).DoRaw(ctx)
	switch refusal := refusedBy(raw); {
	case err == nil && json.Valid(raw):
		return raw, nil
	case err == nil:
		return nil, errors.New("gives an answer that is not understood: it is of another version")
	case refusal != "":
		return nil, errors.New("says that " + refusal)
	case apierrors.IsForbidden(err):
		return nil, errors.New("may not be asked by you: that takes the right to get pods/proxy")
	case apierrors.IsNotFound(err):
		return nil, errors.New("doesn't know the question: it is of another version, or its --http is on another port")
	default:
		return nil, fmt.Errorf("can't be reached through the API server (%w)", bare(err))
	}
}

// portOf is the port of a controller's --http.
func portOf(pod *corev1.Pod) int {
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == httpPortName {
				return int(port.ContainerPort)
			}
		}
	}
	return httpPort
}

// direct asks a controller at its own address.
func direct(ctx context.Context, base, path string, query url.Values) (json.RawMessage, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("doesn't answer (%w)", bare(err))
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch refusal := refusedBy(raw); {
	case err != nil:
		return nil, fmt.Errorf("broke off (%w)", err)
	case refusal != "":
		return nil, errors.New("says that " + refusal)
	case response.StatusCode != http.StatusOK || !json.Valid(raw):
		return nil, fmt.Errorf("gives no answer that is understood (%s)", response.Status)
	}
	return raw, nil
}

// refusedBy is why a controller gives no answer; empty: it gives one, or it is
// not a controller that spoke.
func refusedBy(raw []byte) string {
	var r explain.Refusal
	if json.Unmarshal(raw, &r) != nil {
		return ""
	}
	return r.Refused
}

// judgement asks for that of the controller that leads, or else of any.
func (p *plugin) judgement(ctx context.Context, c *cluster, server client.ObjectKey) (*explain.Judgement, error) {
	answers, err := p.ask(ctx, c, explain.JudgementPath, url.Values{"server": {server.String()}})
	if err != nil {
		return nil, err
	}
	var best *explain.Judgement
	for _, raw := range answers {
		var j explain.Judgement
		if json.Unmarshal(raw, &j) == nil && (best == nil || j.Leading && !best.Leading || j.Leading == best.Leading && j.At.After(best.At)) {
			best = &j
		}
	}
	if best == nil {
		return nil, errNotAsked{errors.New("its answer is not understood: it is of another version")}
	}
	return best, nil
}
