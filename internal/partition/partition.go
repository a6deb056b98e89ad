// Package partition spreads keys over a fixed number of partitions, each of which has a hash slot of a Redis Cluster.
//
// The slots are evenly spaced: the i-th of n partitions takes the keys whose own slot is in the i-th of n intervals, and has
// its slot near that interval's middle. So wherever the slots are divided evenly among masters, the partitions are.
package partition

import (
	"errors"
	"fmt"
	"strconv"
)

const (
	// Slots is how many hash slots a Redis Cluster has.
	Slots = 16384
	// Min is the smallest number of partitions, which is a power of two.
	Min = 16
	// Max is the largest.
	Max = 1024
	// spread is how much of an interval a slot may lie beside its middle: an eighth. It costs a few tags more to try.
	spread = 8
)

// ErrCount is returned for a number of partitions that is none.
var ErrCount = errors.New("invalid number of partitions")

// Table is a division into partitions, the same wherever and whenever it is made. The zero Table has none.
type Table struct{ tags []string }

// New returns the division into n partitions, or an error that wraps ErrCount.
func New(n int) (Table, error) {
	if n < Min || n > Max || n&(n-1) != 0 {
		return Table{}, fmt.Errorf("%w: %d, must be a power of two from %d to %d", ErrCount, n, Min, Max)
	}
	t := Table{tags: make([]string, n)}
	width := Slots / n
	for number, missing := int64(0), n; missing > 0; number++ {
		tag := strconv.FormatInt(number, 36)
		slot := Slot(tag)
		i := slot / width
		beside := slot%width - width/2
		if t.tags[i] == "" && max(beside, -beside) <= width/spread {
			t.tags[i] = tag
			missing--
		}
	}
	return t, nil
}

// Count returns how many partitions there are.
func (t Table) Count() int { return len(t.tags) }

// Of returns the partition of a key, from 0.
func (t Table) Of(key string) int { return Slot(key) * len(t.tags) / Slots }

// Tag returns what names of the i-th partition have between braces.
func (t Table) Tag(i int) string { return t.tags[i] }

// Slot returns the slot that Redis gives a name without braces, or with text as its hash tag. See
// https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/.
func Slot(text string) int {
	crc := uint16(0)
	for i := range len(text) {
		crc = crc<<8 ^ table[byte(crc>>8)^text[i]]
	}
	return int(crc % Slots)
}

// table is that of CRC-16/XMODEM.
var table = func() (t [256]uint16) {
	const polynomial = 0x1021
	for i := range t {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ polynomial
			} else {
				crc <<= 1
			}
		}
		t[i] = crc
	}
	return t
}()
