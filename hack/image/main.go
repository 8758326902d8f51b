// Command image makes Rollcall's container image without a container engine, as
// an archive that `docker load`, `ctr images import`, `kind load image-archive`
// and `lab load` take: one layer, with the one program and nothing else.
//
//	go run ./hack/image -o bin/rollcall-image.tar -t docker.io/rollcall-dev/rollcall:0.1.0 -arch amd64
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

func main() {
	out := flag.String("o", "bin/rollcall-image.tar", "`file` to write")
	name := flag.String("t", "docker.io/rollcall-dev/rollcall:0.1.0", "`name` of the image")
	arch := flag.String("arch", runtime.GOARCH, "processor `architecture` that it is for")
	flag.Parse()
	if err := run(context.Background(), *out, *name, *arch); err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, name, arch string) error {
	program := filepath.Join(filepath.Dir(out), "rollcall-linux-"+arch)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./cmd/rollcall")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building Rollcall for linux/%s: %w", arch, err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	layer, err := archive(
		file{"tmp/", nil, 0o1777},
		file{"rollcall", binary, 0o755},
	)
	if err != nil {
		return err
	}
	image, err := describe(name, arch, layer)
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, image, 0o644); err != nil {
		return err
	}
	compressed, err := compressedSize(layer)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s, linux/%s, %.1f MB, %.1f MB to pull\n", out, name, arch, float64(len(layer))/1e6, float64(compressed)/1e6)
	return nil
}

// file is one of an archive; a name that ends in a slash is a directory.
type file struct {
	name    string
	content []byte
	mode    int64
}

// archive is a tar file, the same for the same files.
func archive(files ...file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// describe puts a layer into an image as `docker save` writes them. The user and
// the entry point are the Dockerfile's.
func describe(name, arch string, layer []byte) ([]byte, error) {
	type object = map[string]any
	config, err := json.Marshal(object{
		"architecture": arch, "os": "linux",
		"config": object{"Entrypoint": []string{"/rollcall"}, "User": "65532:65532", "Env": []string{"PATH=/"}},
		"rootfs": object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
	})
	if err != nil {
		return nil, err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]object{{"Config": configName, "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	return archive(file{configName, config, 0o644}, file{"layer.tar", layer, 0o644}, file{"manifest.json", manifest, 0o644})
}

func compressedSize(layer []byte) (int, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(layer)
	if err := errors.Join(err, w.Close()); err != nil {
		return 0, err
	}
	return b.Len(), nil
}
