// Package mutants removes the contract's mechanisms one at a time, and expects a named test to fail without each.
//
// Every mutant is a replacement of text in one file, compiled with go test -overlay, so the tree is never changed. A mutant
// whose text is no longer found fails as well: the list must follow the code. It takes minutes, so it runs only where
// TANDEM_MUTANTS is set, as it is in CI:
//
//	TANDEM_MUTANTS=1 go test ./tests/mutants -v
package mutants
