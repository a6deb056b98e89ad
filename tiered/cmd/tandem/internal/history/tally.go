package history

import (
	"errors"
	"fmt"
	"time"
)

// maxExamples bounds what a Tally keeps of each kind of violation.
const maxExamples = 3

// Tally counts verdicts. One goroutine uses it at a time; Merge adds them up.
type Tally struct {
	// Bound is MaxStaleness: what a lag on another instance than the writer's may be.
	Bound time.Duration `json:"bound_ns"`

	Reads   uint64        `json:"reads"`         // judged
	Lagging uint64        `json:"lagging"`       // older than the newest acknowledged, within the bound
	Late    uint64        `json:"beyond_bound"`  // the same, beyond it: a violation
	Own     uint64        `json:"own_write_old"` // older than a write of the same instance: a violation
	Wrong   uint64        `json:"wrong"`         // not a value that the source ever had for the key: a violation
	Longest time.Duration `json:"longest_lag_ns"`

	Examples []string `json:"examples,omitempty"` // the first violations
}

// Add judges a read of key.
func (t *Tally) Add(k *Key, key string, r Read) {
	t.Reads++
	v := k.Judge(r)
	if !v.Old() {
		return
	}
	t.Longest = max(t.Longest, v.Lag)
	switch {
	case v.Own:
		t.Own++
		t.example("instance %d read %s in version %d %v after a newer one of its own was acknowledged", r, key, v)
	case v.Lag > t.Bound:
		t.Late++
		t.example("instance %d read %s in version %d %v after a newer one was acknowledged", r, key, v)
	default:
		t.Lagging++
	}
}

// AddWrong counts a read that is no matter of age.
func (t *Tally) AddWrong(err error) {
	t.Reads++
	t.Wrong++
	if len(t.Examples) < maxExamples {
		t.Examples = append(t.Examples, err.Error())
	}
}

func (t *Tally) example(format string, r Read, key string, v Verdict) {
	if len(t.Examples) < maxExamples {
		t.Examples = append(t.Examples, fmt.Sprintf(format, r.Instance+1, key, r.Version, v.Lag))
	}
}

// Merge adds what o counted.
func (t *Tally) Merge(o Tally) {
	t.Reads += o.Reads
	t.Lagging += o.Lagging
	t.Late += o.Late
	t.Own += o.Own
	t.Wrong += o.Wrong
	t.Longest = max(t.Longest, o.Longest)
	t.Examples = append(t.Examples, o.Examples[:min(len(o.Examples), maxExamples-min(len(t.Examples), maxExamples))]...)
}

// Err returns what was violated, nil if nothing.
func (t *Tally) Err() error {
	var errs []error
	if t.Wrong > 0 {
		errs = append(errs, fmt.Errorf("%d reads returned a value that the source never had for the key", t.Wrong))
	}
	if t.Own > 0 {
		errs = append(errs, fmt.Errorf("%d reads were older than a write that had returned on the same instance", t.Own))
	}
	if t.Late > 0 {
		errs = append(errs, fmt.Errorf("%d reads were stale for longer than MaxStaleness (%v)", t.Late, t.Bound))
	}
	if len(errs) > 0 && len(t.Examples) > 0 {
		errs = append(errs, fmt.Errorf("for example: %s", t.Examples[0]))
	}
	return errors.Join(errs...)
}
