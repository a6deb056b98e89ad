package fleet

import (
	"strconv"

	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/history"
	"github.com/tandemcache/tandem/tiered/cmd/tandem/internal/ui"
)

// PrintTotals writes a table of what each instance did, and the sum.
func PrintTotals(p *ui.Printer, all []Totals) {
	rows := make([][]string, 0, len(all)+1)
	for _, t := range all {
		rows = append(rows, row(strconv.Itoa(t.Instance), t))
	}
	rows = append(rows, row("all", Sum(all)))
	p.Table([]string{
		"#", "reads", "L1 hits", "L2 hits", "joined", "loads", "refused", "heard", "sessions", "commands", "errors",
	}, rows)
	p.Note("joined: shared another's read or load   refused: loads that an invalidation kept out of Redis")
	p.Note("heard: invalidations received   sessions: subscriptions begun   commands: sent to Redis")
}

func row(name string, t Totals) []string {
	return []string{
		name, ui.Count(t.Reads), ui.Count(t.LocalHits), ui.Count(t.RemoteHits), ui.Count(t.Joined), ui.Count(t.Loads),
		ui.Count(t.Refused), ui.Count(t.Received), ui.Count(t.Sessions), ui.Count(t.Commands), ui.Count(t.RedisErrors),
	}
}

// PrintTally writes what became of the reads.
func PrintTally(p *ui.Printer, t *history.Tally) {
	p.Fact("reads judged", ui.Count(t.Reads), "each against the source")
	p.Fact("  older than a write of their instance", ui.Count(t.Own), "must be 0")
	p.Fact("  stale for longer than MaxStaleness", ui.Count(t.Late), "must be 0")
	longest := ""
	if t.Lagging > 0 {
		longest = "for " + ui.Duration(t.Longest) + " at most"
	}
	p.Fact("  stale, within MaxStaleness", ui.Count(t.Lagging), longest)
	if t.Wrong > 0 {
		p.Fact("  not a value of the source", ui.Count(t.Wrong), "must be 0")
	}
}
