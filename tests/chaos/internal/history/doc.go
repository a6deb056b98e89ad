// Package history judges what was read while things broke.
//
// # Rules
//
// The source gives each key a version that only grows. A write commits version n and then calls Set or Invalidate. Once
// that call has returned nil, at time a, a read of the key that starts at s must not return a version below n
//
//   - on the writing instance, if s >= a (C2);
//   - on any instance, if s > a + bound (C3).
//
// All times are readings of one clock that all processes share (package clock), taken by the one who acts: s before the
// read is called, a after the write has returned. A process or machine that stalls makes s earlier and a later than what
// happened, so a stall can excuse a read and never accuse one, and there is no allowance of any kind.
//
// A read that overlaps a write may return either version, and what is committed and not yet acknowledged may be seen or not.
//
// A write that returned ErrPending has dropped the local copy and will be repeated: it is judged as acknowledged at once
// on the writing instance, and everywhere from the moment at which that instance's Health shows nothing pending.
// A write that failed otherwise promises nothing.
//
// # Order
//
// Records come from several processes, each in batches of its own pace. A read can be judged once every write that was
// acknowledged before it is known, so each batch says up to which time its instance's writes are complete, and reads wait
// until all instances have come so far. An instance that is killed is complete with what it has delivered: what it had
// acknowledged in its last milliseconds and not delivered is not judged.
package history
