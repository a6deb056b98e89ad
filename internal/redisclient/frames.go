package redisclient

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// ErrTooLong is returned by a read of what is longer than tandem has a use for, and the connection is closed.
var ErrTooLong = errors.New("a reply from Redis is too long")

const (
	// maxLine bounds a line of the protocol: a length, a number, a status or an error.
	maxLine = 64 << 10
	// maxElements bounds an array.
	maxElements = 1 << 16
	// maxDepth bounds arrays within arrays, as go-redis reads them by recursion.
	maxDepth = 16
	// maxHeader is what is kept of a line: enough for a type and any number.
	maxHeader = 32
)

// frames follows Redis' protocol (RESP2 and RESP3) through what is read, and refuses lengths before go-redis sees them,
// which takes their memory at once: eleven bytes of a server, or of a writer under our keys, cost half a gigabyte.
// It looks at the lines and skips the strings.
type frames struct {
	maxBulk *atomic.Int64

	skip   int64 // bytes of a string, with its CRLF, that are still to come
	header [maxHeader]byte
	line   int // bytes of the current line so far
	// open are the arrays that are not complete, outermost first: how many elements of each are still to come.
	open []int64
}

func (f *frames) check(b []byte) error {
	for len(b) > 0 {
		if f.skip > 0 {
			n := min(f.skip, int64(len(b)))
			f.skip -= n
			b = b[n:]
			continue
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return f.keep(b)
		}
		if err := f.keep(b[:end]); err != nil {
			return err
		}
		b = b[end+1:]
		header, whole := f.header[:min(f.line, maxHeader)], f.line <= maxHeader
		f.line = 0
		if err := f.begin(bytes.TrimSuffix(header, []byte("\r")), whole); err != nil {
			return err
		}
	}
	return nil
}

func (f *frames) keep(b []byte) error {
	if f.line < maxHeader {
		copy(f.header[f.line:], b)
	}
	if f.line += len(b); f.line > maxLine {
		return fmt.Errorf("%w: a line of more than %d bytes", ErrTooLong, maxLine)
	}
	return nil
}

// begin takes a line, which begins a string or an array or is an element by itself. A length must be whole.
func (f *frames) begin(line []byte, whole bool) error {
	if len(line) == 0 {
		return errors.New("an empty line from Redis")
	}
	if !whole && strings.IndexByte("$=!*~>%|", line[0]) >= 0 {
		return fmt.Errorf("%w: a length of more than %d bytes", ErrTooLong, maxHeader)
	}
	perElement := int64(1)
	switch line[0] {
	case '$', '=', '!':
		return f.beginString(line)
	case '%', '|':
		perElement = 2
	case '*', '~', '>':
	default:
		f.complete()
		return nil
	}
	n, err := length(line)
	switch {
	case err != nil:
		return err
	case n > maxElements:
		return fmt.Errorf("%w: %d elements, at most %d are read", ErrTooLong, n, maxElements)
	case len(f.open) >= maxDepth:
		return fmt.Errorf("%w: arrays within arrays, at most %d deep are read", ErrTooLong, maxDepth)
	case n <= 0 && line[0] != '|':
		f.complete()
	case line[0] == '|': // attributes come before the element that they belong to, and are none
		f.open = append(f.open, n*perElement+1)
	default:
		f.open = append(f.open, n*perElement)
	}
	return nil
}

func (f *frames) beginString(line []byte) error {
	n, err := length(line)
	if err != nil {
		return err
	}
	if most := f.maxBulk.Load(); n > most {
		return fmt.Errorf("%w: %d bytes, at most %d are read", ErrTooLong, n, most)
	}
	if n >= 0 {
		f.skip = n + 2
	}
	f.complete()
	return nil
}

// complete counts an element, which may be the last of the arrays around it.
func (f *frames) complete() {
	for last := len(f.open) - 1; last >= 0; last-- {
		if f.open[last]--; f.open[last] > 0 {
			return
		}
		f.open = f.open[:last]
	}
}

func length(line []byte) (int64, error) {
	n, err := strconv.ParseInt(string(line[1:]), 10, 64)
	if err != nil || n < -1 {
		return 0, fmt.Errorf("%.32q from Redis is no length", line)
	}
	return n, nil
}
