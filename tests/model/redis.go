package model

// What one Redis holds of the cache and the key. Its methods are the Lua scripts, one for each, run as one step.
// TestTheScripts runs the scripts themselves beside these methods.

// version is a value: how many writes the source had seen when it was read there. none is the absence of one.
type version = uint8

const none version = 7

// epochs and tokens are compared and nothing else. Zero is an absent one.
type (
	epoch = uint8
	token = uint8
)

const (
	// fresh is the epoch that a step makes. It is renamed when the step is done: see state.normalize.
	fresh epoch = 15

	// orphan is the token of any lease whose taker has gone, late that of the flight whose request is on its way without it.
	orphan token = 14
	late   token = 15
	// unheard stands for a token between one line and the next.
	unheard token = 13
)

type dataset struct {
	val      version
	valEpoch epoch
	lease    token
	expired  uint8 // the lease
	epoch    epoch

	// marked says that the epoch is known to stand under the server's present replication id, renewed that it was made under it.
	marked  uint8
	renewed uint8

	// done is no part of Redis: the last write whose invalidation has been executed here.
	done version
}

// seen is what the caller of acquire makes of a value.
type seen = uint8

const (
	wanted   seen = iota // it is the answer
	unwanted             // it loads all the same
	unusable             // it is of another epoch than the script said
)

type outcome uint8

const (
	acquired outcome = iota + 1
	found
	held
)

// acquire is acquire.lua. For unusable, val and of say which value it was.
func (d *dataset) acquire(t token, s seen, val version, of epoch) outcome {
	if d.epoch == 0 {
		d.epoch = fresh
	}
	if d.val != none && (s == wanted || (s == unusable && (d.val != val || d.valEpoch != of))) {
		return found
	}
	if d.lease != 0 && s != unwanted && d.lease != t && d.expired == 0 {
		return held
	}
	d.lease, d.expired = t, 0
	return acquired
}

// renew is renew.lua.
func (d *dataset) renew(t token) bool {
	if d.lease != t {
		return false
	}
	d.expired = 0
	return true
}

// fill is fill.lua.
func (d *dataset) fill(t token, v version, began epoch, without mutations) bool {
	switch {
	case without.has(TokenInFill):
	case without.has(OwnTokenInFill):
		if d.lease == 0 {
			return false
		}
	case d.lease != t:
		return false
	}
	stored := (d.epoch != 0 && d.epoch == began) || without.has(EpochInFill)
	if stored {
		d.val, d.valEpoch = v, began
	}
	d.lease, d.expired = 0, 0
	return stored
}

// release is release.lua.
func (d *dataset) release(t token) bool {
	if d.lease != t {
		return false
	}
	d.lease, d.expired = 0, 0
	return true
}

// invalidate is invalidate.lua, but for the message.
func (d *dataset) invalidate(without mutations) {
	d.val, d.valEpoch = none, 0
	if !without.has(LeaseDeletion) {
		d.lease, d.expired = 0, 0
	}
}

// set is set.lua, but for the message. tooLate says that the script runs after its latest time to store.
func (d *dataset) set(v version, of epoch, tooLate bool, without mutations) bool {
	d.invalidate(without)
	if tooLate || d.epoch == 0 || d.epoch != of {
		return false
	}
	d.val, d.valEpoch = v, of
	return true
}

// invalidateAll is invalidate_all.lua, but for the message.
func (d *dataset) invalidateAll() { d.epoch = fresh }

// usable says whether a reader that knows the epoch of this Redis would use what is there.
func (d *dataset) usable() bool { return d.val != none && d.epoch != 0 && d.valEpoch == d.epoch }

// history is what an instance's last good heartbeat means to a Redis: the replid under which it ran, and the offset it saw.
type history = uint8

const (
	sameLineage history = iota // it ran under the present replid
	continued                  // under the one before, and all that it saw is here
	interrupted                // something that it saw, or may have seen, is not here
	newcomer                   // there was none
)

// beat is beat.lua: it reports whether the epoch was replaced, which the script publishes.
func (d *dataset) beat(h history, without mutations) (replaced bool) {
	if h == interrupted && without.has(OffsetTest) {
		h = continued
	}
	switch {
	case d.epoch == 0:
		d.epoch, d.marked, d.renewed = fresh, 1, 1
		return false
	case d.marked == 0 && h == continued:
		d.marked, d.renewed = 1, 0
		return false
	case d.marked == 0:
	case h == interrupted && d.renewed == 0 && !without.has(SecondOpinion):
	default:
		return false
	}
	d.marked, d.renewed = 1, 1
	if without.has(Renewal) {
		return false
	}
	d.epoch = fresh
	return true
}
