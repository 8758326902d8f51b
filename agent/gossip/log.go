package gossip

import (
	"bytes"
	"context"
	"log/slog"
)

// logWriter turns memberlist's lines, "[WARN] memberlist: …", into records. What
// memberlist calls an error is a peer that doesn't answer, which is its job.
type logWriter struct{ to *slog.Logger }

var levels = map[string]slog.Level{
	"DEBUG": slog.LevelDebug,
	"INFO":  slog.LevelDebug,
	"WARN":  slog.LevelInfo,
	"ERR":   slog.LevelInfo,
}

// Write implements io.Writer; log.Logger calls it with one line at a time.
func (w *logWriter) Write(line []byte) (int, error) {
	text, level := bytes.TrimSpace(line), slog.LevelInfo
	if rest, ok := bytes.CutPrefix(text, []byte("[")); ok {
		if name, rest, ok := bytes.Cut(rest, []byte("] ")); ok {
			if l, known := levels[string(name)]; known {
				text, level = rest, l
			}
		}
	}
	if w.to.Enabled(context.Background(), level) {
		text = bytes.TrimPrefix(text, []byte("memberlist: "))
		w.to.Log(context.Background(), level, "Memberlist says", "text", string(text))
	}
	return len(line), nil
}
