package redisserver

import "sync"

// SharedCluster is a cluster for all tests of a package that leave it whole, and keep to names of their own. It takes seconds to
// start, which the first of them waits for. The zero value is one of three masters with a replica each. It may be used by several
// goroutines at once.
type SharedCluster struct {
	Options ClusterOptions

	once  sync.Once
	nodes *Cluster
	err   error
}

// Run returns the cluster for the test tb. It skips and fails as [RunCluster] does.
func (s *SharedCluster) Run(tb TB) *Cluster {
	tb.Helper()
	if !Need(tb) {
		return nil
	}
	s.once.Do(func() { s.nodes, s.err = StartCluster(s.Options) })
	if s.err != nil {
		tb.Fatalf("%v", s.err)
	}
	return s.nodes
}

// Close ends the cluster, if there is one. It is for TestMain, when the tests are over.
func (s *SharedCluster) Close() error {
	if s.nodes == nil {
		return nil
	}
	return s.nodes.Close()
}
