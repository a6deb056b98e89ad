package heapsize

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type node struct {
	next *node
	name string
}

func TestClassIsWhatTheRuntimeAllocates(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 8, 9, 17, 33, 100, 1000, 1025, 5000, 32768, 32769, 100_000} {
		grown := cap(append([]byte(nil), make([]byte, n)...))
		require.Equal(t, int64(grown), Class(int64(n)), "allocation of %d bytes", n)
	}
	require.Zero(t, Class(0))
}

func TestOf(t *testing.T) {
	t.Parallel()
	flatValue := struct {
		A int64
		B [4]float64
	}{}
	require.Zero(t, Of(&flatValue))

	text := strings.Repeat("x", 100)
	require.Equal(t, Class(100), Of(&text))

	list := []string{text, text}
	require.Equal(t, Class(32)+2*Class(100), Of(&list))

	ptr := &node{name: text}
	require.Equal(t, Class(24)+Class(100), Of(&ptr))

	var boxed any = text
	require.Equal(t, Class(16)+Class(100), Of(&boxed))
}

func TestOfEndsOnCyclesAndHugeValues(t *testing.T) {
	t.Parallel()
	ring := &node{name: "a"}
	ring.next = ring
	require.Positive(t, Of(&ring))

	huge := make([]string, 1_000_000)
	for i := range huge {
		huge[i] = "0123456789abcdef"
	}
	got := Of(&huge)
	require.InEpsilon(t, 1_000_000*(16+16), got, 0.05)
}

func TestOfIsCloseToTheHeapOfAMap(t *testing.T) {
	const n = 20_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m := make(map[int64]int64)
	for i := range int64(n) {
		m[i] = i
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.InEpsilon(t, float64(after.HeapAlloc-before.HeapAlloc), float64(Of(&m)), 0.5)
	runtime.KeepAlive(m)
}

func BenchmarkOf(b *testing.B) {
	v := struct {
		ID   int64
		Name string
		Tags []string
		Body []byte
	}{Name: strings.Repeat("n", 32), Tags: []string{"a", "b", "c", "d"}, Body: make([]byte, 512)}
	b.ReportAllocs()
	for b.Loop() {
		Of(&v)
	}
}
