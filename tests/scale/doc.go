// Package scale measures what instances cost one another and Redis: many of them at rest, a storm of invalidations, and
// hours of mixed load. See README.md beside this file.
package scale
