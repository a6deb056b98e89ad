// Package chaos breaks things at random and judges every read by the contract, for tandem and for the textbook design,
// which is kept here as a control. See README.md beside this file.
package chaos
