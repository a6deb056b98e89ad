// Package integration holds the contract against real redis-server processes, which its tests start on free loopback ports.
// Without a redis-server on the PATH the tests skip and say so. The figures that the README and the changelog give are
// logged by these tests:
//
//	go test ./tests/integration -count=1 -v
package integration
