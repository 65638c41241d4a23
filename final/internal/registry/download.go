//go:build linux

package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// downloads are those of one image. A layer that it has twice is fetched once.
type downloads struct {
	mu       sync.Mutex
	byDigest map[v1.Hash]*download
}

// A download fills a file with a layer. Readers follow it while it grows.
type download struct {
	path    string
	desc    v1.Descriptor
	resumed bool // it went on with what another process has left
	whole   bool // the registry refuses ranges

	mu   sync.Mutex
	more *sync.Cond
	have int64 // bytes
	err  error // why there will not be more
}

// Open begins to fetch layer i into the folder, where a file of another try may lie already, and returns the layer from
// its first byte on. progress is told how many bytes are here. The stream fails with ErrBroken where the registry stops
// sending for good.
func (img *Image) Open(ctx context.Context, i int, folder string, progress func(done int64)) (*Stream, error) {
	img.downloads.mu.Lock()
	defer img.downloads.mu.Unlock()
	desc := img.Layers[i]
	d, ok := img.downloads.byDigest[desc.Digest]
	if !ok {
		var err error
		if d, err = img.repository.start(ctx, desc, filepath.Join(folder, desc.Digest.Hex), progress); err != nil {
			return nil, err
		}
		if img.downloads.byDigest == nil {
			img.downloads.byDigest = map[v1.Hash]*download{}
		}
		img.downloads.byDigest[desc.Digest] = d
	}
	f, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	return &Stream{download: d, file: f}, nil
}

// Discard removes what has come of layers that another process began, and says whether there was any: if a layer then
// has a wrong digest, the fault may be that process's.
func (img *Image) Discard() (resumed bool) {
	img.downloads.mu.Lock()
	defer img.downloads.mu.Unlock()
	for _, d := range img.downloads.byDigest {
		if d.resumed {
			resumed = true
			os.Remove(d.path)
		}
	}
	clear(img.downloads.byDigest)
	return resumed
}

func (r repository) start(ctx context.Context, desc v1.Descriptor, path string, progress func(int64)) (*download, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	d := &download{path: path, desc: desc}
	d.more = sync.NewCond(&d.mu)
	if d.have, err = f.Seek(0, io.SeekEnd); err == nil && d.have > desc.Size {
		d.have, err = 0, f.Truncate(0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	d.resumed = d.have > 0
	progress(d.have)
	go func() {
		err := d.fetch(ctx, r, f, progress)
		err = cmp.Or(err, f.Close())
		d.mu.Lock()
		defer d.mu.Unlock()
		d.err = cmp.Or(err, io.EOF)
		d.more.Broadcast()
	}()
	return d, nil
}

// fetch asks until all is here. A try that brought something does not count.
func (d *download) fetch(ctx context.Context, r repository, f *os.File, progress func(int64)) error {
	wait := backoff
	urls := append([]string{r.url("blobs", d.desc.Digest.String())}, d.desc.URLs...)
	for d.have < d.desc.Size {
		before := d.have
		err := d.try(ctx, r, urls[0], f, progress)
		var status *transport.Error
		switch {
		case err == nil:
			continue
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", ErrBroken, context.Cause(ctx))
		case errors.As(err, &status) && status.StatusCode == http.StatusNotFound && len(urls) > 1:
			urls = urls[1:] // a layer that may not be distributed by others than its maker
			continue
		case errors.Is(err, errSize) || errors.Is(err, errElsewhere) || errors.Is(err, errDisk) || errors.As(err, &status) && !status.Temporary():
			return err
		}
		if d.have > before {
			wait = backoff
		}
		if wait.Steps--; wait.Steps <= 0 {
			return fmt.Errorf("%w at %d of %d bytes of layer %s: %w", ErrBroken, d.have, d.desc.Size, d.desc.Digest, err)
		}
		select {
		case <-time.After(wait.Duration):
		case <-ctx.Done():
		}
		wait.Duration = time.Duration(float64(wait.Duration) * wait.Factor)
	}
	return nil
}

var (
	errSize = errors.New("the layer does not have the size that the manifest says")
	errDisk = errors.New("write layer")
)

// try fetches what is missing, by a range request: see RFC 9110, section 14.
func (d *download) try(ctx context.Context, r repository, at string, f *os.File, progress func(int64)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(maxStall, func() { cancel(fmt.Errorf("nothing came for %s", maxStall)) })
	defer stalled.Stop()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	if d.have > 0 && !d.whole {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", d.have, d.desc.Size-1))
	}
	response, err := r.once.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusRequestedRangeNotSatisfiable && !d.whole {
		d.whole = true
		return nil
	}
	if err := check(response, http.StatusOK, http.StatusPartialContent); err != nil {
		return err
	}
	skip := d.have // it does not know ranges
	if response.StatusCode == http.StatusPartialContent {
		skip = 0
		var first int64
		if n, err := fmt.Sscanf(response.Header.Get("Content-Range"), "bytes %d-", &first); n != 1 || err != nil || first != d.have {
			return fmt.Errorf("asked for bytes from %d on, the registry sends %q", d.have, response.Header.Get("Content-Range"))
		}
	}
	if length := d.have - skip + response.ContentLength; response.ContentLength >= 0 && length < d.desc.Size {
		return fmt.Errorf("%w: it has %d bytes, not %d", errSize, length, d.desc.Size)
	}
	buffer := make([]byte, 128<<10)
	for {
		n, err := response.Body.Read(buffer)
		stalled.Reset(maxStall)
		skipped := min(skip, int64(n))
		skip -= skipped
		if add := d.add(f, buffer[skipped:n], progress); add != nil {
			return add
		}
		if err == io.EOF && d.have < d.desc.Size {
			err = io.ErrUnexpectedEOF
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
	}
}

// add appends to the file and wakes the readers.
func (d *download) add(f *os.File, p []byte, progress func(int64)) error {
	if len(p) == 0 {
		return nil
	}
	if d.have+int64(len(p)) > d.desc.Size {
		return fmt.Errorf("%w: it has more than %d bytes", errSize, d.desc.Size)
	}
	if _, err := f.WriteAt(p, d.have); err != nil {
		return fmt.Errorf("%w: %w", errDisk, err)
	}
	d.mu.Lock()
	d.have += int64(len(p))
	d.more.Broadcast()
	d.mu.Unlock()
	progress(d.have)
	return nil
}

// A Stream reads a layer from its first byte to its last, as it comes.
type Stream struct {
	download *download
	file     *os.File
	at       int64
}

// Read waits for what has not come yet.
func (s *Stream) Read(p []byte) (int, error) {
	d := s.download
	d.mu.Lock()
	for s.at >= d.have && d.err == nil {
		d.more.Wait()
	}
	have, err := d.have, d.err
	d.mu.Unlock()
	if s.at >= have {
		return 0, err
	}
	n, err := s.file.ReadAt(p[:min(int64(len(p)), have-s.at)], s.at)
	s.at += int64(n)
	return n, err
}

// Close ends reading. The download goes on.
func (s *Stream) Close() error { return s.file.Close() }

// Link gives the layer's file another name.
func (s *Stream) Link(name string) error { return os.Link(s.download.path, name) }
