// Package ui writes for people: headlines, facts, tables, and on a terminal colour and a line of progress. Lines have up to
// 100 columns.
package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/measure"
)

const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	reset = "\x1b[0m"

	clearLine = "\r\x1b[K"

	indent    = "   "
	nameWidth = 38 // of a fact's name
	wide      = 12 // of a fact's value

	quantileNameWidth = 33

	// progressEvery is how often a line of progress is redrawn.
	progressEvery = 100 * time.Millisecond
)

// Printer writes to one writer. It is for one goroutine at a time. Errors of the writer are dropped: who has closed the
// terminal does not read on.
type Printer struct {
	w        io.Writer
	terminal bool
	colour   bool
	drawn    bool // a line of progress is there
	last     time.Time
}

// New returns a printer on w. It is plain unless w is a terminal; NO_COLOR in the environment (with any value but an
// empty one), or a TERM of dumb, turn colour off.
func New(w io.Writer) *Printer {
	p := &Printer{w: w}
	if file, ok := w.(*os.File); ok && os.Getenv("TERM") != "dumb" {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	p.colour = p.terminal && os.Getenv("NO_COLOR") == ""
	return p
}

func (p *Printer) paint(colour, s string) string {
	if !p.colour {
		return s
	}
	return colour + s + reset
}

func (p *Printer) print(lines ...string) {
	if p.drawn {
		p.drawn = false
		_, _ = io.WriteString(p.w, clearLine)
	}
	for _, line := range lines {
		_, _ = io.WriteString(p.w, strings.TrimRight(line, " ")+"\n")
	}
}

// Title writes the first line of all and lines below it.
func (p *Printer) Title(title string, rest ...string) {
	p.print(p.paint(bold, title))
	for _, line := range rest {
		p.print(p.paint(dim, line))
	}
}

// Step begins a numbered part with a headline and, if about is not empty, a line of explanation.
func (p *Printer) Step(n int, headline, about string) {
	p.print("", p.paint(bold, fmt.Sprintf("%d  %s", n, headline)))
	if about != "" {
		p.print(indent + p.paint(dim, about))
	}
}

// Fact writes a name, a value, and a note if there is one.
func (p *Printer) Fact(name, value, note string) {
	p.print(indent + pad(name, nameWidth) + " " + padLeft(value, wide) + "   " + p.paint(dim, note))
}

// Quantiles writes a name, how its samples spread, and a note.
func (p *Printer) Quantiles(name string, s measure.Spread, note string) {
	var columns strings.Builder
	for _, c := range []struct {
		name  string
		value time.Duration
	}{{"p50", s.P50}, {"p99", s.P99}, {"max", s.Max}} {
		columns.WriteString(p.paint(dim, c.name) + " " + padLeft(Duration(c.value), 7) + "  ")
	}
	p.print(indent + pad(name, quantileNameWidth) + " " + columns.String() + " " + p.paint(dim, note))
}

// Line writes plain text.
func (p *Printer) Line(text string) { p.print(indent + text) }

// Note writes small print.
func (p *Printer) Note(text string) { p.print(indent + p.paint(dim, text)) }

// OK writes what has been shown.
func (p *Printer) OK(text string) { p.print(indent + p.paint(green, "ok") + "  " + text) }

// Failed writes what did not hold, one line for each of err's.
func (p *Printer) Failed(err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		p.print(indent + p.paint(red, "FAILED") + "  " + line)
	}
}

// Table writes rows of equal length under a header, the first column to the left and the others to the right.
func (p *Printer) Table(header []string, rows [][]string) {
	widths := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(row []string) string {
		var b strings.Builder
		b.WriteString(indent)
		for i, cell := range row {
			if i == 0 {
				b.WriteString(pad(cell, widths[i]))
			} else {
				b.WriteString("  " + padLeft(cell, widths[i]))
			}
		}
		return b.String()
	}
	p.print(p.paint(dim, line(header)))
	for _, row := range rows {
		p.print(line(row))
	}
}

// Progressf shows how far something is, on a terminal alone, and not too often.
func (p *Printer) Progressf(format string, args ...any) {
	if !p.terminal || time.Since(p.last) < progressEvery {
		return
	}
	p.last, p.drawn = time.Now(), true
	_, _ = io.WriteString(p.w, clearLine+indent+p.paint(dim, fmt.Sprintf(format, args...)))
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

func padLeft(s string, width int) string {
	return strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s))) + s
}
