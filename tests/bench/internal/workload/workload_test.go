package workload_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/bench/internal/workload"
)

func TestUsersAreAsDescribed(t *testing.T) {
	t.Parallel()
	u := workload.NewUser(7)
	require.Equal(t, int64(7), u.ID)
	require.Len(t, u.Name, 32)
	require.Len(t, u.Tags, 4)
	require.Len(t, u.Body, 512)
	require.Equal(t, u, workload.NewUser(7))
	require.NotEqual(t, u.Body, workload.NewUser(8).Body)
}

func TestKeyAndIDAreInverse(t *testing.T) {
	t.Parallel()
	require.Equal(t, "user:42", workload.Key(42))
	for _, key := range []string{"user:42", "cold:3:user:42"} {
		id, err := workload.ID(key)
		require.NoError(t, err)
		require.Equal(t, int64(42), id)
	}
	for _, key := range []string{"", "42", "user:", "user:x"} {
		_, err := workload.ID(key)
		require.ErrorContains(t, err, key)
	}
}

func TestZipfIsSkewedAndRepeatable(t *testing.T) {
	t.Parallel()
	keys := workload.Keys(1000)
	order := workload.Zipf(keys, 10_000)
	require.Equal(t, order, workload.Zipf(keys, 10_000))
	count := map[string]int{}
	for _, key := range order {
		count[key]++
	}
	require.Greater(t, count[keys[0]], 800, "the first key has about an eighth of it")
	require.Greater(t, len(count), 500, "and the rare ones occur")
}

func TestSharesAreDisjointAndComplete(t *testing.T) {
	t.Parallel()
	keys := workload.Keys(100)
	var all []string
	for worker := range 7 {
		all = append(all, workload.Share(keys, worker, 7)...)
	}
	require.ElementsMatch(t, keys, all)
}
