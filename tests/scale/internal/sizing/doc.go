// Package sizing reckons what many instances cost the nodes of a Redis Cluster, from what was measured of fewer on fewer, and
// simulates the queue in front of a node.
package sizing
