package model

import (
	"fmt"
	"os"
	"testing"
)

func TestScratch(t *testing.T) {
	for _, c := range configurations() {
		if n := os.Getenv("CFG"); n != "" && n != c.Name {
			continue
		}
		var reached [situations]uint64
		m := New(c, &reached)
		r := m.Explore(12_000_000)
		fmt.Println(c.Name, r)
		if r.Violation != "" {
			fmt.Println(m.Line(r))
		}
		fmt.Println(reached)
	}
}
