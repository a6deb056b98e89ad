package sizing

import "math"

// Plane is what something of one instance costs that grows with nodes and with partitions.
type Plane struct {
	Fixed     float64 `json:"fixed"`
	Node      float64 `json:"node"`
	Partition float64 `json:"partition"`
	// Off is as in Line.
	Off float64 `json:"off"`
}

// At returns the cost with so many of each.
func (p Plane) At(nodes, partitions int) float64 {
	return p.Fixed + p.Node*float64(nodes) + p.Partition*float64(partitions)
}

// Sample is one measurement.
type Sample struct {
	Nodes, Partitions int
	Y                 float64
}

// FitPlane returns the plane of the least squares, level where there is only one number of nodes or partitions.
func FitPlane(samples []Sample) Plane {
	var nodes, parts, y float64
	n := float64(len(samples))
	for _, s := range samples {
		nodes, parts, y = nodes+float64(s.Nodes)/n, parts+float64(s.Partitions)/n, y+s.Y/n
	}
	var nn, pp, np, ny, py float64 // sums of products of what differs from the means
	for _, s := range samples {
		a, b, c := float64(s.Nodes)-nodes, float64(s.Partitions)-parts, s.Y-y
		nn, pp, np, ny, py = nn+a*a, pp+b*b, np+a*b, ny+a*c, py+b*c
	}
	var p Plane
	switch d := nn*pp - np*np; {
	case d > 1e-9:
		p.Node, p.Partition = (ny*pp-py*np)/d, (py*nn-ny*np)/d
	case pp > 0:
		p.Partition = py / pp
	case nn > 0:
		p.Node = ny / nn
	}
	p.Fixed = y - p.Node*nodes - p.Partition*parts
	for _, s := range samples {
		at := p.At(s.Nodes, s.Partitions)
		p.Off = max(p.Off, math.Abs(s.Y-at)/math.Abs(at))
	}
	return p
}
