package report_test

import (
	"encoding/xml"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tests/bench/internal/report"
)

func TestTableIsMarkdown(t *testing.T) {
	t.Parallel()
	table := report.Table{Title: "Speed", Header: []string{"", "ns", "ratio"}, Notes: []string{"lower is better"}}
	table.Add("a|b", "12", "1.00")
	require.Equal(t, `### Speed

|  | ns | ratio |
|---|--:|--:|
| a\|b | 12 | 1.00 |

- lower is better
`, table.Markdown())
}

func TestFigures(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0.00", 0.456: "0.46", -2.5: "-2.50", 12.34: "12.3", 123.4: "123", 1234.5: "1,234", 1234567: "1,234,567",
		-98765: "-98,765", math.Inf(1): "-",
	} {
		require.Equal(t, want, report.Number(v))
	}
	require.Equal(t, "-", report.Number(math.NaN()))
	for v, want := range map[float64]string{0: "0", 0.02: "0", 2.98: "3", 1.5: "1.5"} {
		require.Equal(t, want, report.Count(v))
	}
	require.Equal(t, "-", report.Count(math.NaN()))
	require.Equal(t, "45.60", report.Percent(0.456))
	require.Equal(t, "-", report.Percent(math.NaN()))
}

func TestPictureShowsEveryName(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "out.svg")
	require.NoError(t, report.WriteSVG(file, []report.Panel{
		{Title: "first panel", Axis: "ratio", Names: []string{"tandem", "slow one"}, Marked: "tandem", Series: []report.Series{
			{Name: "serial", Ratios: []float64{0.8, 40}},
			{Name: "parallel", Ratios: []float64{0.9, math.NaN()}},
		}},
		{Title: "second panel", Axis: "ratio", Names: []string{"only"}, Series: []report.Series{
			{Name: "serial", Ratios: []float64{1}},
			{Name: "empty", Ratios: []float64{math.NaN()}},
		}},
	}))
	svg, err := os.ReadFile(file)
	require.NoError(t, err)
	for _, text := range []string{"first panel", "second panel", "tandem", "slow one", "serial", "parallel", "only"} {
		require.Contains(t, string(svg), ">"+text+"<")
	}
	require.NotContains(t, string(svg), ">empty<")
	decoder := xml.NewDecoder(strings.NewReader(string(svg)))
	for err == nil {
		_, err = decoder.Token()
	}
	require.ErrorIs(t, err, io.EOF, "it is well-formed")
}

func TestPictureOfNothingIsAnError(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, report.WriteSVG(filepath.Join(t.TempDir(), "out.svg"), nil), "nothing to draw")
}
