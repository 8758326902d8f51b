// Package e2e is the end-to-end suite: Rollcall's chart in a real cluster, clients
// beside it, and every fault that docs/e2e.md has a line for. `make e2e` runs it;
// without a cluster it is skipped. Package fault breaks what is to be broken.
package e2e
