package pubsub

import (
	_ "embed" // the scripts
	"time"

	"github.com/tandemcache/tandem/internal/script"
)

var (
	//go:embed scripts/beat.lua
	beatSource string
	beatScript = script.New(beatSource)
)

// scripts are what heartbeats and acknowledgements run.
type scripts struct{ beat, steady, same, ask, mark script.Script }

var (
	// classic are those of a single Redis.
	classic = scripts{beat: beatScript, steady: steadyScript, same: sameScript, ask: askScript, mark: markScript}
	// sharded are those of a cluster.
	sharded = scripts{
		beat: beatScript.Sharded(), steady: steadyScript.Sharded(), same: sameScript, ask: askScript.Sharded(), mark: markScript,
	}
)

// names are those that an instance has in a slot.
type names struct {
	id    string
	inbox string // its private channel
	probe string // the heartbeats' key, which never exists
	// prefix and suffix are what private channels have around the instance's id. The suffix is the logical database, which Redis'
	// channels ignore.
	prefix, suffix string
}

// inboxOf is the private channel of the instance with this id.
func (n *names) inboxOf(id string) string { return n.prefix + id + n.suffix }

// ledger is what an instance keeps of the heartbeats of one partition: of a single Redis, which is one, or of a cluster's. What
// they expect to find is there, and in which registries they have written the instance.
type ledger struct {
	names
	scripts
	steady    steady
	registers registers
}

// keys are what a heartbeat looks at.
func (l *ledger) keys(members []*member, registries []string) []string {
	keys := make([]string, 1, 1+len(members)+len(registries))
	keys[0] = l.probe
	for _, m := range members {
		keys = append(keys, m.VersionKey)
	}
	return append(keys, registries...)
}

// full is a heartbeat by beat.lua, which finds out everything, after those of h.
func (l *ledger) full(h *history, members []*member, registries []string, token, word string, since int64) script.Call {
	ttl := time.Duration(0)
	for _, m := range members {
		ttl = max(ttl, m.VersionTTL)
	}
	args := make([]any, 0, 12+len(members)+len(registries))
	args = append(args,
		l.inbox, Message{Op: Beat, Token: token}.Encode(), newID(8), ttl.Milliseconds(),
		h.server.id, h.server.offset, h.server.run, since, Message{Op: All, Sender: l.id}.Encode(),
		len(members))
	for _, m := range members {
		args = append(args, m.Channel)
	}
	if len(registries) > 0 {
		args = append(args, l.id, word)
	}
	for _, key := range registries {
		r, _ := l.registers.find(key)
		args = append(args, r.word)
	}
	return script.Call{Keys: l.keys(members, registries), Args: args}
}

// expectations are what a heartbeat expects that expects nothing new.
type expectations struct {
	stored []string // what the version keys hold
	words  []string // what this instance has written into the registries
}

// expects returns what the next heartbeat may expect after those of h; false means that it has to find out.
func (l *ledger) expects(h *history, members []*member, registries []string) (e expectations, ok bool) {
	if h.failing > 0 || h.strayed || h.server.id == "" {
		return e, false
	}
	if e.stored, ok = l.steady.expects(members); !ok {
		return e, false
	}
	for _, key := range registries {
		r, ok := l.registers.find(key)
		if !ok {
			return e, false
		}
		e.words = append(e.words, r.word)
	}
	return e, true
}

// args are the arguments of a script that compares, after others.
func (e expectations) args(id string, args ...any) []any {
	for _, s := range e.stored {
		args = append(args, s)
	}
	if len(e.words) > 0 {
		args = append(args, id)
	}
	for _, w := range e.words {
		args = append(args, w)
	}
	return args
}
