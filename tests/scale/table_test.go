//go:build linux

package scale

import (
	"fmt"
	"strings"
	"testing"
)

// table is a Markdown table; its first row is the head.
type table [][]string

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		switch c := c.(type) {
		case float64:
			row[i] = figure(c)
		default:
			row[i] = fmt.Sprint(c)
		}
	}
	*t = append(*t, row)
}

// figure writes three digits that count.
func figure(x float64) string {
	switch {
	case x >= 100 || x == 0:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x >= 0.1:
		return fmt.Sprintf("%.2f", x)
	default:
		return fmt.Sprintf("%.2g", x)
	}
}

func (t *table) print(tb testing.TB) {
	tb.Helper()
	var s strings.Builder
	for i, row := range *t {
		fmt.Fprintf(&s, "\n| %s |", strings.Join(row, " | "))
		if i == 0 {
			s.WriteString("\n|" + strings.Repeat("---|", len(row)))
		}
	}
	tb.Log(s.String() + "\n")
}
