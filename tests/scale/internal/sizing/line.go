package sizing

import "math"

// Line is what something costs that has a fixed part and one that grows.
type Line struct {
	Fixed float64 `json:"fixed"`
	Each  float64 `json:"each"`
	// Off is how far the measured points are from the line at most, as a share of it.
	Off float64 `json:"off"`
}

// At returns the cost for x.
func (l Line) At(x float64) float64 { return l.Fixed + l.Each*x }

// Point is one measurement.
type Point struct{ X, Y float64 }

// Fit returns the line of the least squares, level where there is only one X. Points with a Y that is no number are left out.
func Fit(points []Point) Line {
	var n, sx, sy, sxx, sxy float64
	for _, p := range points {
		if math.IsNaN(p.Y) || math.IsInf(p.Y, 0) {
			continue
		}
		n++
		sx += p.X
		sy += p.Y
		sxx += p.X * p.X
		sxy += p.X * p.Y
	}
	if n == 0 {
		return Line{}
	}
	l := Line{Fixed: sy / n}
	if d := n*sxx - sx*sx; d > 1e-9 {
		l.Each = (n*sxy - sx*sy) / d
		l.Fixed = (sy - l.Each*sx) / n
	}
	for _, p := range points {
		if at := l.At(p.X); at != 0 && !math.IsNaN(p.Y) {
			l.Off = max(l.Off, math.Abs(p.Y-at)/math.Abs(at))
		}
	}
	return l
}
