// Package fleet runs instances of one cache in processes of their own: the test binary, started again.
package fleet
