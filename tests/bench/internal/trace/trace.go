// Package trace reads sequences of accesses for measuring hit ratios.
package trace

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

// Trace is what was accessed, in that order.
type Trace struct {
	Name     string
	IDs      []int64
	Distinct int
}

const suffix = ".txt.gz"

// Directory reads every *.txt.gz of a directory, in the order of their names. It is an error if there is none.
func Directory(dir string) ([]Trace, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no *%s in %s", suffix, dir)
	}
	traces := make([]Trace, len(files))
	for i, file := range files {
		if traces[i], err = read(file); err != nil {
			return nil, err
		}
	}
	return traces, nil
}

func read(file string) (t Trace, err error) {
	f, err := os.Open(file)
	if err != nil {
		return Trace{}, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		return Trace{}, fmt.Errorf("%s: %w", file, err)
	}
	ids, err := parse(zipped)
	if err != nil {
		return Trace{}, fmt.Errorf("%s: %w", file, err)
	}
	return of(strings.TrimSuffix(filepath.Base(file), suffix), ids), nil
}

// parse reads one decimal number a line.
func parse(r io.Reader) ([]int64, error) {
	var ids []int64
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		id, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", len(ids)+1, err)
		}
		ids = append(ids, id)
	}
	return ids, lines.Err()
}

// Synthetic returns a million accesses to a million ids, Zipf-distributed and the same in every run.
func Synthetic() Trace { return Zipf(1_000_000, 1_000_000) }

// Zipf returns a number of accesses to ids below n.
func Zipf(n, accesses int) Trace {
	zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), workload.Skew, 1, uint64(n-1))
	ids := make([]int64, accesses)
	for i := range ids {
		ids[i] = int64(zipf.Uint64())
	}
	return of(fmt.Sprintf("Zipf %v over %d ids", workload.Skew, n), ids)
}

func of(name string, ids []int64) Trace {
	seen := map[int64]struct{}{}
	for _, id := range ids {
		seen[id] = struct{}{}
	}
	return Trace{Name: name, IDs: ids, Distinct: len(seen)}
}
