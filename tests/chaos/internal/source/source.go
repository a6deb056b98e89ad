//go:build linux

// Package source is the database of the fault harness: a version for each key, which only grows.
//
// It is a file that every process maps into its memory. A commit is an atomic addition and a read an atomic load, so there
// is one order of all commits and reads over all processes, no connection that a fault could touch, and no way to fail.
package source

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const word = 8 // bytes of a version

// Source is a mapped file. Its methods may be called concurrently, in any number of processes.
type Source struct {
	mem      []byte
	versions []atomic.Int64
}

// Create makes the file at path, with version 0 of each of the keys, and opens it.
func Create(path string, keys int) (*Source, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	if err := errors.Join(f.Truncate(int64(keys)*word), f.Close()); err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	return Open(path)
}

// Open maps a file that Create has made.
func Open(path string) (*Source, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("source: mmap: %w", err)
	}
	return &Source{
		mem:      mem,
		versions: unsafe.Slice((*atomic.Int64)(unsafe.Pointer(&mem[0])), len(mem)/word),
	}, nil
}

// Keys returns how many keys there are; they are numbered from 0.
func (s *Source) Keys() int { return len(s.versions) }

// Read returns key's current version.
func (s *Source) Read(key int) int64 { return s.versions[key].Load() }

// Commit makes the next version current and returns it. Whatever is read after it has returned is at least as new.
func (s *Source) Commit(key int) int64 { return s.versions[key].Add(1) }

// Close unmaps the file; no other method may be called then.
func (s *Source) Close() error {
	if err := unix.Munmap(s.mem); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	return nil
}
