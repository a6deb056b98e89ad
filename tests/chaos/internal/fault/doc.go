// Package fault is the list of what the harness breaks, and how each is mended.
package fault
