// Command scale-up is an operator that reacts to Rollcall: where the clients of
// an overloaded server can't be moved for want of room, it adds a server.
//
// It needs get, list and watch on presences, failovers and pods, and get, list,
// watch and update on statefulsets of the namespaces that it looks after.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rollcall-dev/rollcall/api/v1alpha1"
)

func main() {
	most := flag.Int("most", 10, "replicas that a StatefulSet gets at most")
	wait := flag.Duration("wait", 2*time.Minute, "the time between two steps")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctrl.SetLogger(logr.FromSlogHandler(log.Handler()))
	config, err := ctrl.GetConfig()
	if err == nil {
		err = run(ctrl.SetupSignalHandler(), config, scaler{most: int32(min(*most, 1<<20)), wait: *wait, log: log}, ctrl.Options{})
	}
	if err != nil {
		log.Error("Ended", "error", err)
		os.Exit(1)
	}
}

// run watches until ctx ends.
func run(ctx context.Context, config *rest.Config, s scaler, options ctrl.Options) error {
	options.Scheme = runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(options.Scheme); err != nil {
			return err
		}
	}
	mgr, err := ctrl.NewManager(config, options)
	if err != nil {
		return err
	}
	s.Client = mgr.GetClient()
	err = ctrl.NewControllerManagedBy(mgr).Named("failovers").For(&v1alpha1.Failover{}).Complete(reconcile.Func(s.failover))
	if err != nil {
		return err
	}
	err = ctrl.NewControllerManagedBy(mgr).Named("presences").For(&v1alpha1.Presence{}).Complete(reconcile.Func(s.presence))
	if err != nil {
		return err
	}
	return mgr.Start(ctx)
}
