package ui_test

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/ui"
)

func TestPrinterIsPlainWhereThereIsNoTerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := ui.New(&out)
	p.Title("tandem demo", "3 instances")
	p.Step(1, "A headline", "what it is about")
	p.Progressf("never seen")
	p.Fact("loads at the source", "1", "of 1,000 readers")
	p.Table([]string{"instance", "reads", "µs"}, [][]string{{"1", "12,345", "3"}, {"all", "1", "µµµ"}})
	p.OK("it holds")
	p.Failed(errors.Join(errors.New("one"), errors.New("two")))
	require.Equal(t, `tandem demo
3 instances

1  A headline
   what it is about
   loads at the source                               1   of 1,000 readers
   instance   reads   µs
   1         12,345    3
   all            1  µµµ
   ok  it holds
   FAILED  one
   FAILED  two
`, out.String())
}

func TestAFileIsNoTerminal(t *testing.T) {
	t.Parallel()
	file, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	p := ui.New(file)
	p.Progressf("never seen")
	p.OK("it holds")
	require.NoError(t, file.Close())
	got, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	require.Equal(t, "   ok  it holds\n", string(got))
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0 ns", 96: "96 ns", 999: "999 ns", 1000: "1.00 µs", 41234: "41.2 µs", 123456: "123 µs",
		20 * time.Millisecond: "20.0 ms", 2 * time.Second: "2.00 s", 100 * time.Second: "100 s",
		-1500 * time.Microsecond: "-1.50 ms",
	} {
		require.Equal(t, want, ui.Duration(d))
	}
}

func TestCountAndPercent(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 7: "7", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234"} {
		require.Equal(t, want, ui.Count(n))
	}
	require.Equal(t, "33.33 %", ui.Percent(1, 3))
	require.Equal(t, "-", ui.Percent(0, 0))
	require.Equal(t, "1 key", ui.Plural(1, "key"))
	require.Equal(t, "1,000 keys", ui.Plural(1000, "key"))
}
