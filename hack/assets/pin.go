//go:build tools

package main

// The etcd that is built is the one that go.mod pins for the client and the
// tests; this keeps what its command imports in go.mod too.
import _ "go.etcd.io/etcd/server/v3/etcdmain"
