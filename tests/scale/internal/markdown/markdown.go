// Package markdown writes tables of figures.
package markdown

import (
	"fmt"
	"strings"
)

// Table is a Markdown table; its first row is the head.
type Table [][]string

// Add appends a row. Of numbers with a fraction it writes three digits that count.
func (t *Table) Add(cells ...any) {
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

// String is the table as Markdown.
func (t *Table) String() string {
	var s strings.Builder
	for i, row := range *t {
		fmt.Fprintf(&s, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			s.WriteString("|" + strings.Repeat("---|", len(row)) + "\n")
		}
	}
	return s.String()
}
