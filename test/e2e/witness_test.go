package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rollcall-dev/rollcall/internal/store"
)

// witness follows what etcd holds of the clients: where each is, and who was ever
// declared offline. It listens to every member by itself, so that none which is
// cut off keeps it from knowing, through `kubectl port-forward`, begun again
// whenever it ends.
type witness struct {
	stores []*store.Store
	ending context.CancelFunc
	group  sync.WaitGroup

	mu sync.Mutex
	at map[string]store.KeyedSession // by client; the latest that any member told
	// offline are declarations of clients that should be here.
	offline []*declaration
	// sockets are those of a client's pod, in words.
	sockets func(client string) string
}

type declaration struct {
	at     time.Time
	client string
	store.Session
	sockets string // of its pod, right after that
}

func (w *world) watchSessions(ctx context.Context) (*witness, error) {
	config, err := w.etcdTLS(ctx)
	if err != nil {
		return nil, err
	}
	members, err := w.part(ctx, "etcd")
	if err != nil {
		return nil, err
	}
	if len(members) == 0 {
		return nil, errors.New("there is no etcd to watch")
	}
	forwarding, stop := context.WithCancel(context.WithoutCancel(ctx))
	v := &witness{at: map[string]store.KeyedSession{}, ending: stop, sockets: func(client string) string { return w.socketsOf(forwarding, client) }}
	opening, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for i := range members {
		port, err := freePort()
		if err != nil {
			v.close()
			return nil, err
		}
		v.group.Go(func() { w.forward(forwarding, members[i].Name, port) })
		member, err := store.Open(opening, store.Config{Endpoints: []string{fmt.Sprintf("https://localhost:%d", port)}, TLS: config})
		if err != nil {
			v.close()
			return nil, fmt.Errorf("opening %s through kubectl port-forward: %w", members[i].Name, err)
		}
		v.stores = append(v.stores, member)
		v.group.Go(func() { v.read(forwarding, member) })
	}
	return v, nil
}

func (v *witness) close() {
	v.ending()
	for _, s := range v.stores {
		_ = s.Close()
	}
	v.group.Wait()
}

// etcdTLS is that of Rollcall's own parts.
func (w *world) etcdTLS(ctx context.Context) (*tls.Config, error) {
	secret, err := w.kube.CoreV1().Secrets(namespace).Get(ctx, release+"-etcd-client", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(secret.Data["ca.crt"]) {
		return nil, fmt.Errorf("secret %s has no authority", secret.Name)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// forward leads a local port to a member until ctx ends.
func (w *world) forward(ctx context.Context, pod string, port int) {
	for ctx.Err() == nil {
		p, err := w.spawner.Start(exec.Command(w.kubectl, "port-forward", "--namespace", namespace, "--address", "127.0.0.1",
			"pod/"+pod, fmt.Sprintf("%d:2379", port)))
		if err != nil {
			return // the spawner is closed
		}
		select {
		case <-ctx.Done():
			p.Kill()
		case <-p.Done():
			_ = pause(ctx, time.Second)
		}
	}
}

// socketsOf are those of a client's pod that are not established: whether it was on
// its way, and since when, is seen there.
func (w *world) socketsOf(ctx context.Context, client string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	pod := client[:max(strings.LastIndex(client, "-"), 0)]
	table, err := w.run(ctx, "", w.kubectl, "exec", "--namespace", peopleNamespace, pod, "--", "cat", "/proc/net/tcp")
	if err != nil {
		return fmt.Sprintf(" (the sockets of pod %s: %v)", pod, err)
	}
	var b strings.Builder
	const established = "01"
	lines := strings.Split(strings.TrimSpace(table), "\n")[1:] // the first is the heading
	for _, line := range lines {
		if fields := strings.Fields(line); len(fields) > 3 && fields[3] != established {
			b.WriteString("\n    " + strings.TrimSpace(line))
		}
	}
	return fmt.Sprintf("; of the %d sockets (IPv4) of its pod are not established:%s", len(lines), b.String())
}

// read takes what one member tells. Where some may have been missed, all is listed.
func (v *witness) read(ctx context.Context, member *store.Store) {
	member.FollowPresence(ctx, peopleNamespace, peoplePresence, func(e store.PresenceChanges) {
		if e.Gap {
			v.group.Go(func() { v.list(ctx, member) })
		}
		v.take(e.Changes)
	})
}

// list takes all that a member holds, as soon as it answers.
func (v *witness) list(ctx context.Context, member *store.Store) {
	for {
		_, err := member.ListPresence(ctx, peopleNamespace, peoplePresence, func(c store.KeyedSession) error {
			v.take([]store.KeyedSession{c})
			return nil
		})
		if err == nil || pause(ctx, time.Second) != nil {
			return
		}
	}
}

func (v *witness) take(changes []store.KeyedSession) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range changes {
		if c.Revision <= v.at[c.Key.Client].Revision {
			continue // another member has told it
		}
		v.at[c.Key.Client] = c
		if c.Session != nil && c.Session.Offline {
			d := &declaration{at: time.Now(), client: c.Key.Client, Session: *c.Session}
			v.offline = append(v.offline, d)
			v.group.Go(func() {
				sockets := v.sockets(d.client)
				v.mu.Lock()
				defer v.mu.Unlock()
				d.sockets = sockets
			})
		}
	}
}

// on counts the clients that a server holds; "" counts those of all.
func (v *witness) on(server string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for _, s := range v.at {
		if s.Session != nil && !s.Session.Offline && (server == "" || s.Session.Server == namespace+"/"+server) {
			n++
		}
	}
	return n
}

// some names a few of the clients that a server holds, with when they were last seen.
func (v *witness) some(server string) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var l []string
	for name, s := range v.at {
		if s.Session != nil && !s.Session.Offline && s.Session.Server == namespace+"/"+server && len(l) < 10 {
			l = append(l, fmt.Sprintf("%s (since %s, interval %d ms)", name, clock(s.Session.Since), s.Session.Interval))
		}
	}
	return l
}

// declared are those who were declared offline from a time on, in words.
func (v *witness) declared(from time.Time) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var l []string
	for _, d := range v.offline {
		if !d.at.Before(from) {
			l = append(l, fmt.Sprintf("%s at +%.1fs: on %s, last seen %s, declared %s, interval %d ms%s", d.client, d.at.Sub(from).Seconds(),
				strings.TrimPrefix(d.Server, namespace+"/"), clock(d.LastSeen), clock(d.Since), d.Interval, d.sockets))
		}
	}
	return l
}

func clock(ms int64) string { return time.UnixMilli(ms).UTC().Format("15:04:05.000") }
