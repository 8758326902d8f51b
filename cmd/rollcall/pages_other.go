//go:build !linux

package main

import (
	"context"
	"log/slog"
)

// releasePages does nothing here.
func releasePages(context.Context, *slog.Logger) error { return nil }
