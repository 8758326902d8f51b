package sim

import (
	"math"
	"strconv"
)

// number writes a figure with as many digits as say something.
func number(v float64) string {
	if v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
