//go:build !race

package tiered

// slowdown is how much slower the race detector makes what tests wait for.
const slowdown = 1
