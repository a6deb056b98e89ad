package proxy

// At is at.
var At = at
