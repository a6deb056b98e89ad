// Package worker runs one instance of a design under load and records what it does, in the harness' own process or in one
// of its own, which can be stopped and killed. Both speak the same protocol over a pair of pipes: commands go in, reports
// come out, as gob. The source is shared memory and needs no protocol.
package worker
