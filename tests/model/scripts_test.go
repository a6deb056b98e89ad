package model

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/remote"
)

// The tokens and epochs of these tests. An epoch that is neither known nor absent is fresh.
const (
	mine   token = 1
	other  token = 2
	epoch1 epoch = 1
	epoch2 epoch = 2
)

// TestTheScripts runs every operation of remote.Store on a Redis in every small state, and compares what it answers and leaves
// behind with what the model's dataset does.
func TestTheScripts(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	cases := 0
	for _, was := range smallDatasets() {
		for _, op := range operations() {
			cases++
			d := was
			b.put(d)
			want := op.model(&d)
			got := op.real(b, was)
			require.Equal(t, want, got, "%s on %+v answers", op.name, was)
			require.Equal(t, visible(d), visible(b.get()), "%s on %+v leaves", op.name, was)
		}
	}
	t.Logf("%d cases", cases)
}

// smallDatasets are all states of one key: value, lease and epoch.
func smallDatasets() []dataset {
	var out []dataset
	values := []dataset{{val: none}}
	for v := range version(2) {
		values = append(values, dataset{val: v, valEpoch: epoch1}, dataset{val: v, valEpoch: epoch2})
	}
	leases := []dataset{{}, {lease: mine}, {lease: mine, expired: 1}, {lease: other}, {lease: other, expired: 1}}
	for _, v := range values {
		for _, l := range leases {
			for _, e := range []epoch{0, epoch1, epoch2} {
				d := v
				d.lease, d.expired, d.epoch = l.lease, l.expired, e
				out = append(out, d)
			}
		}
	}
	return out
}

// visible is what can be compared: an expired lease is one that nobody has to wait for, and lineages are not of these scripts.
func visible(d dataset) dataset {
	d.marked, d.renewed, d.done = 0, 0, 0
	return d
}

// operation is one script, in the model and in production. Both answer in words.
type operation struct {
	name  string
	model func(*dataset) string
	real  func(b *bench, was dataset) string
}

func operations() []operation {
	ops := []operation{
		acquiring("wanted", wanted, func(dataset) (version, epoch) { return none, 0 }),
		acquiring("unwanted", unwanted, func(dataset) (version, epoch) { return none, 0 }),
		acquiring("unusable: what is there", unusable, func(d dataset) (version, epoch) { return d.val, d.valEpoch }),
		acquiring("unusable: something else", unusable, func(d dataset) (version, epoch) { return 2, d.valEpoch }),
		{
			name:  "renew",
			model: func(d *dataset) string { return fmt.Sprint(d.renew(mine)) },
			real: func(b *bench, _ dataset) string {
				ok, err := b.store.Renew(b.ctx, benchKey, b.tokens[mine], leaseLife)
				return answer(ok, err)
			},
		},
		{
			name:  "release",
			model: func(d *dataset) string { d.release(mine); return "done" },
			real: func(b *bench, _ dataset) string {
				return done(b.store.Release(b.ctx, benchKey, b.tokens[mine], []byte("wake")))
			},
		},
		{
			name:  "invalidate",
			model: func(d *dataset) string { d.invalidate(0); return "done" },
			real: func(b *bench, _ dataset) string {
				return done(b.store.Invalidate(b.ctx, []string{benchKey}, []byte("message")))
			},
		},
		{
			name:  "invalidate all",
			model: func(d *dataset) string { d.invalidateAll(); return "done" },
			real: func(b *bench, _ dataset) string {
				return done(b.store.InvalidateAll(b.ctx, []int{0}, []byte("message"))[0])
			},
		},
	}
	for _, e := range []epoch{epoch1, epoch2} {
		ops = append(ops, operation{
			name:  fmt.Sprintf("fill of epoch %d", e),
			model: func(d *dataset) string { return fmt.Sprint(d.fill(mine, 1, e, 0)) },
			real: func(b *bench, _ dataset) string {
				ok, err := b.store.Fill(b.ctx, benchKey, b.tokens[mine], b.envelope(1, e), entryLife, b.epochs[e], []byte("wake"))
				return answer(ok, err)
			},
		})
		for _, tooLate := range []bool{false, true} {
			ops = append(ops, operation{
				name:  fmt.Sprintf("set of epoch %d, too late: %v", e, tooLate),
				model: func(d *dataset) string { return fmt.Sprint(d.set(1, e, tooLate, 0)) },
				real: func(b *bench, _ dataset) string {
					notAfter := b.now().Add(time.Minute)
					if tooLate {
						notAfter = b.now().Add(-time.Minute)
					}
					ok, err := b.store.Set(b.ctx, benchKey, b.envelope(1, e), entryLife, b.epochs[e], notAfter.UnixMilli(), []byte("message"))
					return answer(ok, err)
				},
			})
		}
	}
	return ops
}

func acquiring(name string, s seen, bad func(dataset) (version, epoch)) operation {
	return operation{
		name: "acquire, " + name,
		model: func(d *dataset) string {
			v, e := bad(*d)
			return leaseAnswer(d.acquire(mine, s, v, e), *d)
		},
		real: func(b *bench, was dataset) string {
			how := remote.Wanted
			switch v, e := bad(was); {
			case s == unwanted:
				how = remote.Unwanted
			case s == unusable && v != none:
				how = remote.Unusable(b.envelope(v, e))
			case s == unusable:
				how = remote.Unusable([]byte("what was there a moment ago"))
			}
			l, err := b.store.Acquire(b.ctx, benchKey, b.tokens[mine], how, leaseLife, "inbox")
			require.NoError(b, err)
			d := dataset{val: none, epoch: b.epochNamed(remote.EpochText(l.Epoch))}
			if l.Outcome == remote.Found {
				d.val, d.valEpoch = b.decode(l.Value)
			}
			return leaseAnswer(outcome(l.Outcome), d)
		},
	}
}

