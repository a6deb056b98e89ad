package history

// Read is one call of Get.
type Read struct {
	Instance   int
	Key        int
	Start, End int64
	Version    int64
	Err        string // empty if it returned a value
}

// Outcome is what a write's caller was told.
type Outcome uint8

// The outcomes.
const (
	Acked   Outcome = iota // nil: done
	Pending                // not confirmed, will be repeated
	Failed                 // an error that promises nothing
)

// Write is one commit with the call of Set or Invalidate that follows it.
type Write struct {
	Instance   int
	Key        int
	Version    int64
	Set        bool
	Commit     int64 // when the version was there, at the latest
	Start, End int64 // of the call
	Outcome    Outcome
	Err        string
}

// Settled says that a Pending write has got through by the time At.
type Settled struct {
	Instance int
	Key      int
	Version  int64
	At       int64
}

// Batch is what one instance recorded since its last batch.
type Batch struct {
	Instance int
	// Complete says that every write and settlement of this instance that ended by then is in this batch or an earlier one.
	Complete int64
	Reads    []Read
	Writes   []Write
	Settled  []Settled
}
