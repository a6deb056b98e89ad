//go:build !linux

package faults

// child is an instance in a process of its own, which only the tests for Linux start.
func child() {}
