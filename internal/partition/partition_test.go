package partition_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/partition"
	"github.com/tandemcache/tandem/tests/redisserver"
)

func TestSlot(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"": 0, "123456789": 0x31C3, "foo": 12182} {
		require.Equal(t, want, partition.Slot(text), "%q", text)
	}
}

func TestSlot_isThatOfRedis(t *testing.T) {
	t.Parallel()
	c := redisserver.RunCluster(t, redisserver.ClusterOptions{Masters: 1, Replicas: -1})
	rdb := c.Nodes()[0].Client()
	for _, text := range []string{"0", "users", "\x00\xff", strings.Repeat("long", 1000)} {
		require.EqualValues(t, rdb.ClusterKeySlot(t.Context(), text).Val(), partition.Slot(text), "%.20q", text)
		require.EqualValues(t, rdb.ClusterKeySlot(t.Context(), "k:{"+text+"}:k").Val(), partition.Slot(text), "%.20q", text)
	}
}

func TestNew_refuses(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-64, 0, 1, 8, 63, 100, 2048} {
		_, err := partition.New(n)
		require.ErrorIs(t, err, partition.ErrCount, "%d", n)
	}
}

// Instances of all releases must agree on the tags, and so must who invalidates from elsewhere.
func TestNew_tagsAreFixed(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile(filepath.Join("testdata", "tags64.txt"))
	require.NoError(t, err)
	require.Equal(t, strings.Fields(string(want)), tags(tableOf(t, 64)))
}

func TestNew_aSlotInEachInterval(t *testing.T) {
	t.Parallel()
	for n := partition.Min; n <= partition.Max; n *= 2 {
		table := tableOf(t, n)
		require.Equal(t, n, table.Count())
		width := partition.Slots / n
		for i, tag := range tags(table) {
			require.InDelta(t, i*width+width/2, partition.Slot(tag), float64(width)/8, "partition %d of %d", i, n)
			require.Equal(t, i, table.Of(tag))
		}
	}
}

// The busiest of several masters with even ranges of slots must not have many more than its share of a million keys.
func TestOf_spreadsKeysOverMasters(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		partitions, masters int
		most                float64
	}{{64, 3, 1.15}, {64, 6, 1.15}, {64, 9, 1.15}, {64, 12, 1.15}, {256, 6, 1.05}, {256, 20, 1.05}} {
		table := tableOf(t, tc.partitions)
		for name, key := range map[string]func(int) string{
			"numbers": func(i int) string { return fmt.Sprint(i) },
			"prefix":  func(i int) string { return fmt.Sprintf("user:%08d", i) },
			"braces":  func(i int) string { return fmt.Sprintf("{user}:%d:profile", i) },
		} {
			const keys = 1_000_000
			held := make([]int, tc.masters)
			for i := range keys {
				slot := partition.Slot(table.Tag(table.Of(key(i))))
				held[slot*tc.masters/partition.Slots]++
			}
			busiest := 0
			for _, n := range held {
				busiest = max(busiest, n)
			}
			times := float64(busiest) / (float64(keys) / float64(tc.masters))
			t.Logf("%d partitions, %d masters, %s: the busiest has %.3f times the mean", tc.partitions, tc.masters, name, times)
			require.LessOrEqual(t, times, tc.most, "%d partitions, %d masters, %s", tc.partitions, tc.masters, name)
		}
	}
}

func tableOf(t *testing.T, n int) partition.Table {
	t.Helper()
	table, err := partition.New(n)
	require.NoError(t, err)
	return table
}

func tags(table partition.Table) []string {
	out := make([]string, table.Count())
	for i := range out {
		out[i] = table.Tag(i)
	}
	return out
}

func BenchmarkOf(b *testing.B) {
	table, err := partition.New(64)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		table.Of("user:00000042:profile")
	}
}

func FuzzOf(f *testing.F) {
	table, err := partition.New(64)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("")
	f.Add("{users}:1")
	f.Fuzz(func(t *testing.T, key string) {
		i := table.Of(key)
		require.True(t, i >= 0 && i < 64)
		slot := partition.Slot(table.Tag(i))
		require.Equal(t, i, slot/256)
	})
}
