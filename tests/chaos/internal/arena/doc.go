// Package arena sets up what faults break: servers, a proxy for each instance, instances in this process and in others, the
// source, and the checker that judges what they read.
package arena
