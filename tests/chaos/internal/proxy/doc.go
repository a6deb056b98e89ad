// Package proxy is a TCP proxy in front of one server, which can be made to behave as a network in trouble.
//
// It knows two kinds of connections, those on which a SUBSCRIBE was seen and the others, and two directions; for each of
// the four it can hold bytes back, or delay them. It can reset what is connected and refuse what is not. What it delivers
// is what was sent, in order, once: bytes that are held are delivered when the fault is over, as TCP delivers them when a
// network comes back, unless the connection has been reset by then.
//
// It is here instead of toxiproxy's library because that one has no way to tell a subscription from another connection,
// drops the bytes that a "timeout" toxic has swallowed (so that a connection that survives has a hole in it, which TCP
// never has), and brings an HTTP server, a logger and a metrics client with it. This is some two hundred lines.
package proxy
