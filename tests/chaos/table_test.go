//go:build linux

package chaos

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tandemcache/tandem/tests/chaos/internal/design"
)

// row is what the runs of one fault have shown of one design.
type row struct {
	fault, design string
	runs          int
	outcome
}

type rows []row

func (r *rows) add(fault string, out map[string]outcome) {
	for _, name := range designs {
		*r = append(*r, row{fault: fault, design: name, runs: 1, outcome: out[name]})
	}
}

// merged returns one row for each fault and design, in the order of their first runs.
func (r rows) merged() rows {
	var out rows
	at := map[[2]string]int{}
	for _, one := range r {
		key := [2]string{one.fault, one.design}
		i, ok := at[key]
		if !ok {
			at[key] = len(out)
			out = append(out, one)
			continue
		}
		out[i].plus(one)
	}
	return out
}

func (r *row) plus(o row) {
	r.runs += o.runs
	r.Reads += o.Reads
	r.Acked += o.Acked
	r.Pending += o.Pending
	r.C2 += o.C2
	r.C3 += o.C3
	r.Unreal += o.Unreal
	r.Failed += o.Failed
	r.Worst = max(r.Worst, o.Worst)
	r.trust = max(r.trust, o.trust)
}

func (r rows) sum(name string) outcome {
	var sum row
	for _, one := range r {
		if one.design == name {
			sum.plus(one)
		}
	}
	return sum.outcome
}

// report ends a run of every fault.
func (r rows) report(t *testing.T) {
	t.Helper()
	requireSeeing(t, r.sum(design.Control))
	if *table {
		fmt.Println(r.markdown())
	}
}

func (r rows) markdown() string {
	var s strings.Builder
	s.WriteString("| fault | design | runs | reads judged | acknowledged | C2 violations | C3 violations | worst staleness | reads failed | L1 trusted again after, at most |\n")
	s.WriteString("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	total := map[string]*row{}
	line := func(one row) {
		trust := "-" // the control cannot tell
		if one.design == design.Tandem {
			trust = fmt.Sprintf("%.2f s", one.trust.Seconds())
		}
		fmt.Fprintf(&s, "| %s | %s | %d | %d | %d | %d | %d | %.2f s | %d | %s |\n",
			one.fault, one.design, one.runs, one.Reads, one.Acked, one.C2, one.C3, one.Worst.Round(time.Millisecond).Seconds(), one.Failed, trust)
	}
	for _, one := range r.merged() {
		line(one)
		if total[one.design] == nil {
			total[one.design] = &row{fault: "all", design: one.design}
		}
		total[one.design].plus(one)
	}
	for _, name := range designs {
		if total[name] != nil {
			line(*total[name])
		}
	}
	return s.String()
}
