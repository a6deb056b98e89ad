// Package lineage reads who a Redis server says that it is.
//
// A server's history of writes has a replication id. It changes where the history may have changed: a replica that is
// promoted has a new one (and names the one before), as has a server that starts again, from a snapshot or with nothing.
package lineage

import "strings"

// Server is what INFO replication tells of a server.
type Server struct {
	// ID is its replication id, which a replica shares with its master.
	ID     string
	Master bool
}

// Parse reads the reply of INFO replication; false means that it is not one, as that of a server that does not tell.
func Parse(info string) (Server, bool) {
	s := Server{}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		switch name {
		case "role":
			s.Master = value == "master"
		case "master_replid":
			s.ID = value
		}
	}
	return s, s.ID != "" && strings.Trim(s.ID, "0123456789abcdef") == ""
}