func leaseAnswer(o outcome, d dataset) string {
	if o != found {
		return fmt.Sprintf("outcome %d in epoch %d", o, d.epoch)
	}
	return fmt.Sprintf("found v%d of epoch %d in epoch %d", d.val, d.valEpoch, d.epoch)
}

func answer(ok bool, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(ok)
}

func done(err error) string {
	if err != nil {
		return err.Error()
	}
	return "done"
}

const (
	benchKey  = "42"
	note      = ":0123abcd=" // of a heartbeat, behind the epoch: none of these scripts changes it
	leaseLife = 3 * time.Second
	entryLife = time.Minute
)

// bench is a Redis whose small states can be written and read.
type bench struct {
	*testing.T
	ctx    context.Context
	server *miniredis.Miniredis
	client *redis.Client
	keys   remote.Keys
	schema remote.Schema
	store  *remote.Store
	tokens map[token]remote.Token
	epochs map[epoch]uint64
}

func newBench(t *testing.T) *bench {
	t.Helper()
	keys, err := remote.KeysFor("model")
	require.NoError(t, err)
	b := &bench{
		T: t, ctx: context.Background(), server: miniredis.RunT(t), keys: keys,
		schema: remote.Schema{Codec: "raw", Type: 1},
		tokens: map[token]remote.Token{mine: remote.NewToken(), other: remote.NewToken()},
		epochs: map[epoch]uint64{epoch1: 0x1111, epoch2: 0x2222},
	}
	b.client = redis.NewClient(&redis.Options{Addr: b.server.Addr(), MaxRetries: -1})
	t.Cleanup(func() { require.NoError(t, b.client.Close()) })
	b.store = remote.New(b.client, remote.Options{Keys: keys, Schema: b.schema, MaxBytes: 1 << 10})
	return b
}

func (b *bench) now() time.Time {
	b.Helper()
	now, err := b.client.Time(b.ctx).Result()
	require.NoError(b, err)
	return now
}

func (b *bench) envelope(v version, e epoch) []byte {
	b.Helper()
	raw, err := remote.Envelope{
		Schema: b.schema, Epoch: b.epochs[e], Created: 1, Expires: 1 << 40, Payload: []byte{v},
	}.Encode(benchKey)
	require.NoError(b, err)
	return raw
}

func (b *bench) decode(raw []byte) (version, epoch) {
	b.Helper()
	e, err := remote.Decode(raw, benchKey)
	require.NoError(b, err)
	require.Len(b, e.Payload, 1)
	return e.Payload[0], b.epochNamed(remote.EpochText(e.Epoch))
}

func (b *bench) epochNamed(text string) epoch {
	for e, x := range b.epochs {
		if remote.EpochText(x) == text {
			return e
		}
	}
	return fresh
}

// put makes Redis what d says, by the layout that the package comment of remote documents.
func (b *bench) put(d dataset) {
	b.Helper()
	b.server.FlushAll()
	entry := b.keys.Entry(benchKey)
	field := b.schema.Field()
	if d.val != none {
		b.server.HSet(entry, field, string(b.envelope(d.val, d.valEpoch)))
	}
	if d.lease != 0 {
		expires := b.now().Add(leaseLife)
		if d.expired != 0 {
			expires = b.now().Add(-time.Second)
		}
		b.server.HSet(entry, field+".l", fmt.Sprintf("%013d:%s", expires.UnixMilli(), b.tokens[d.lease]))
	}
	if b.server.Exists(entry) {
		b.server.SetTTL(entry, entryLife)
	}
	if d.epoch != 0 {
		require.NoError(b, b.server.Set(b.keys.Epoch(0), remote.EpochText(b.epochs[d.epoch])+note))
	}
}

func (b *bench) get() dataset {
	b.Helper()
	d := dataset{val: none}
	entry := b.keys.Entry(benchKey)
	if raw := b.server.HGet(entry, b.schema.Field()); raw != "" {
		d.val, d.valEpoch = b.decode([]byte(raw))
	}
	if lease := b.server.HGet(entry, b.schema.Field()+".l"); lease != "" {
		ms, held, ok := strings.Cut(lease, ":")
		require.True(b, ok, lease)
		for name, x := range b.tokens {
			if string(x) == held {
				d.lease = name
			}
		}
		require.NotZero(b, d.lease, lease)
		d.expired = bit(ms < fmt.Sprintf("%013d", b.now().UnixMilli()))
	}
	if b.server.Exists(b.keys.Epoch(0)) {
		text, err := b.server.Get(b.keys.Epoch(0))
		require.NoError(b, err)
		name, ok := strings.CutSuffix(text, note)
		if !ok { // made by the script, for the next heartbeat to judge
			name, ok = strings.CutSuffix(text, ":+")
		}
		require.True(b, ok, text)
		d.epoch = b.epochNamed(name)
	}
	return d
}
