package history

// Steps returns how many acknowledgements of a key are kept.
func Steps(c *Checker, key int) int { return len(c.all[key].steps) }
