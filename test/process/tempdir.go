package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// TempDir is a directory that does not outlive its maker.
type TempDir struct {
	path    string
	reaper  *exec.Cmd
	release *os.File // the reaper acts when its other end is closed
}

// NewTempDir makes a directory under parent (the system's, if empty). A shell
// waits for Remove, or for the death of this process, and then removes it.
func NewTempDir(parent, pattern string) (*TempDir, error) {
	path, err := os.MkdirTemp(parent, pattern)
	if err != nil {
		return nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	// The reaper's working directory is not ours.
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a pipe: %w", err), os.RemoveAll(path))
	}
	defer reader.Close()
	// Killed children need a moment to be gone; while one still writes, rm can
	// find a directory not empty.
	reaper := exec.Command("/bin/sh", "-c",
		`read -r _; for _ in 1 2 3 4 5; do rm -rf "$1" && exit 0; sleep 1; done; exit 1`, "reaper", path)
	reaper.Dir = "/"
	reaper.Stdin = reader
	reaper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	if err := reaper.Start(); err != nil {
		writer.Close()
		return nil, errors.Join(fmt.Errorf("starting the directory's reaper: %w", err), os.RemoveAll(path))
	}
	return &TempDir{path: path, reaper: reaper, release: writer}, nil
}

// Path is the directory.
func (d *TempDir) Path() string { return d.path }

// Remove removes the directory and all in it, once what writes there has ended.
func (d *TempDir) Remove() error {
	d.release.Close()
	if err := d.reaper.Wait(); err != nil {
		return fmt.Errorf("removing %s: %w", d.path, err)
	}
	return nil
}
