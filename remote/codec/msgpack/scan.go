package msgpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxDepth is how deep arrays and maps may be nested. It bounds the stack that hostile bytes make the library use.
const maxDepth = 128

var (
	errShort    = errors.New("bytes that end too early, or claim to hold more than they do")
	errDeep     = fmt.Errorf("bytes nested more than %d levels deep", maxDepth)
	errTrailing = errors.New("bytes after the end")
	errReserved = errors.New("a byte that no value begins with")
	errInside   = errors.New("an extension where another value should be")
)

// scan checks that data is one value, all of whose parts are there. The library makes room for what a length claims, up
// to a million elements at each level, before it looks for it.
//
// It returns where the contents of extensions begin.
func scan(data []byte) (inside []int, err error) {
	s := scanner{data: data}
	if err := s.value(0); err != nil {
		return nil, err
	}
	if s.pos != len(data) {
		return nil, errTrailing
	}
	return s.inside, nil
}

type scanner struct {
	data   []byte
	pos    int
	inside []int
}

// value skips one value.
func (s *scanner) value(depth int) error {
	if s.pos >= len(s.data) {
		return errShort
	}
	c := s.data[s.pos]
	s.pos++
	switch {
	case c <= 0x7f, c >= 0xe0:
		return nil
	case c <= 0x8f:
		return s.values(2*uint64(c&0x0f), depth)
	case c <= 0x9f:
		return s.values(uint64(c&0x0f), depth)
	case c <= 0xbf:
		return s.skip(uint64(c & 0x1f))
	}
	switch c {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return nil
	case 0xc4, 0xc5, 0xc6: // bytes
		return s.sized(1<<(c-0xc4), s.skip)
	case 0xc7, 0xc8, 0xc9: // extensions
		return s.sized(1<<(c-0xc7), s.extension)
	case 0xca, 0xcb: // floats
		return s.skip(4 << (c - 0xca))
	case 0xcc, 0xcd, 0xce, 0xcf: // unsigned
		return s.skip(1 << (c - 0xcc))
	case 0xd0, 0xd1, 0xd2, 0xd3: // signed
		return s.skip(1 << (c - 0xd0))
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // extensions of a fixed length
		return s.extension(1 << (c - 0xd4))
	case 0xd9, 0xda, 0xdb: // strings
		return s.sized(1<<(c-0xd9), s.skip)
	case 0xdc, 0xdd: // arrays
		return s.sized(2<<(c-0xdc), func(n uint64) error { return s.values(n, depth) })
	case 0xde, 0xdf: // maps
		return s.sized(2<<(c-0xde), func(n uint64) error { return s.values(2*n, depth) })
	}
	return errReserved
}

// sized reads a length of the given number of bytes and hands it on.
func (s *scanner) sized(bytes int, then func(n uint64) error) error {
	var b [8]byte
	if copy(b[8-bytes:], s.data[s.pos:]) < bytes {
		return errShort
	}
	s.pos += bytes
	return then(binary.BigEndian.Uint64(b[:]))
}

func (s *scanner) skip(n uint64) error {
	if n > uint64(len(s.data)-s.pos) {
		return errShort
	}
	s.pos += int(n)
	return nil
}

func (s *scanner) extension(n uint64) error {
	if n > 0 {
		s.inside = append(s.inside, s.pos+1) // behind the type
	}
	return s.skip(n + 1)
}

func (s *scanner) values(n uint64, depth int) error {
	if depth >= maxDepth {
		return errDeep
	}
	for range n { // each takes a byte at least, so this ends with the data
		if err := s.value(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// reader gives the library the bytes that were scanned. Where a map should be, the library skips the head of an extension
// and takes what is in it for the map's head: bytes that scan has not seen as such. It reads heads by ReadByte and
// what is in an extension by Read, so ReadByte fails there.
type reader struct {
	data   []byte
	pos    int
	inside []int // where contents of extensions begin, ascending
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.pos >= len(r.data) && len(p) > 0 {
		return 0, io.EOF
	}
	n := copy(p, r.data[r.pos:])
	r.pos += n
	return n, nil
}

// ReadByte implements io.ByteScanner.
func (r *reader) ReadByte() (byte, error) {
	for len(r.inside) > 0 && r.inside[0] < r.pos {
		r.inside = r.inside[1:]
	}
	switch {
	case r.pos >= len(r.data):
		return 0, io.EOF
	case len(r.inside) > 0 && r.inside[0] == r.pos:
		return 0, errInside
	}
	r.pos++
	return r.data[r.pos-1], nil
}

// UnreadByte implements io.ByteScanner.
func (r *reader) UnreadByte() error {
	r.pos--
	return nil
}
