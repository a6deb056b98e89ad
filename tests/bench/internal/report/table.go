// Package report turns figures into what people look at: tables in Markdown and a picture.
package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Table is a table with a title. The first column holds names, the others figures.
type Table struct {
	Title  string
	Header []string
	Rows   [][]string
	// Notes stand below it, one a line.
	Notes []string
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Markdown returns the table as GitHub shows it, under a heading of the third level.
func (t *Table) Markdown() string {
	var s strings.Builder
	fmt.Fprintf(&s, "### %s\n\n", t.Title)
	line(&s, t.Header)
	s.WriteString("|---" + strings.Repeat("|--:", max(len(t.Header)-1, 0)) + "|\n")
	for _, row := range t.Rows {
		line(&s, row)
	}
	if len(t.Notes) > 0 {
		s.WriteString("\n")
	}
	for _, note := range t.Notes {
		fmt.Fprintf(&s, "- %s\n", note)
	}
	return s.String()
}

func line(s *strings.Builder, cells []string) {
	for _, cell := range cells {
		s.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
	}
	s.WriteString("|\n")
}

// Number formats a figure with three significant digits, thousands with commas, and "-" where there is none.
func Number(v float64) string {
	size := math.Abs(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case size >= 1000:
		return commas(fmt.Sprintf("%.0f", v))
	case size >= 100:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func commas(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// Count formats a number of things an operation, which is a whole one but for what the process does beside it.
func Count(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	if math.Abs(v-math.Round(v)) < 0.05 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

// Percent formats a share of one.
func Percent(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return fmt.Sprintf("%.2f", 100*v)
}

// Integer formats a whole number, thousands with commas.
func Integer(n int) string { return commas(strconv.Itoa(n)) }
