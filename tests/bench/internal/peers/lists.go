package peers

// LocalBaseline is what L1 hits are compared with.
const LocalBaseline = "Ristretto, with TTL"

// RemoteBaseline is what L2 hits and misses are compared with.
const RemoteBaseline = "go-redis GET, decode"

// TandemName is the name of tandem among the peers.
const TandemName = "tandem"

// LocalHit returns those that can answer from the process.
func LocalHit() []Peer {
	return []Peer{
		Empty(), SyncMap(), Otter(), Theine(), Hot(), Sturdyc(), Ristretto(), RistrettoTTL(),
		RedisCacheLocal(), RueidisCached(), ClientSideCache(), Tandem(),
	}
}

// RemoteHit returns those that can answer from Redis with nothing in the process.
func RemoteHit() []Peer {
	return []Peer{Plain(), AutoPipeline(), RedisCache(), Rueidis(), RueidisMissing(), TandemSingle(), TandemRemote()}
}

// Miss returns those that load what Redis does not have, and store it there.
func Miss() []Peer {
	return []Peer{Plain(), RedisCache(), Rueidis(), TandemNoLease(), Tandem()}
}

// Stampede returns those that join readers of one key, and one that does not.
func Stampede() []Peer {
	return []Peer{Plain(), Sturdyc(), Theine(), Otter(), RedisCacheLocal(), Tandem()}
}
