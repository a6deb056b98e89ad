package sizing

import (
	"encoding/json"
	"fmt"
	"os"
)

// Units are what was measured.
type Units struct {
	// From is the commands that measured them.
	From []string `json:"from"`

	// BeatsPerBound is how many heartbeats an instance sends to each node within MaxStaleness.
	BeatsPerBound float64 `json:"beats_per_bound"`
	// Beat is a node's CPU for one heartbeat, in µs, by how many partitions it has.
	Beat Line `json:"beat_us_by_partitions"`
	// Look is a node's CPU for a look at the number of partitions, in µs. An instance takes one as often as it sends heartbeats, at
	// the one node that has the key.
	Look float64 `json:"look_us"`
	// OwnBeat is the instance's CPU for it, likewise.
	OwnBeat Line `json:"own_beat_us_by_partitions"`
	// In and Out are the bytes of it that the node reads and writes, likewise.
	In  Line `json:"in_bytes_by_partitions"`
	Out Line `json:"out_bytes_by_partitions"`
	// Invalidate is a node's CPU for an Invalidate of one key, in µs, by how many instances there are.
	Invalidate Line `json:"invalidate_us_by_instances"`
	// Memory is what a node's memory grows by for one instance, in bytes, by how many partitions it has.
	Memory Line `json:"memory_bytes_by_partitions"`
	// Connections are those of one instance to one node.
	Connections float64 `json:"connections"`
	// Goroutines and Heap, in bytes, are those of one instance.
	Goroutines Plane `json:"goroutines"`
	Heap       Plane `json:"heap_bytes"`

	// Entry is what an entry takes in a node's memory beside key and value, in bytes.
	Entry float64 `json:"entry_bytes"`
	// Store and Read are a node's CPU for an entry that is stored, and read, among a hundred, in µs.
	Store float64 `json:"store_us"`
	Read  float64 `json:"read_us"`
}

// Load reads Units from a file.
func Load(file string) (Units, error) {
	var u Units
	data, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(data, &u)
	}
	if err != nil {
		return u, fmt.Errorf("sizing: %w", err)
	}
	return u, nil
}

// Save writes them.
func (u Units) Save(file string) error {
	data, err := json.MarshalIndent(u, "", "  ")
	if err == nil {
		err = os.WriteFile(file, append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("sizing: %w", err)
	}
	return nil
}
