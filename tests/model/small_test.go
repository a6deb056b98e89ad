package model

// underRace are the configurations that are explored under the race detector as well.
var underRace = map[string]bool{
	"leases": true, "flights": true, "strays": true, "all": true,
}
