// Package failstatic takes the parts of a whole installation away, one after the
// other, while clients come and go: nobody may be declared Offline, or moved,
// because a part of Rollcall is down or in doubt, and when the part is back, what
// could not be written is. docs/fail-static.md says what is to be expected.
package failstatic
