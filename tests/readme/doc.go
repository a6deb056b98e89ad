// Package readme keeps the README true: its program is compiled, run, and must print what the README says.
package readme
