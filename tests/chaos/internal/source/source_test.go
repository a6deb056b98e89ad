//go:build linux

package source_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/chaos/internal/source"
)

func TestEveryMappingSeesEveryCommit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "source")
	a, err := source.Create(path, 3)
	require.NoError(t, err)
	b, err := source.Open(path)
	require.NoError(t, err)
	require.Equal(t, 3, b.Keys())

	const each = 10_000
	var all sync.WaitGroup
	for _, s := range []*source.Source{a, b} {
		all.Go(func() {
			for range each {
				if v := s.Commit(1); v > b.Read(1) || v > a.Read(1) {
					t.Error("a committed version is not read")
					return
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, int64(2*each), a.Read(1))
	require.Zero(t, b.Read(2))
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	_, err = source.Create(path, 1)
	require.Error(t, err)
}
