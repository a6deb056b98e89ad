// Package mono reads the monotonic clock as a plain number.
//
// Every age that tandem compares is a difference of two readings taken in this process, so no clock of another machine
// and no step of the wall clock can make an entry look younger than it is. On Linux the monotonic clock goes on while a
// process is stopped (SIGSTOP, a debugger, the scheduler), and stands still while the whole machine is suspended; that
// second case is outside what a reading at this price can see, and the README names it.
package mono

import "time"

// base only has to be some fixed moment; its own value never matters. time.Since of a time that carries a monotonic
// reading is one clock read (27 ns where time.Now, which reads two clocks, takes 47).
var base = time.Now()

// Never is earlier than every reading, and far enough from the ends of int64 that subtracting it cannot overflow.
const Never = -int64(1) << 61

// Now returns nanoseconds since a fixed moment of this process.
func Now() int64 { return int64(time.Since(base)) }
