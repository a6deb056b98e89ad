// Package faults holds the contract against one fault at a time: a Redis that is away, slow, or answers errors; writes
// that do not get through; a subscription that is cut, silent or too slow; restarts; bytes that are not ours. Servers are
// real redis-server processes; what happens on the way to them is done by a proxy of the package's own. Without a
// redis-server on the PATH the tests skip and say so. The figures are logged:
//
//	go test ./tests/faults -count=1 -v
package faults
