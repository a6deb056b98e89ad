// Package design has what the harness compares: tandem, and the textbook design that everyone has first.
package design
