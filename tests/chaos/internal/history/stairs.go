package history

import "sort"

// maxSteps bounds the memory of one key: many times what is acknowledged while a read waits for its judgement. The
// staleness of a version from before all steps counts from the oldest one.
const maxSteps = 2048

// stairs are the acknowledgements of one key: both times and versions grow, since an acknowledgement of an older version
// claims nothing beside one of a newer version that came no later.
type stairs struct {
	steps  []step
	pruned bool // of what was before the first step
}

type step struct {
	at      int64
	version int64
}

// add takes acknowledgements in any order.
func (s *stairs) add(at, version int64) {
	i := sort.Search(len(s.steps), func(i int) bool { return s.steps[i].at > at }) // the first that is later
	if i > 0 && s.steps[i-1].version >= version {
		return
	}
	j := i
	for j < len(s.steps) && s.steps[j].version <= version {
		j++
	}
	for i > 0 && s.steps[i-1].at == at { // at most one, of an older version
		i--
	}
	tail := append([]step{{at, version}}, s.steps[j:]...)
	s.steps = append(s.steps[:i], tail...)
	if len(s.steps) > maxSteps {
		s.pruned = true
		s.steps = append(s.steps[:0], s.steps[maxSteps/2:]...)
	}
}

// required returns the newest version acknowledged at or before at; none is 0. It is not known for a time that is too
// long ago.
func (s *stairs) required(at int64) (need step, known bool) {
	if s.pruned && at < s.steps[0].at {
		return step{}, false
	}
	i := sort.Search(len(s.steps), func(i int) bool { return s.steps[i].at > at })
	if i == 0 {
		return step{}, true
	}
	return s.steps[i-1], true
}

// newer returns the first acknowledgement of a version above this one.
func (s *stairs) newer(version int64) (step, bool) {
	i := sort.Search(len(s.steps), func(i int) bool { return s.steps[i].version > version })
	if i == len(s.steps) {
		return step{}, false
	}
	return s.steps[i], true
}
