//go:build linux

// Package clock reads the one clock that all processes of a machine share.
package clock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Now returns CLOCK_MONOTONIC in nanoseconds: readings taken in different processes can be compared, no step of the wall
// clock moves them, and it goes on while a process is stopped. It is the clock that Go's runtime, and so tandem, measures
// ages with.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(fmt.Sprintf("clock: %v", err)) // it cannot fail with these arguments
	}
	return ts.Nano()
}
