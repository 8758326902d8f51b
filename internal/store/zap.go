package store

import (
	"context"
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// zapToSlog takes what the etcd client logs. The client warns of every failed
// attempt, which the store counts and tells in its own words: so it goes one
// level down.
type zapToSlog struct{ log *slog.Logger }

func (z zapToSlog) level(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelWarn
	case l >= zapcore.InfoLevel:
		return slog.LevelDebug
	}
	return slog.LevelDebug - 4
}

func (z zapToSlog) Enabled(l zapcore.Level) bool {
	return z.log.Enabled(context.Background(), z.level(l))
}

func (z zapToSlog) With(fields []zapcore.Field) zapcore.Core {
	return zapToSlog{z.log.With(attributes(fields)...)}
}

func (z zapToSlog) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if z.Enabled(e.Level) {
		return to.AddCore(e, z)
	}
	return to
}

func (z zapToSlog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	args := append(attributes(fields), "detail", e.Message)
	z.log.Log(context.Background(), z.level(e.Level), "Message from the etcd client", args...)
	return nil
}

func (z zapToSlog) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	args := make([]any, 0, 2*len(m.Fields))
	for k, v := range m.Fields {
		args = append(args, k, v)
	}
	return args
}
