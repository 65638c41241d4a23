// Package budget bounds what archives may make of a machine: bytes, entries, folders in folders.
//
//	b := budget.Limits{}.Budget()         // of all layers of one image, say
//	plain := b.Out(decompress(b.In(r)))   // fails once too much came out for what went in
//	err := b.Entry(header)                // for each entry
//
// A bomb is an archive of some kilobytes that unpacks to more than any disk has.
package budget

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync/atomic"

	"gocker/step01-pull/shared/advice"
)

// ErrLimit says that an archive has or becomes more than it may.
var ErrLimit = errors.New("larger than allowed")

// Limits bound what the archives of one image may make of this machine. 0 is the default.
type Limits struct {
	// Bytes is what they may unpack to. By default that is 64 GiB; and of what is beyond the first GiB, a hundredth must
	// have been sent: files do not pack so well, and bombs do, gzip's up to 1032 to 1.
	Bytes int64
	// Entries they may have; by default a million. Until a layer is complete, its folders are in memory.
	Entries int64
}

// None is for what is here already, and was within its limits when it came.
var None = Limits{math.MaxInt64, math.MaxInt64}

const (
	maxBytes   = 64 << 30
	maxPacked  = 1 << 30 // bytes that may be packed however well
	maxRatio   = 100
	maxEntries = 1_000_000

	longName = 4096 // bytes: PATH_MAX. No system call takes it as a whole, see path_resolution(7).
)

// How many folders in folders may be. Each system call walks through all of them.
const (
	PackageDepth = 256
	LayerDepth   = 4096 // a container can make them, so its image can be kept
	AnyDepth     = math.MaxInt
)

// A Budget is what Limits leave to archives that are counted together, also where they are unpacked side by side.
type Budget struct {
	limits              Limits
	in, out, files, all atomic.Int64
}

// Budget begins to count.
func (l Limits) Budget() *Budget { return &Budget{limits: l} }

// In counts an archive as it was sent, and Out what has been decompressed; Out fails with ErrLimit.
func (b *Budget) In(r io.Reader) io.Reader {
	return counter{r, func(n int64) error {
		b.in.Add(n)
		return nil
	}}
}

// Out: see In.
func (b *Budget) Out(r io.Reader) io.Reader {
	return counter{r, func(n int64) error { return b.fits(b.out.Add(n)) }}
}

// Entry counts one entry. The holes of a sparse file are not in the archive, so its size is counted apart.
func (b *Budget) Entry(header *tar.Header) error {
	most := b.limits.Entries
	if most == 0 {
		most = maxEntries
	}
	if b.all.Add(1) > most {
		return advice.Add(fmt.Errorf("%w: it has more than %d entries", ErrLimit, most), "if you trust its author: --max-entries")
	}
	if header.Size > 1<<62 { // two of them would be less than none
		return b.tooLarge(1 << 62)
	}
	return b.fits(b.files.Add(header.Size))
}

func (b *Budget) fits(bytes int64) error {
	if most := b.limits.Bytes; most != 0 {
		if bytes > most {
			return b.tooLarge(most)
		}
		return nil
	}
	if bytes > maxBytes {
		return b.tooLarge(maxBytes)
	}
	if packed := b.in.Load(); bytes > maxPacked+maxRatio*packed {
		return b.tooLarge(maxPacked + maxRatio*packed)
	}
	return nil
}

func (b *Budget) tooLarge(most int64) error {
	return advice.Add(fmt.Errorf("%w: it unpacks to more than %d bytes", ErrLimit, most), "if you trust its author: --max-size")
}

// CheckDepth refuses a cleaned name that lies in more folders than most.
func CheckDepth(name string, most int) error {
	if depth := strings.Count(name, "/"); depth > most {
		return fmt.Errorf("%w: it is %d folders deep; %d may be", ErrLimit, depth, most)
	}
	return nil
}

// Names counts those that somebody keeps in memory. One may be as long as the names of all folders on its way together: with
// three thousand folders in each other, all names have a hundred million bytes.
type Names struct{ long int }

// maxLong is how many bytes those have together of which each is longer than longName.
const maxLong = 64 << 20

// Keep counts one name.
func (n *Names) Keep(name string) error {
	if len(name) > longName {
		n.long += len(name)
	}
	if n.long > maxLong {
		return fmt.Errorf("%w: names of more than %d bytes have more than %d bytes together", ErrLimit, longName, maxLong)
	}
	return nil
}

type counter struct {
	io.Reader
	add func(n int64) error
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if counted := c.add(int64(n)); counted != nil {
		err = counted
	}
	return n, err
}
