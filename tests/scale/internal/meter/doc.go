// Package meter reads what a redis-server and this process have used.
package meter
