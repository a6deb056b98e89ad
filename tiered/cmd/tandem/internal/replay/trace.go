package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// Trace is a sequence of accesses to keys.
type Trace struct {
	Keys     []string // distinct, in the order in which they came first
	Accesses []int32  // indexes into Keys
}

// Open reads the trace in a file; see Read.
func Open(path string, limit int) (*Trace, error) {
	file, err := os.Open(path) //nolint:gosec // G304: it is what the user names
	if err != nil {
		return nil, fmt.Errorf("the trace: %w", err)
	}
	defer func() { _ = file.Close() }()
	t, err := Read(file, limit)
	if err != nil {
		return nil, fmt.Errorf("the trace %s: %w", path, err)
	}
	return t, nil
}

// Read reads one decimal id a line, gzipped or plain, and limit accesses at most, or all if limit is 0. Empty lines do not
// count.
func Read(r io.Reader, limit int) (*Trace, error) {
	plain, err := gunzipped(r)
	if err != nil {
		return nil, err
	}
	t := &Trace{}
	index := make(map[string]int32)
	lines := bufio.NewScanner(plain)
	for number := 1; lines.Scan() && (limit == 0 || len(t.Accesses) < limit); number++ {
		id := bytes.TrimSpace(lines.Bytes())
		if len(id) == 0 {
			continue
		}
		n, known := index[string(id)]
		if !known {
			if _, err := strconv.ParseInt(string(id), 10, 64); err != nil {
				return nil, fmt.Errorf("line %d is %.32q, not a decimal id", number, id)
			}
			n = int32(len(t.Keys))
			t.Keys = append(t.Keys, string(id))
			index[t.Keys[n]] = n
		}
		t.Accesses = append(t.Accesses, n)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(t.Accesses) == 0 {
		return nil, errors.New("there is no access in it")
	}
	return t, nil
}

func gunzipped(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	magic, err := b.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	return gzip.NewReader(b)
}
