// Command tandem shows what a tandem cache does, and looks into one that runs.
//
//	go run github.com/tandemcache/tandem/tiered/cmd/tandem demo
//
// starts three instances of a cache on a Redis inside the process, reads, writes and breaks connections, and reports what
// it measured. It ends with 1 if anything was not as the library promises. With -redis it uses a real Redis, under a name
// of its own, and removes what it has stored there. With -trace it replays a recorded sequence of accesses, and judges
// every single value that it reads.
//
// The other commands are for a Redis that services use:
//
//	tandem get users 42                      what Redis holds for key 42 of the cache users
//	tandem get 'tandem:{users}:k:42'         the same, as redis-cli names it
//	tandem invalidate users 42 43            drop two keys, in Redis and in every running instance
//	tandem invalidate -tag red users         drop what is stored with a tag; -tag may be given several times
//	tandem invalidate -all users             drop the whole cache
//	psql -Atc 'select id ...' | tandem invalidate users -
//	tandem watch users                       follow the invalidations of one cache
//	tandem watch                             of all caches
//
// -redis takes host:port or a redis:// or rediss:// URL; of a Redis Cluster, that of any node: the commands notice, and find out
// by themselves how the cache is divided. A password is best given in REDISCLI_AUTH, as to redis-cli. -json
// makes the output one for machines: one document, or for watch one line for each event.
//
// The exit code is 0, 1 for a failure, and 2 for a command line that makes no sense. Errors go to stderr.
package main
