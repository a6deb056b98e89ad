// Package pubsub is the bus: one subscription of a process, on which any number of topics hear invalidations, and the
// proof that they do.
//
// # Sessions and proof
//
// A session is the life of one topic's subscription on one connection. It begins when Redis has confirmed the channel,
// and ends with any doubt: an error, a read that timed out (go-redis loses its place in the stream after a timeout in the
// middle of a message), an unsubscription nobody asked for, a second confirmation of a channel, or silence. What was
// missed between two sessions is not known, so a topic must forget all it knows when a session begins.
//
// An open connection proves nothing: a master that was demoted in a failover goes on answering PINGs on it for ten seconds
// and delivers no message. So the bus sends heartbeats through the ordinary write path: a script that deletes a key that
// does not exist (a demoted or isolated master refuses any write, and a full one accepts this one) and publishes a random
// token on a private channel, which is subscribed on the same connection. When the token comes back, every message that
// Redis published before the heartbeat was sent has been handed to the topics. The time at which the heartbeat was *sent*
// is what a topic is told as proof. The channel is private so that n instances cost n messages a beat and not n squared.
//
// # Servers that take another's place
//
// A heartbeat also asks the server for its replication id and how far its stream of writes has come. A new id of the same
// process means only that its first replica has come. Any other new id means that the server was promoted or has started
// again, and may lack writes that the one before had confirmed:
//
//   - A promoted replica names the id before, and up to where it goes on from it. If that is beyond what the bus' last
//     heartbeat saw, everything confirmed before that heartbeat is there. Topics are told ([BeatReport].Moved and Kept), for
//     what they did after it is for them to repeat.
//   - Anything else (a restart from a snapshot or with nothing, a replica that lagged, a server nobody knows) gives each topic
//     a new version, in the same script, and an "all" on its channel. The version's key says under which id it stands,
//     whether it was made there or taken over, and when, so that of many instances one makes it, and one with a later heartbeat
//     than the first can still object.
//
// An open connection leads to where it was dialled, whoever has taken that server's place. So when a heartbeat is refused
// as a replica refuses it, does not come through, or meets another server, all connections are closed and dialled anew
// ([Options].Redial). Connections for reading are to be used only while they lead to the server that [Bus.Server] names. It
// names a new one after the members have heard of it, and the first one, or the same again, before: they may read at once.
//
// # Clusters
//
// A [Cluster] is the bus of a Redis Cluster. Plain PUBLISH is copied between nodes with losses that no subscriber can see, so topics
// are in partitions, each with a slot, and their channels are sharded ones. What a Bus has for its server there is for each node that
// owns a partition: a connection, heartbeats, and where connections lead. What it has for its topics there is for each partition:
// sessions, proof, versions, registries. A heartbeat is one pipeline to a node, with a script in the slot of each partition.
//
//   - What a node says of one slot ends the sessions of that partition alone: that it gives it up (sunsubscribe), or that it refuses it.
//   - Proof needs a write in the very slot, see shard_beat.go: while the slot is being migrated, or the node has been replaced, it is
//     refused. What may have been published elsewhere is not known then, so a session ends with that too.
//   - A node that takes over a slot is for its partition what a server is that takes another's place: a promoted replica may follow,
//     any other node gives the partition a new version.
//   - Where no node is known heartbeats are reported to have failed, at the same pace.
//
// A master that is cut off from the others takes writes until cluster-node-timeout: so long may a proof hold although a replica has
// taken its place.
//
// # Acknowledgements
//
// [Bus.Settle] waits until every instance has applied what was published, or has no proof any more. Whom it has to wait for
// Redis cannot tell by itself:
//
//  1. X has proof at time p, and Redis gives up its subscription (CLIENT KILL, an output buffer that is full). X's side of the
//     connection does not hear of it, as with a dead link;
//  2. somebody invalidates; PUBLISH counts everybody but X, and they all acknowledge;
//  3. X serves what it holds until p + Bound.
//
// So instances register. A topic's Registry is a HASH of their ids, and each heartbeat's script verifies, before it publishes the
// message that becomes a proof, that its instance is there, or writes it. A member with a Registry must serve nothing without
// proof. Then whoever serves anything was registered at some time within the Bound before, and Settle answers early when
//
//   - all who are registered have acknowledged, and PUBLISH has reached nobody else: such may be of a release that does neither
//     register nor acknowledge. (PUBSUB NUMSUB of the private channels tells how many of those reached are who;)
//   - a Bound has passed since this instance registered here. The registry may have been lost then, with others who serve until
//     then, or be that of a replica that lacked some: this instance's own word in it, random and written then, vouches for all
//     that came after;
//   - a Bound has passed since somebody was given up, see Bus.mark;
//   - the server is the one of the last heartbeat and takes writes: the script that asks looks as a heartbeat does.
//
// Otherwise it answers when a Bound has passed since the call. Who has not acknowledged after an eighth of that is marked as gone
// in the registry, and nobody waits for it any more once the mark is a Bound old, unless a heartbeat of its own has replaced it. The
// mark stays until Redis has given up its connection, too. An instance that closes takes itself out. A registry begins anew with the
// 2,000th, as most of them must have crashed, and that is as if it was lost.
//
// Acknowledgements wait in a bounded queue to be sent, and are dropped where it is full, which costs whoever asked its Bound.
//
// # Wire format
//
// A message is the text "tandem/1", a space, an operation, a space, and fields as netstrings (length in decimal, a colon,
// the bytes, a comma):
//
//	tandem/1 inv 5:shell,2:42,2:43,     the entries of keys 42 and 43 have changed; the first field says who tells
//	tandem/1 tags 5:shell,6:team:7,     every entry with the tag team:7 has changed
//	tandem/1 all 5:shell,               every entry of this cache has changed
//	tandem/1 beat 32:<token>,           private channel: a heartbeat
//	tandem/1 wake 17:<channel>,2:42,6:filled,   private channel: the load of key 42 is over ("filled" or "failed")
//	tandem/1 ask 16:<id>,32:<token>,    who has applied everything before this is to acknowledge it to that instance
//	tandem/1 ack 16:<id>,32:<token>,    private channel: that instance has
//
// In a cluster the private channels are tandem:{<tag>}:inst:<id>:0, one in the slot of each partition, and "publish" is SPUBLISH.
//
// The first field of inv and all is the sender's id, and what [Sender] adds to it for metrics and traces.
//
// At most MaxMessageBytes and MaxKeys keys. A message that cannot be read flushes its topic, so a stray one costs misses
// and never an old value.
//
// # Invalidating from elsewhere
//
// Delete the entry and publish the message in one step, so that no instance can read the old entry back in between. From
// a shell, for key 42 of the cache users in database 0:
//
//	redis-cli eval "redis.call('UNLINK', KEYS[1]) return redis.call('PUBLISH', ARGV[1], ARGV[2])" 1 \
//	    'tandem:{users}:k:42' 'tandem:{users}:bus:0' 'tandem/1 inv 5:shell,2:42,'
//
// It answers the number of instances that were told. The package remote documents the keys.
package pubsub
