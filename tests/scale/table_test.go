//go:build linux

package scale

import (
	"testing"

	"github.com/tandemcache/tandem/tests/scale/internal/markdown"
)

// table is a Markdown table; its first row is the head.
type table markdown.Table

func (t *table) add(cells ...any) { (*markdown.Table)(t).Add(cells...) }

func (t *table) print(tb testing.TB) {
	tb.Helper()
	tb.Log("\n" + (*markdown.Table)(t).String())
}
